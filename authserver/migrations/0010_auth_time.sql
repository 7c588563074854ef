-- When the user logged in, for `auth_time` of ID tokens; unknown for what earlier versions have granted.
ALTER TABLE grants ADD COLUMN authenticated_at bigint;
