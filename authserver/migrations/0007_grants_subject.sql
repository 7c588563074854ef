-- To find the grants of a user.
CREATE INDEX grants_subject ON grants (subject);
