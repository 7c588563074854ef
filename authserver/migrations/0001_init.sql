-- Times are milliseconds since 1970, taken from the server's clock and never from the database's.
-- Hashes of tokens and secrets are 34 bytes: the pepper's version, then HMAC-SHA-256.
-- A revoked grant is deleted; the foreign keys take everything along that hangs on it, so that no
-- race leaves a token behind.

CREATE TABLE clients (
    client_id    text PRIMARY KEY,
    origin       text   NOT NULL,
    metadata     jsonb  NOT NULL,
    secret_hash  bytea,
    last_used_at bigint NOT NULL
);
CREATE INDEX clients_last_used_at ON clients (last_used_at) WHERE origin = 'dynamic';

CREATE TABLE resources (
    id            text PRIMARY KEY,
    resource      text   NOT NULL UNIQUE,
    name          text   NOT NULL,
    scopes        jsonb  NOT NULL,
    introspectors text[] NOT NULL
);

CREATE TABLE grants (
    id         bytea PRIMARY KEY,
    subject    text,
    client_id  text    NOT NULL REFERENCES clients ON DELETE CASCADE,
    resource   text    NOT NULL REFERENCES resources (resource) ON DELETE CASCADE,
    scopes     text    NOT NULL,
    generation integer NOT NULL,
    rotated_at bigint  NOT NULL,
    siblings   integer NOT NULL,
    expires_at bigint  NOT NULL
);
CREATE INDEX grants_client_id ON grants (client_id);
CREATE INDEX grants_resource ON grants (resource);
CREATE INDEX grants_expires_at ON grants (expires_at);

-- A code's row lives as long as its grant, so that a replay is recognised.
CREATE TABLE authorization_codes (
    hash           bytea PRIMARY KEY,
    grant_id       bytea   NOT NULL REFERENCES grants ON DELETE CASCADE,
    redirect_uri   text    NOT NULL,
    code_challenge text    NOT NULL,
    nonce          text,
    expires_at     bigint  NOT NULL,
    attempts       integer NOT NULL DEFAULT 0,
    used           boolean NOT NULL DEFAULT false
);
CREATE INDEX authorization_codes_grant_id ON authorization_codes (grant_id);

CREATE TABLE refresh_tokens (
    hash       bytea PRIMARY KEY,
    grant_id   bytea   NOT NULL REFERENCES grants ON DELETE CASCADE,
    generation integer NOT NULL,
    expires_at bigint  NOT NULL
);
CREATE INDEX refresh_tokens_grant_id ON refresh_tokens (grant_id);
CREATE INDEX refresh_tokens_expires_at ON refresh_tokens (expires_at);

CREATE TABLE access_tokens (
    hash       bytea PRIMARY KEY,
    grant_id   bytea  NOT NULL REFERENCES grants ON DELETE CASCADE,
    scopes     text   NOT NULL,
    issued_at  bigint NOT NULL,
    expires_at bigint NOT NULL
);
CREATE INDEX access_tokens_grant_id ON access_tokens (grant_id);
CREATE INDEX access_tokens_expires_at ON access_tokens (expires_at);

-- One row; sealed under a key that is derived from the pepper.
CREATE TABLE signing_keys (
    slot   text PRIMARY KEY,
    sealed bytea NOT NULL
);

-- Client assertions seen (RFC 7523): SHA-256 of the client and the jti.
CREATE TABLE assertions (
    key        bytea PRIMARY KEY,
    expires_at bigint NOT NULL
);
CREATE INDEX assertions_expires_at ON assertions (expires_at);

-- Counts of two fixed windows that follow each other; `bucket` is the number of the second one.
-- Not logged: a crash of the database forgets the counts, and only them.
CREATE UNLOGGED TABLE rate_windows (
    key        bytea PRIMARY KEY,
    bucket     bigint NOT NULL,
    current    bigint NOT NULL,
    previous   bigint NOT NULL,
    expires_at bigint NOT NULL
);
CREATE INDEX rate_windows_expires_at ON rate_windows (expires_at);
