-- What becomes of a refresh token is marked on it, instead of a generation on its grant. `rotated_at` is the time of the
-- family: when a refresh last changed it. `generation` and `siblings` are for the previous version alone.
ALTER TABLE refresh_tokens
    ADD COLUMN issued_at      bigint,
    ADD COLUMN parent         bytea,
    ADD COLUMN used_at        bigint,
    ADD COLUMN successor_used boolean NOT NULL DEFAULT false,
    ADD COLUMN void           boolean NOT NULL DEFAULT false;

-- The mark of the login in which the user consented.
ALTER TABLE grants ADD COLUMN login text;

-- While the previous version serves beside this one: what it rotates away is used, as it sees it. It fills in no
-- `issued_at`; this one does, and counts no generations, so that the previous one honours all of its tokens.
CREATE FUNCTION mark_refresh_tokens() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    SELECT rotated_at INTO NEW.issued_at FROM grants WHERE id = NEW.grant_id;
    UPDATE refresh_tokens t
        SET used_at = COALESCE(used_at, NEW.issued_at),
            successor_used = successor_used OR generation < NEW.generation - 1
                OR EXISTS (SELECT FROM refresh_tokens s
                           WHERE s.grant_id = NEW.grant_id AND s.parent = t.hash AND s.generation < NEW.generation)
        WHERE grant_id = NEW.grant_id AND generation < NEW.generation;
    NEW.parent := (SELECT hash FROM refresh_tokens
                   WHERE grant_id = NEW.grant_id AND generation = NEW.generation - 1
                   ORDER BY used_at DESC, hash LIMIT 1);
    RETURN NEW;
END $$;
CREATE TRIGGER mark_refresh_tokens BEFORE INSERT ON refresh_tokens
    FOR EACH ROW WHEN (NEW.issued_at IS NULL) EXECUTE FUNCTION mark_refresh_tokens();
