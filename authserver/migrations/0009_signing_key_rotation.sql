-- Signing keys rotate: several rows, each in a slot that is named after its algorithm and number. What the previous
-- version stores in the slot 'active' is an ES256 key that signs from then on; its time is the database's, since that
-- version states none.
ALTER TABLE signing_keys
    ADD COLUMN algorithm  text    NOT NULL DEFAULT 'ES256',
    ADD COLUMN sequence   integer NOT NULL DEFAULT 0,
    ADD COLUMN not_before bigint  NOT NULL DEFAULT (extract(epoch FROM now()) * 1000)::bigint,
    ADD COLUMN retired_at bigint;
