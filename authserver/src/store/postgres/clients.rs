//! Clients.

use mcpauth_service::clock::UnixTime;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::super::{NewRegistration, Registered, StoreError, Upsert};
use super::Database;
use super::sweeps::Sweep;
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

pub(super) const SWEEP: Sweep = Sweep {
    grants: "
DELETE FROM grants WHERE id = ANY(ARRAY(
    SELECT g.id FROM clients c JOIN grants g ON g.client_id = c.client_id
    WHERE c.gone LIMIT $1 FOR UPDATE OF g SKIP LOCKED))",
    marks: &["
DELETE FROM clients c
WHERE c.gone AND NOT EXISTS (SELECT FROM grants g WHERE g.client_id = c.client_id)"],
    is_marked: "SELECT EXISTS (SELECT FROM clients WHERE client_id = $1 AND gone)",
};

/// The grants of clients for resources that they no longer name.
pub(super) const SWEEP_NARROWED: Sweep = Sweep {
    grants: "
DELETE FROM grants WHERE id = ANY(ARRAY(
    SELECT g.id FROM clients c JOIN grants g ON g.client_id = c.client_id AND g.resource = ANY(c.narrowed)
    WHERE c.narrowed <> '{}' LIMIT $1 FOR UPDATE OF g SKIP LOCKED))",
    marks: &["
UPDATE clients c SET narrowed = '{}'
WHERE c.narrowed <> '{}'
  AND NOT EXISTS (SELECT FROM grants g WHERE g.client_id = c.client_id AND g.resource = ANY(c.narrowed))"],
    is_marked: "SELECT EXISTS (SELECT FROM clients WHERE client_id = $1 AND narrowed <> '{}')",
};

impl Database {
    /// Beside the outcome: whether grants are to be removed.
    pub(super) async fn upsert_client(
        &self,
        client: &Client,
        now: UnixTime,
    ) -> Result<(Upsert, bool), StoreError> {
        loop {
            let before = match self.client(&client.client_id).await {
                // It is replaced as a whole.
                Err(StoreError::TooNew(_)) => Before::Unknown,
                Ok(None) => Before::Nothing,
                Ok(Some(before)) if before == *client => return Ok((Upsert::Unchanged, false)),
                Ok(Some(before)) => Before::Known(Box::new(before)),
                Err(error) => return Err(error),
            };
            for sweep in [&SWEEP, &SWEEP_NARROWED] {
                self.finish_sweep(sweep, &client.client_id).await?;
            }
            let narrowed = self.no_longer_named(&before, client).await?;
            if self.store_client(client, &narrowed, now).await? {
                let outcome = match before {
                    Before::Nothing => Upsert::Created,
                    Before::Unknown | Before::Known(_) => Upsert::Updated,
                };
                return Ok((outcome, !narrowed.is_empty()));
            }
            // It has been marked meanwhile.
        }
    }

    /// The resources that the client might ask for before, and may not any more.
    async fn no_longer_named(
        &self,
        before: &Before,
        client: &Client,
    ) -> Result<Vec<String>, StoreError> {
        if matches!(before, Before::Nothing) {
            return Ok(Vec::new());
        }
        let resources = sqlx::query_scalar("SELECT resource FROM resources");
        let mut resources: Vec<String> = resources.fetch_all(&self.pool).await?;
        resources.retain(|resource| before.named(resource) && !client.may_ask_for(resource));
        Ok(resources)
    }

    /// False when the stored one is marked.
    async fn store_client(
        &self,
        client: &Client,
        narrowed: &[String],
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let written = sqlx::query(
            "INSERT INTO clients (client_id, origin, metadata, secret_hash, last_used_at, namespace,
                                  registration_token)
             VALUES ($1, $2, $3::jsonb, $4, $5, $6, $7)
             ON CONFLICT (client_id) DO UPDATE SET
                 origin = EXCLUDED.origin,
                 metadata = EXCLUDED.metadata,
                 secret_hash = EXCLUDED.secret_hash,
                 namespace = EXCLUDED.namespace,
                 registration_token = EXCLUDED.registration_token,
                 narrowed = $8
             WHERE NOT clients.gone AND clients.narrowed = '{}'",
        )
        .bind(&client.client_id)
        .bind(client.origin.as_str())
        .bind(to_json(&client.metadata)?)
        .bind(stored(client.secret_hash))
        .bind(now.as_millis())
        .bind(&client.metadata.namespace)
        .bind(stored(client.registration_token))
        .bind(narrowed)
        .execute(&self.pool)
        .await?;
        Ok(written.rows_affected() == 1)
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
}

/// What is stored of a client before it is put.
enum Before {
    Nothing,
    /// A client that only a newer version understands.
    Unknown,
    Known(Box<Client>),
}

impl Before {
    /// Whether the client may have grants for this resource.
    fn named(&self, resource: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Unknown => true,
            Self::Known(client) => client.may_ask_for(resource),
        }
    }
}

fn read_client(row: &PgRow) -> Result<Client, StoreError> {
    let client_id: String = row.try_get("client_id")?;
    let hash = |column| {
        let bytes: Option<&[u8]> = row.try_get(column)?;
        let invalid = || StoreError::Internal(format!("cannot parse {column} of a client"));
        bytes
            .map(|bytes| KeyedHash::from_bytes(bytes).ok_or_else(invalid))
            .transpose()
    };
    let of_client = |error: StoreError| match error {
        StoreError::TooNew(what) => StoreError::TooNew(format!("client {client_id}: {what}")),
        other => other,
    };
    Ok(Client {
        origin: read_origin(row).map_err(of_client)?,
        metadata: from_json(row.try_get("metadata")?).map_err(of_client)?,
        secret_hash: hash("secret_hash")?,
        registration_token: hash("registration_token")?,
        client_id,
    })
}

pub(super) fn read_origin(row: &PgRow) -> Result<ClientOrigin, StoreError> {
    let origin: &str = row.try_get("origin")?;
    ClientOrigin::parse(origin).ok_or_else(|| StoreError::TooNew(format!("the origin {origin}")))
}

fn stored(hash: Option<KeyedHash>) -> Option<Vec<u8>> {
    hash.map(|hash| hash.as_bytes().to_vec())
}

pub(super) fn to_json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Internal(error.to_string()))
}

/// A value that only a newer version knows, of a grant type for example, is [`StoreError::TooNew`].
pub(super) fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| match error.is_data() {
        true => StoreError::TooNew(error.to_string()),
        false => StoreError::Internal(error.to_string()),
    })
}
