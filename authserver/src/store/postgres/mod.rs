//! The store on PostgreSQL, shared by any number of replicas.
//!
//! Whoever changes a family locks its row in `grants` first, and then its members; who deletes it locks
//! in the same order. Isolation is READ COMMITTED, so that what is read after the lock is up to date.

/// Whether the client `c` is still there and names the resource `r`, which admits it, as [`AllowedClients::admit`] has it.
/// Nobody of an origin that only a newer version knows.
///
/// [`AllowedClients::admit`]: crate::oauth::admission::AllowedClients::admit
macro_rules! is_admitted {
    () => {
        "NOT c.gone AND r.resource <> ALL(c.narrowed) AND CASE c.origin
              WHEN 'dynamic' THEN r.self_registered
              WHEN 'config' THEN r.all_namespaces OR c.namespace = ANY(r.namespaces)
              WHEN 'declared' THEN r.all_namespaces OR c.namespace = ANY(r.namespaces)
              ELSE false END"
    };
}

/// Whether the resource of a grant still admits its client.
macro_rules! grant_is_admitted {
    () => {
        concat!(
            " AND EXISTS (SELECT FROM clients c, resources r
                          WHERE c.client_id = grants.client_id AND r.resource = grants.resource AND ",
            is_admitted!(),
            ") "
        )
    };
}

// Never `*`: a column that a newer version adds would change the type of a prepared statement, and
// Postgres then refuses it to the older version.
macro_rules! select_grant {
    ($condition:literal, $lock:literal) => {
        concat!(
            "SELECT id, subject, client_id, resource, scopes, login, authenticated_at, rotated_at,
                    expires_at
             FROM grants ",
            $condition,
            grant_is_admitted!(),
            $lock
        )
    };
}

mod clients;
mod connections;
mod error;
mod grants;
mod housekeeping;
mod introspection;
mod kept;
mod peppers;
mod rates;
mod refresh;
mod resources;
mod signing_keys;
mod sweeps;
mod tokens;

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr as _;
use std::time::Duration;

use async_trait::async_trait;
use mcpauth_service::clock::UnixTime;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPool, PgSslMode};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, Postgres, Row as _, Transaction};

use super::{
    ActiveToken, CodeRedemption, Extent, NewRegistration, PepperUse, Refresh, Refreshed,
    Registered, Store, StoreError, Unused, Upsert, digest,
};
use crate::issue::{Issued, Minter};
use crate::keys::pepper::KeyedHash;
use crate::keys::rotation::KeyRecord;
use crate::oauth::client::Client;
use crate::oauth::code::NewCode;
use crate::oauth::grant::{Grant, GrantId, NewGrant, Refusal};
use crate::oauth::rate_limit::{Decision, RateLimit};
use crate::oauth::resource::Resource;
use connections::{ACQUIRE_TIMEOUT, Generation, POINT_TO_PRIMARY, Server};

/// Timeout of an operation as a whole. A transaction that times out is rolled back.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(4);
/// Timeout of what no request waits for. Given up early it would begin anew each time; never given up, a database that is gone
/// without a word would be waited for without end.
const BACKGROUND_TIMEOUT: Duration = Duration::from_mins(15);

/// In a database, for any number of replicas.
#[derive(Debug)]
pub struct PostgresStore(Database);

/// The connections. Its operations have no timeout; the store adds one.
#[derive(Debug)]
struct Database {
    pool: PgPool,
    /// Readiness has a connection of its own: a flood at the public port must not take the pod out of its Services.
    readiness: PgPool,
    introspection: introspection::Introspection,
    generation: Generation,
}

impl PostgresStore {
    /// A store at this URL (`postgres://USER:PASSWORD@HOST:PORT/DATABASE`, and the parameters of libpq), with
    /// at most so many connections, and five more: four for introspection, one for [`Store::ping`].
    /// Connects when it is used. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// `Misconfigured` when the URL is not one.
    pub fn new(url: &str, max_connections: u32) -> Result<Self, StoreError> {
        Self::with_ca(url, None, max_connections)
    }

    /// As [`Self::new`]. With the file of a CA, connections are encrypted and the server's certificate and host name
    /// are verified, regardless of the URL. The file is read for each connection, so that a new CA needs no restart.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_ca(
        url: &str,
        ca_file: Option<&Path>,
        max_connections: u32,
    ) -> Result<Self, StoreError> {
        let mut options = parse_url(url.trim())?.application_name("mcp-authserver");
        if let Some(file) = ca_file {
            options = options.ssl_mode(PgSslMode::VerifyFull).ssl_root_cert(file);
        }
        let generation = Generation::default();
        let pool = |max_connections, server| {
            connections::pool(options.clone(), max_connections, server, &generation)
        };
        let own = pool(introspection::CONNECTIONS, Server::Primary);
        Ok(Self(Database {
            introspection: introspection::Introspection::new(own, &generation),
            pool: pool(max_connections, Server::Primary),
            readiness: pool(1, Server::Any),
            generation,
        }))
    }

    /// The connections that operations share.
    pub fn connections(&self) -> PgPool {
        self.0.pool.clone()
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
        let options = self.0.pool.connect_options();
        let mut connection = tokio::time::timeout(ACQUIRE_TIMEOUT, options.connect())
            .await
            .map_err(|_| StoreError::Unavailable("timed out while connecting".into()))??;
        let result = migrator.run(&mut connection).await;
        // Closing may fail; the lock is released with the connection in any case.
        let _ = connection.close().await;
        Ok(result?)
    }
}

