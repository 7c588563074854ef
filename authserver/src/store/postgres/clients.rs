//! Clients.

use mcpauth_service::clock::UnixTime;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};

use super::super::{NewRegistration, Registered, StoreError, Upsert};
use super::Database;
use super::housekeeping::BATCH;
use crate::keys::pepper::KeyedHash;
use crate::oauth::client::{Client, ClientOrigin};

/// Removes the oldest client that was never used, of the network that has most of those. $1 now.
///
/// More networks than one are asked, because the clients of the first can all have live grants, or be locked by who
/// notes their use.
const DISPLACE: &str = "
DELETE FROM clients WHERE client_id = (
    SELECT oldest.client_id
    FROM (SELECT network, clients FROM registration_counts WHERE network <> ''
          ORDER BY clients DESC LIMIT 64) AS n
    CROSS JOIN LATERAL (
        SELECT c.client_id, c.last_used_at FROM clients c
        WHERE c.network = n.network AND c.origin = 'dynamic' AND NOT c.used
          AND NOT EXISTS (SELECT FROM grants g WHERE g.client_id = c.client_id AND g.expires_at > $1)
        ORDER BY c.last_used_at LIMIT 1 FOR UPDATE OF c SKIP LOCKED) AS oldest
    ORDER BY n.clients DESC, oldest.last_used_at LIMIT 1)";

/// Marks a client that goes: no statement takes its tokens for valid from then on. Without metadata, an older version
/// issues nothing to it either. $1 the client.
const MARK_GONE: &str =
    "UPDATE clients SET gone = true, metadata = '{}', secret_hash = NULL, registration_token = NULL
     WHERE client_id = $1";

/// Grants that are locked come next time. $1 the batch.
const SWEEP: &str = "
DELETE FROM grants WHERE id = ANY(ARRAY(
    SELECT g.id FROM clients c JOIN grants g ON g.client_id = c.client_id
    WHERE c.gone LIMIT $1 FOR UPDATE OF g SKIP LOCKED))";

const REMOVE_SWEPT: &str = "
DELETE FROM clients c
WHERE c.gone AND NOT EXISTS (SELECT FROM grants g WHERE g.client_id = c.client_id)";

