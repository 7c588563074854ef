//! Pools of connections, and which of them can still be trusted.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{Connection as _, Error, Row as _};
use tokio::time::{Instant, timeout};

/// How long a caller waits for a connection before the database counts as unavailable.
pub(super) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a connection that comes back to the pool may take for a ping, after an operation that was
/// given up. The pool's own ping, which follows, would wait until TCP gives up, and the
/// connection's place would be lost until then.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);
/// A connection that was idle for longer is tried before it is used: the database may have been
/// restarted. One in steady use is not; that would be one more round trip.
pub(super) const TRUSTED_IDLE_TIME: Duration = Duration::from_millis(50);
/// How long that may take. Then there is time left for a new connection, perhaps to another server: where a machine is gone,
/// nobody says so.
pub(super) const TRIAL_TIMEOUT: Duration = Duration::from_millis(500);
/// How often all connections are replaced at most, while the database is read-only.
const REPLACED: Duration = Duration::from_secs(5);

/// What every session begins with. `lock_timeout` and `statement_timeout`: a session that waits or computes does not notice
/// that its client has given up, and would pile up in the database. `idle_in_transaction_session_timeout`: that of a client
/// that is gone without a word would keep its locks. The others: and its place.
///
/// The answer is whether the server is a standby.
const BEGIN_SESSION: &str = "
SELECT pg_is_in_recovery(),
       set_config('lock_timeout', '5s', false),
       set_config('statement_timeout', '5s', false),
       set_config('idle_in_transaction_session_timeout', '5s', false),
       set_config('tcp_keepalives_idle', '10', false),
       set_config('tcp_keepalives_interval', '5', false),
       set_config('tcp_keepalives_count', '3', false)";

/// What to do about a server that takes no changes.
pub(super) const POINT_TO_PRIMARY: &str = "point the URL to the primary";

/// When all connections were last given up. Older ones are closed before their next use.
#[derive(Clone, Debug, Default)]
pub(super) struct Generation(Arc<Mutex<Option<Instant>>>);

impl Generation {
    /// Gives up all connections that there are.
    pub(super) fn replace(&self) {
        *self.lock() = Some(Instant::now());
    }

    /// The same, unless they have just been replaced: the server may stay read-only for long.
    pub(super) fn replace_if_old(&self) {
        let mut begin = self.lock();
        if begin.is_none_or(|begin| begin.elapsed() >= REPLACED) {
            *begin = Some(Instant::now());
        }
    }

    /// Whether a connection of this age has not been given up.
    pub(super) fn has(&self, age: Duration) -> bool {
        self.lock().is_none_or(|begin| begin.elapsed() >= age)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which servers a pool connects to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Server {
    /// The primary alone. What a standby answers may be old: a token that has been revoked.
    Primary,
    /// Any, to see which it is.
    Any,
}

/// A pool, whose connections end with the generation.
pub(super) fn pool(
    options: PgConnectOptions,
    max_connections: u32,
    server: Server,
    generation: &Generation,
) -> PgPool {
    let (before, after) = (generation.clone(), generation.clone());
    PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .after_connect(move |connection, _| Box::pin(begin_session(connection, server)))
        .before_acquire(move |connection, meta| {
            let is_good = before.has(meta.age);
            Box::pin(async move {
                if is_good && meta.idle_for > TRUSTED_IDLE_TIME {
                    ping(connection, TRIAL_TIMEOUT).await?;
                }
                Ok(is_good)
            })
        })
        .after_release(move |connection, meta| {
            let is_good = after.has(meta.age);
            Box::pin(async move {
                if is_good {
                    ping(connection, RELEASE_TIMEOUT).await?;
                }
                Ok(is_good)
            })
        })
        .connect_lazy_with(options)
}

async fn begin_session(connection: &mut PgConnection, server: Server) -> Result<(), Error> {
    let begun = sqlx::raw_sql(BEGIN_SESSION).fetch_one(&mut *connection);
    let is_standby: bool = begun.await?.try_get(0)?;
    if is_standby && server == Server::Primary {
        let text = format!("the server is a standby; {POINT_TO_PRIMARY}");
        return Err(Error::Io(std::io::Error::other(text)));
    }
    Ok(())
}

/// Whether the database answers at this connection.
pub(super) async fn ping(connection: &mut PgConnection, within: Duration) -> Result<(), Error> {
    let answered = timeout(within, connection.ping()).await;
    answered.map_err(std::io::Error::from)?
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_new_generation_has_only_new_connections() {
        let generation = Generation::default();
        assert!(generation.has(SECOND * 3600));
        tokio::time::advance(SECOND * 10).await;
        generation.replace();
        tokio::time::advance(SECOND).await;
        assert!(!generation.has(SECOND * 2) && generation.has(SECOND));
        tokio::time::advance(SECOND).await;
        // Not yet again.
        generation.replace_if_old();
        assert!(generation.has(SECOND * 2));
        tokio::time::advance(REPLACED).await;
        generation.replace_if_old();
        assert!(!generation.has(SECOND * 2));
    }
}
