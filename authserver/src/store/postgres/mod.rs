//! The store on PostgreSQL, shared by any number of replicas.
//!
//! Whoever changes a family locks its row in `grants` first, and then its members; who deletes it locks
//! in the same order. Isolation is READ COMMITTED, so that what is read after the lock is up to date.

mod clients;
mod error;
mod grants;
mod housekeeping;
mod introspection;
mod rates;
mod resources;
mod tokens;

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};

use super::StoreError;
use crate::clock::UnixTime;
use crate::keys::pepper::KeyedHash;

/// How long a caller waits for a connection before it is told that the database is away.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long it waits for an operation as a whole. A transaction that is given up is rolled back.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(4);
/// How long a connection that comes back to the pool may take for a ping, after an operation that was
/// given up. The pool's own ping, which follows, would wait until TCP gives up, and meanwhile nobody has
/// the place.
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// A session that waits for a lock does not notice that its client has gone: without this the sessions of
/// operations that were given up would pile up in the database.
const LOCK_TIMEOUT: &str = "SET lock_timeout = '5s'";
/// A connection that was idle for longer is tried before it is used: the database may have been
/// restarted. One in steady use is not; that would be one more round trip.
const TRUSTED_IDLE_TIME: Duration = Duration::from_millis(50);

/// See the module.
#[derive(Debug)]
pub struct PostgresStore {
    pool: PgPool,
    introspection: introspection::Introspection,
}

impl PostgresStore {
    /// A store at this URL (`postgres://USER:PASSWORD@HOST:PORT/DATABASE`, and the parameters of libpq), with
    /// at most so many connections, and four more that only introspection uses.
    /// Connects when it is used. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// `Misconfigured` when the URL is not one.
    pub fn new(url: &str, max_connections: u32) -> Result<Self, StoreError> {
        let options = parse_url(url.trim())?.application_name("mcp-authserver");
        let own = pool(options.clone(), introspection::CONNECTIONS);
        Ok(Self {
            introspection: introspection::Introspection::new(&own),
            pool: pool(options, max_connections),
        })
    }

    /// Creates or updates the tables. Replicas that start together wait for each other (advisory lock).
    /// A database that a newer version has migrated already is fine.
    ///
    /// # Errors
    /// `Unavailable` when the database is away: call again.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let mut migrator = sqlx::migrate!();
        migrator.set_ignore_missing(true);
        // A connection of its own: closing it releases the advisory lock whatever happened.
        let options = self.pool.connect_options();
        let mut connection = tokio::time::timeout(ACQUIRE_TIMEOUT, options.connect())
            .await
            .map_err(|_| StoreError::Unavailable("connecting took too long".into()))??;
        let result = migrator.run(&mut connection).await;
        // The lock is gone with the connection, said goodbye or not.
        let _ = connection.close().await;
        Ok(result?)
    }

    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1 FROM clients LIMIT 1")
            .fetch_optional(&self.pool)
            .await?;
        Ok(())
    }
}

fn pool(options: PgConnectOptions, max_connections: u32) -> PgPool {
    PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .after_connect(|connection, _| {
            Box::pin(async move {
                connection.execute(LOCK_TIMEOUT).await?;
                Ok(())
            })
        })
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                if meta.idle_for > TRUSTED_IDLE_TIME {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .after_release(|connection, _| {
            Box::pin(async move {
                let ping = tokio::time::timeout(PING_TIMEOUT, connection.ping());
                ping.await.map_err(std::io::Error::from)??;
                Ok(true)
            })
        })
        .connect_lazy_with(options)
}

/// Gives an operation up when the database does not answer: a network that swallows packets, a stopped
/// process or a lock that somebody keeps must not use up our connections.
pub(super) async fn within<T>(
    operation: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    tokio::time::timeout(OPERATION_TIMEOUT, operation)
        .await
        .unwrap_or_else(|_| Err(StoreError::Unavailable("it did not answer in time".into())))
}

/// sqlx takes any scheme, and its messages may quote the URL; both are mended here.
fn parse_url(url: &str) -> Result<PgConnectOptions, StoreError> {
    let is_postgres = url.starts_with("postgres://") || url.starts_with("postgresql://");
    PgConnectOptions::from_str(url)
        .ok()
        .filter(|_| is_postgres)
        .ok_or_else(|| {
            StoreError::Misconfigured(
                "its URL is not of the form postgres://USER:PASSWORD@HOST:PORT/DATABASE \
                 (percent-encode special characters in the password)"
                    .into(),
            )
        })
}

fn as_slices(hashes: &[KeyedHash]) -> Vec<&[u8]> {
    hashes
        .iter()
        .map(|hash| hash.as_bytes().as_slice())
        .collect()
}

fn read_time(row: &sqlx::postgres::PgRow, column: &str) -> Result<UnixTime, sqlx::Error> {
    use sqlx::Row as _;
    Ok(UnixTime::from_millis(row.try_get(column)?))
}