impl Database {
    pub(super) async fn upsert_client(
        &self,
        client: &Client,
        now: UnixTime,
    ) -> Result<Upsert, StoreError> {
        let before = self.client(&client.client_id).await?;
        if before.as_ref() == Some(client) {
            return Ok(Upsert::Unchanged);
        }
        if before.is_none() {
            self.finish_client(&client.client_id).await?;
        }
        let metadata = to_json(&client.metadata)?;
        let mut transaction = self.begin().await?;
        let written = sqlx::query(
            "INSERT INTO clients (client_id, origin, metadata, secret_hash, last_used_at, namespace,
                                  registration_token)
             VALUES ($1, $2, $3::jsonb, $4, $5, $6, $7)
             ON CONFLICT (client_id) DO UPDATE SET
                 origin = EXCLUDED.origin,
                 metadata = EXCLUDED.metadata,
                 secret_hash = EXCLUDED.secret_hash,
                 namespace = EXCLUDED.namespace,
                 registration_token = EXCLUDED.registration_token
             WHERE NOT clients.gone",
        )
        .bind(&client.client_id)
        .bind(client.origin.as_str())
        .bind(metadata)
        .bind(stored(client.secret_hash))
        .bind(now.as_millis())
        .bind(&client.metadata.namespace)
        .bind(stored(client.registration_token))
        .execute(&mut *transaction)
        .await?;
        if written.rows_affected() == 0 {
            let text = "the client is being deleted; try again";
            return Err(StoreError::Unavailable(text.into()));
        }
        if before.is_some() {
            revoke_what_is_not_named(&mut transaction, client).await?;
        }
        transaction.commit().await?;
        Ok(match before {
            None => Upsert::Created,
            Some(_) => Upsert::Updated,
        })
    }

    pub(super) async fn client(&self, client_id: &str) -> Result<Option<Client>, StoreError> {
        sqlx::query(
            "SELECT client_id, origin, metadata::text, secret_hash, registration_token FROM clients
             WHERE client_id = $1 AND NOT gone",
        )
        .bind(client_id)
        .fetch_optional(&self.pool)
        .await?
        .map(|row| read_client(&row))
        .transpose()
    }

    pub(super) async fn register_client(
        &self,
        registration: &NewRegistration<'_>,
        now: UnixTime,
    ) -> Result<Registered, StoreError> {
        let client = registration.client;
        let metadata = to_json(&client.metadata)?;
        let mut transaction = self.begin().await?;
        // One after the other, at all replicas.
        let clients: i64 = sqlx::query_scalar(
            "SELECT clients FROM registration_counts WHERE network = '' FOR UPDATE",
        )
        .fetch_one(&mut *transaction)
        .await?;
        if clients >= i64::from(registration.max_clients) {
            let displaced = sqlx::query(DISPLACE)
                .bind(now.as_millis())
                .execute(&mut *transaction)
                .await?;
            if displaced.rows_affected() == 0 {
                return Ok(Registered::Full);
            }
        }
        sqlx::query(
            "INSERT INTO clients (client_id, origin, metadata, secret_hash, last_used_at, network, used,
                                  registration_token)
             VALUES ($1, $2, $3::jsonb, $4, $5, $6, false, $7)",
        )
        .bind(&client.client_id)
        .bind(client.origin.as_str())
        .bind(metadata)
        .bind(stored(client.secret_hash))
        .bind(now.as_millis())
        .bind(registration.network.to_string())
        .bind(stored(client.registration_token))
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(Registered::Created)
    }

    pub(super) async fn update_registration(&self, client: &Client) -> Result<bool, StoreError> {
        let updated = sqlx::query(
            "UPDATE clients SET metadata = $2::jsonb, secret_hash = $3, registration_token = $4
             WHERE client_id = $1 AND origin = 'dynamic' AND NOT gone",
        )
        .bind(&client.client_id)
        .bind(to_json(&client.metadata)?)
        .bind(stored(client.secret_hash))
        .bind(stored(client.registration_token))
        .execute(&self.pool)
        .await?;
        Ok(updated.rows_affected() == 1)
    }

    pub(super) async fn touch_client(
        &self,
        client_id: &str,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE clients SET last_used_at = GREATEST(last_used_at, $2), used = true
             WHERE client_id = $1 AND (NOT used OR last_used_at < $2 - 3600000)",
        )
        .bind(client_id)
        .bind(now.as_millis())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    pub(super) async fn replace_secret_hash(
        &self,
        client_id: &str,
        before: &KeyedHash,
        after: &KeyedHash,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE clients SET secret_hash = $3 WHERE client_id = $1 AND secret_hash = $2",
        )
        .bind(client_id)
        .bind(before.as_bytes())
        .bind(after.as_bytes())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    pub(super) async fn mark_client_gone(&self, client_id: &str) -> Result<(), StoreError> {
        sqlx::query(MARK_GONE)
            .bind(client_id)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Removes a batch of the grants of clients that go, and the clients with the last. True when there may be more.
    pub(super) async fn sweep_clients(&self) -> Result<bool, StoreError> {
        let removed = sqlx::query(SWEEP)
            .bind(i64::from(BATCH))
            .execute(&self.pool)
            .await?;
        if removed.rows_affected() == u64::from(BATCH) {
            return Ok(true);
        }
        sqlx::query(REMOVE_SWEPT).execute(&self.pool).await?;
        Ok(false)
    }

    /// Ends a client of this id that goes: one that comes back does not get back what it had. What takes too long is
    /// given up, and goes on from there when it is tried again.
    async fn finish_client(&self, client_id: &str) -> Result<(), StoreError> {
        let is_marked = "SELECT EXISTS (SELECT FROM clients WHERE client_id = $1 AND gone)";
        while sqlx::query_scalar(is_marked)
            .bind(client_id)
            .fetch_one(&self.pool)
            .await?
        {
            self.sweep_clients().await?;
        }
        Ok(())
    }
}

/// Removes the client's grants for resources that it may no longer ask for.
async fn revoke_what_is_not_named(
    connection: &mut PgConnection,
    client: &Client,
) -> Result<(), StoreError> {
    let mut resources: Vec<String> =
        sqlx::query_scalar("SELECT DISTINCT resource FROM grants WHERE client_id = $1")
            .bind(&client.client_id)
            .fetch_all(&mut *connection)
            .await?;
    resources.retain(|resource| !client.may_ask_for(resource));
    if !resources.is_empty() {
        sqlx::query("DELETE FROM grants WHERE client_id = $1 AND resource = ANY($2)")
            .bind(&client.client_id)
            .bind(resources)
            .execute(connection)
            .await?;
    }
    Ok(())
}

fn read_client(row: &PgRow) -> Result<Client, StoreError> {
    let origin: &str = row.try_get("origin")?;
    let invalid = |column| StoreError::Internal(format!("cannot parse {column} of a client"));
    let hash = |column| {
        let bytes: Option<&[u8]> = row.try_get(column)?;
        let parse = |bytes| KeyedHash::from_bytes(bytes).ok_or_else(|| invalid(column));
        bytes.map(parse).transpose()
    };
    Ok(Client {
        client_id: row.try_get("client_id")?,
        origin: ClientOrigin::parse(origin).ok_or_else(|| invalid("origin"))?,
        metadata: from_json(row.try_get("metadata")?)?,
        secret_hash: hash("secret_hash")?,
        registration_token: hash("registration_token")?,
    })
}

fn stored(hash: Option<KeyedHash>) -> Option<Vec<u8>> {
    hash.map(|hash| hash.as_bytes().to_vec())
}

pub(super) fn to_json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Internal(error.to_string()))
}

pub(super) fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Internal(error.to_string()))
}
