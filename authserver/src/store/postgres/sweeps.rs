//! What very many grants hang on is marked first, in one row: no statement takes them for valid from then on. They follow in
//! batches, and the mark goes with the last.

use std::time::Duration;

use sqlx::PgConnection;

use super::super::StoreError;
use super::Database;

/// How many rows a statement removes at most.
pub(super) const BATCH: u16 = 1000;

/// Before the next look at grants that somebody has locked.
const PAUSE: Duration = Duration::from_millis(50);

/// One kind of marks.
pub(super) struct Sweep {
    /// Removes a batch of grants that are marked. Those that are locked come next time. $1 the batch.
    pub(super) grants: &'static str,
    /// Remove the marks without grants.
    pub(super) marks: &'static [&'static str],
    /// Whether what has this key is marked. $1 the key.
    pub(super) is_marked: &'static str,
}

impl Sweep {
    /// Removes a batch, and the marks with the last. How many it has removed.
    pub(super) async fn step(&self, connection: &mut PgConnection) -> Result<u64, StoreError> {
        let removed = sqlx::query(self.grants)
            .bind(i64::from(BATCH))
            .execute(&mut *connection)
            .await?
            .rows_affected();
        if removed < u64::from(BATCH) {
            for statement in self.marks {
                sqlx::query(*statement).execute(&mut *connection).await?;
            }
        }
        Ok(removed)
    }
}

impl Database {
    /// Removes the first batch of what has just been marked. None of it is valid any more: what this does not get to,
    /// housekeeping does.
    pub(super) async fn begin_sweep(&self, sweep: &Sweep) {
        let step = async {
            let mut connection = self.pool.acquire().await?;
            sweep.step(&mut connection).await
        };
        if let Err(error) = self.within(step).await {
            tracing::warn!(%error, "cannot remove revoked grants yet; retrying");
        }
    }

    /// Removes all that is marked under this key: what comes back does not get back what it had. What takes too long is given
    /// up, and goes on from there when it is tried again.
    pub(super) async fn finish_sweep(&self, sweep: &Sweep, key: &str) -> Result<(), StoreError> {
        loop {
            let mut connection = self.pool.acquire().await?;
            let is_marked = sqlx::query_scalar(sweep.is_marked).bind(key);
            if !is_marked.fetch_one(&mut *connection).await? {
                return Ok(());
            }
            let removed = sweep.step(&mut connection).await?;
            drop(connection);
            if removed == 0 {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
