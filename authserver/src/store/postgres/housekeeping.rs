//! Assertions seen, and the removal of what has expired.

use mcpauth_service::clock::UnixTime;

use super::super::{StoreError, Unused};
use super::sweeps::{BATCH, Sweep};
use super::{Database, clients, resources};

/// Each removes at most a batch, and passes over rows that another replica has locked.
/// $1 now, $2 the batch. Members before grants, which take along what is left of them.
const REMOVE_EXPIRED: [&str; 5] = [
    "DELETE FROM access_tokens WHERE hash = ANY(ARRAY(
         SELECT hash FROM access_tokens WHERE expires_at <= $1
         ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
    "DELETE FROM refresh_tokens WHERE hash = ANY(ARRAY(
         SELECT hash FROM refresh_tokens WHERE expires_at <= $1
         ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
    "DELETE FROM grants WHERE id = ANY(ARRAY(
         SELECT id FROM grants WHERE expires_at <= $1
         ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
    "DELETE FROM assertions WHERE key = ANY(ARRAY(
         SELECT key FROM assertions WHERE expires_at <= $1
         ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
    "DELETE FROM rate_windows WHERE key = ANY(ARRAY(
         SELECT key FROM rate_windows WHERE expires_at <= $1
         ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
];

/// $1 now, $2 the batch, $3 the time before which they were last used.
macro_rules! remove_clients {
    ($used:literal) => {
        concat!(
            "DELETE FROM clients WHERE client_id = ANY(ARRAY(
                 SELECT client_id FROM clients c
                 WHERE origin = 'dynamic' AND ",
            $used,
            " AND last_used_at < $3 AND NOT gone
                   AND NOT EXISTS (SELECT FROM grants g WHERE g.client_id = c.client_id AND g.expires_at > $1)
                 ORDER BY last_used_at LIMIT $2 FOR UPDATE SKIP LOCKED))"
        )
    };
}

const REMOVE_NEVER_USED_CLIENTS: &str = remove_clients!("NOT used");
const REMOVE_IDLE_CLIENTS: &str = remove_clients!("used");

/// All kinds of marks.
const SWEEPS: [&Sweep; 3] = [&resources::SWEEP, &clients::SWEEP, &clients::SWEEP_NARROWED];

impl Database {
    pub(super) async fn remember_assertion(
        &self,
        key: [u8; 32],
        expires_at: UnixTime,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let remembered = sqlx::query(
            "INSERT INTO assertions AS a (key, expires_at) VALUES ($1, $2)
             ON CONFLICT (key) DO UPDATE SET expires_at = EXCLUDED.expires_at
             WHERE a.expires_at <= $3",
        )
        .bind(key)
        .bind(expires_at.as_millis())
        .bind(now.as_millis())
        .execute(&self.pool)
        .await?;
        Ok(remembered.rows_affected() == 1)
    }

    pub(super) async fn remove_expired(
        &self,
        unused: Unused,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let full = u64::from(BATCH);
        let mut connection = self.background().await?;
        let mut more = false;
        for sweep in SWEEPS {
            more |= sweep.step(&mut connection).await? == full;
        }
        for statement in REMOVE_EXPIRED {
            let removed = sqlx::query(statement)
                .bind(now.as_millis())
                .bind(i64::from(BATCH))
                .execute(&mut *connection)
                .await?;
            more |= removed.rows_affected() == full;
        }
        for (statement, since) in [
            (REMOVE_NEVER_USED_CLIENTS, unused.never_used_since),
            (REMOVE_IDLE_CLIENTS, unused.idle_since),
        ] {
            let removed = sqlx::query(statement)
                .bind(now.as_millis())
                .bind(i64::from(BATCH))
                .bind(since.as_millis())
                .execute(&mut *connection)
                .await?;
            more |= removed.rows_affected() == full;
        }
        Ok(more)
    }
}
