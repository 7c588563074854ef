//! Databases with many rows.

use anyhow::Result;

use crate::postgres::Database;

/// How many tokens a grant has, of those that are only there to be many.
const TOKENS_OF_A_GRANT: usize = 10;

/// Adds rows until there are so many access tokens, those among them that are there already: where these lie in the table and
/// its indexes is as likely as any other place.
pub async fn fill_access_tokens(postgres: &Database, name: &str, tokens: usize) -> Result<()> {
    let grants = tokens / TOKENS_OF_A_GRANT;
    let fill = format!(
        "{BEGIN}
         CREATE TEMP TABLE own AS SELECT 1 + (row_number() OVER () - 1) * {tokens} / count(*) OVER () AS place, t.* FROM access_tokens t;
         DELETE FROM access_tokens;
         INSERT INTO grants ({GRANT}) SELECT {grant} FROM generate_series(1, {grants}) n {A_GRANT};
         INSERT INTO access_tokens
             SELECT coalesce(own.hash, {hash}), coalesce(own.grant_id, {id_of_a_grant}),
                    a.scopes, a.rotated_at, a.expires_at + n
             FROM generate_series(1, {tokens}) n LEFT JOIN own ON own.place = n {A_GRANT};
         {END}",
        grant = grant_of("n"),
        hash = hash("access", "n"),
        id_of_a_grant = id(&format!("(n % {grants} + 1)")),
    );
    postgres.sql(name, &fill).await
}

/// Adds so many grants, each with a refresh token and an access token.
pub async fn fill_grants(postgres: &Database, name: &str, grants: usize) -> Result<()> {
    let fill = format!(
        "{BEGIN}
         INSERT INTO grants ({GRANT}) SELECT {grant} FROM generate_series(1, {grants}) n {A_GRANT};
         INSERT INTO refresh_tokens (hash, grant_id, generation, issued_at, expires_at)
             SELECT {refresh}, {id}, 0, a.rotated_at, a.expires_at + n FROM generate_series(1, {grants}) n {A_GRANT};
         INSERT INTO access_tokens
             SELECT {access}, {id}, a.scopes, a.rotated_at, a.expires_at + n FROM generate_series(1, {grants}) n {A_GRANT};
         {END}",
        grant = grant_of("n"),
        refresh = hash("refresh", "n"),
        access = hash("access", "n"),
        id = id("n"),
    );
    postgres.sql(name, &fill).await
}

/// Indexes are made anew afterwards, and nothing is checked row by row: both would take many times as long.
const BEGIN: &str = "
SET synchronous_commit = off;
SET session_replication_role = replica;
SET maintenance_work_mem = '1GB';
CREATE TEMP TABLE definition AS
    SELECT i.indexrelid::regclass::text AS name, pg_get_indexdef(i.indexrelid) AS text
    FROM pg_index i WHERE NOT i.indisprimary AND i.indrelid IN ('access_tokens'::regclass, 'grants'::regclass);
CREATE TEMP TABLE one AS SELECT * FROM grants LIMIT 1;
SELECT format('DROP INDEX %s', name) FROM definition \\gexec
ALTER TABLE access_tokens DROP CONSTRAINT access_tokens_pkey;";

/// Also what would otherwise be done while we measure.
const END: &str = "
ALTER TABLE access_tokens ADD PRIMARY KEY (hash);
SELECT text FROM definition \\gexec
VACUUM ANALYZE;
CHECKPOINT;";

/// A grant whose client and resource all have.
const A_GRANT: &str = "CROSS JOIN one a";
const GRANT: &str =
    "id, subject, client_id, resource, scopes, generation, rotated_at, siblings, expires_at";

fn grant_of(n: &str) -> String {
    format!(
        "{}, 'user-' || {n} % 1000, a.client_id, a.resource, a.scopes, 0, a.rotated_at, 0, a.expires_at + {n}",
        id(n)
    )
}

fn id(n: &str) -> String {
    format!("decode(md5({n}::text), 'hex')")
}

fn hash(kind: &str, n: &str) -> String {
    format!("'\\x0001'::bytea || sha256(convert_to('{kind}' || {n}, 'UTF8'))")
}