impl Database {
    /// Begins a transaction in a task of its own. sqlx 0.9 does not roll back what is dropped while `BEGIN` is under way: a client
    /// that disconnects would leave the connection in a transaction, in which the statements of others are never
    /// committed, and whose locks nobody releases (sqlx issue 4393).
    async fn begin(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        let (pool, generation) = (self.pool.clone(), self.generation.clone());
        let begun = tokio::spawn(async move {
            let mut begin = std::pin::pin!(pool.begin());
            let begun = tokio::time::timeout(OPERATION_TIMEOUT, begin.as_mut()).await;
            // `BEGIN` waits for nobody: the database hangs. Nor may this connection be used again, see above.
            begun.unwrap_or_else(|_| {
                generation.replace();
                Err(sqlx::Error::PoolTimedOut)
            })
        });
        let begun = begun.await;
        Ok(begun.map_err(|error| StoreError::Unavailable(error.to_string()))??)
    }

    /// A connection for what no request waits for: its statements may take longer. It is closed afterwards.
    async fn background(&self) -> Result<PoolConnection<Postgres>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        connection.close_on_drop();
        connection.execute("SET statement_timeout = 0").await?;
        Ok(connection)
    }

    async fn within<T>(
        &self,
        operation: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.within_time(OPERATION_TIMEOUT, operation).await
    }

    async fn within_time<T>(
        &self,
        time: Duration,
        operation: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let done = within(time, operation).await;
        if matches!(done, Err(StoreError::ReadOnly(_))) {
            // Perhaps it was the primary when we connected, and another one is now.
            self.generation.replace_if_old();
        }
        done
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let query = "SELECT pg_is_in_recovery(), (SELECT 1 FROM clients LIMIT 1)";
        let row = sqlx::query(query).fetch_one(&self.readiness).await?;
        let is_standby: bool = row.try_get(0)?;
        match is_standby {
            true => Err(StoreError::ReadOnly(format!(
                "it is a standby; {POINT_TO_PRIMARY}"
            ))),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn ping(&self) -> Result<(), StoreError> {
        self.0.within(self.0.ping()).await
    }

    async fn upsert_client(&self, client: &Client, now: UnixTime) -> Result<Upsert, StoreError> {
        let (outcome, is_marked) = self.0.within(self.0.upsert_client(client, now)).await?;
        if is_marked {
            self.0.begin_sweep(&clients::SWEEP_NARROWED).await;
        }
        Ok(outcome)
    }

    async fn client(&self, client_id: &str) -> Result<Option<Client>, StoreError> {
        self.0.within(self.0.client(client_id)).await
    }

    async fn register_client(
        &self,
        registration: &NewRegistration<'_>,
        now: UnixTime,
    ) -> Result<Registered, StoreError> {
        self.0
            .within(self.0.register_client(registration, now))
            .await
    }

    async fn update_registration(&self, client: &Client) -> Result<bool, StoreError> {
        self.0.within(self.0.update_registration(client)).await
    }

    async fn touch_client(&self, client_id: &str, now: UnixTime) -> Result<(), StoreError> {
        self.0.within(self.0.touch_client(client_id, now)).await
    }

    async fn replace_secret_hash(
        &self,
        client_id: &str,
        before: &KeyedHash,
        after: &KeyedHash,
    ) -> Result<(), StoreError> {
        self.0
            .within(self.0.replace_secret_hash(client_id, before, after))
            .await
    }

    async fn delete_client(&self, client_id: &str) -> Result<(), StoreError> {
        self.0.within(self.0.mark_client_gone(client_id)).await?;
        self.0.begin_sweep(&clients::SWEEP).await;
        Ok(())
    }

    async fn upsert_resource(&self, resource: &Resource) -> Result<Upsert, StoreError> {
        let (outcome, is_marked) = self.0.within(self.0.upsert_resource(resource)).await?;
        if is_marked {
            self.0.begin_sweep(&resources::SWEEP).await;
        }
        Ok(outcome)
    }

    async fn resource(&self, id: &str) -> Result<Option<Resource>, StoreError> {
        self.0.within(self.0.resource(id)).await
    }

    async fn resources(&self) -> Result<Vec<Resource>, StoreError> {
        self.0.within(self.0.resources()).await
    }

    async fn delete_resource(&self, id: &str) -> Result<(), StoreError> {
        self.0.within(self.0.mark_resource_gone(id)).await?;
        self.0.begin_sweep(&resources::SWEEP).await;
        Ok(())
    }

    async fn create_authorization(
        &self,
        grant: NewGrant,
        code: &NewCode,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        self.0
            .within(self.0.create_authorization(grant, code, now))
            .await
    }

    async fn redeem_code(
        &self,
        redemption: &CodeRedemption<'_>,
        now: UnixTime,
    ) -> Result<Result<Issued, Refusal>, StoreError> {
        let (transaction, outcome) = self.0.within(self.0.redeem_code(redemption, now)).await?;
        let Some(transaction) = transaction else {
            return Ok(outcome);
        };
        let committed = self
            .0
            .within(async { Ok(transaction.commit().await?) })
            .await;
        match (committed, &outcome) {
            (Err(error), Ok(_)) => Err(StoreError::Unconfirmed(error.to_string())),
            (committed, _) => committed.map(|()| outcome),
        }
    }

    async fn refresh(
        &self,
        refresh: &Refresh<'_>,
        now: UnixTime,
    ) -> Result<Result<Refreshed, Refusal>, StoreError> {
        self.0.within(self.0.refresh(refresh, now)).await
    }

    async fn grant_of(
        &self,
        hashes: &[KeyedHash],
        now: UnixTime,
    ) -> Result<Option<Grant>, StoreError> {
        self.0.within(self.0.grant_of(hashes, now)).await
    }

    async fn issue_access_token(
        &self,
        grant: NewGrant,
        minter: Minter<'_>,
        now: UnixTime,
    ) -> Result<Issued, StoreError> {
        self.0
            .within(self.0.issue_access_token(grant, minter, now))
            .await
    }

    async fn introspect(
        &self,
        hashes: &[KeyedHash],
        extent: Extent,
        now: UnixTime,
    ) -> Result<Option<ActiveToken>, StoreError> {
        self.0.within(self.0.introspect(hashes, extent, now)).await
    }

    async fn revoke_access_token(
        &self,
        hashes: &[KeyedHash],
        client_id: &str,
    ) -> Result<(), StoreError> {
        self.0
            .within(self.0.revoke_access_token(hashes, client_id))
            .await
    }

    async fn revoke_refresh_token(
        &self,
        hashes: &[KeyedHash],
        client_id: &str,
    ) -> Result<(), StoreError> {
        self.0
            .within(self.0.revoke_refresh_token(hashes, client_id))
            .await
    }

    async fn revoke_grant(&self, id: GrantId) -> Result<(), StoreError> {
        self.0.within(self.0.revoke_grant(id)).await
    }

    async fn revoke_user(&self, subject: &str) -> Result<(), StoreError> {
        self.0.within(self.0.revoke_user(subject)).await
    }

    async fn signing_keys(&self) -> Result<Vec<KeyRecord>, StoreError> {
        self.0.within(self.0.signing_keys()).await
    }

    async fn add_signing_keys(&self, keys: &[KeyRecord]) -> Result<(), StoreError> {
        self.0.within(self.0.add_signing_keys(keys)).await
    }

    async fn replace_signing_key(
        &self,
        before: &KeyRecord,
        after: &KeyRecord,
    ) -> Result<bool, StoreError> {
        self.0
            .within(self.0.replace_signing_key(before, after))
            .await
    }

    async fn remove_signing_key(&self, key: &KeyRecord) -> Result<(), StoreError> {
        self.0.within(self.0.remove_signing_key(key)).await
    }

    async fn under_other_peppers(
        &self,
        current: u16,
        now: UnixTime,
    ) -> Result<BTreeMap<u16, PepperUse>, StoreError> {
        let counted = self.0.under_other_peppers(current, now);
        self.0.within_time(BACKGROUND_TIMEOUT, counted).await
    }

    async fn remember_assertion(
        &self,
        client_id: &str,
        jti: &str,
        expires_at: UnixTime,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let key = digest(&[client_id, jti]);
        self.0
            .within(self.0.remember_assertion(key, expires_at, now))
            .await
    }

    async fn hit(
        &self,
        rule: &str,
        subject: &str,
        limit: RateLimit,
        now: UnixTime,
    ) -> Result<Decision, StoreError> {
        let key = digest(&[rule, subject]);
        self.0.within(self.0.hit(key, limit, now)).await
    }

    async fn has_hits(&self, rule: &str, subject: &str, now: UnixTime) -> Result<bool, StoreError> {
        self.0
            .within(self.0.has_hits(digest(&[rule, subject]), now))
            .await
    }

    async fn remove_expired(&self, unused: Unused, now: UnixTime) -> Result<bool, StoreError> {
        let removed = self.0.remove_expired(unused, now);
        self.0.within_time(BACKGROUND_TIMEOUT, removed).await
    }
}

/// Gives an operation up when the database does not answer: a network that swallows packets, a stopped
/// process or a lock that somebody keeps must not use up our connections.
async fn within<T>(
    time: Duration,
    operation: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    tokio::time::timeout(time, operation)
        .await
        .unwrap_or_else(|_| Err(StoreError::Unavailable("it did not respond in time".into())))
}

/// sqlx takes any scheme, and its messages may quote the URL: neither happens here.
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
    Ok(UnixTime::from_millis(row.try_get(column)?))
}
