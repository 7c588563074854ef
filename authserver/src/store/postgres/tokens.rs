//! Introspection and revocation of single tokens.

use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::super::{ActiveToken, StoreError};
use super::grants::{read_grant_id, read_hash, read_scopes};
use super::{PostgresStore, as_slices, read_time};
use crate::clock::UnixTime;
use crate::pepper::KeyedHash;

impl PostgresStore {
    pub(in super::super) async fn introspect(
        &self,
        hashes: &[KeyedHash],
        now: UnixTime,
    ) -> Result<Option<ActiveToken>, StoreError> {
        sqlx::query(
            "SELECT t.hash, t.grant_id, t.scopes, t.issued_at, t.expires_at,
                    g.client_id, g.subject, g.resource, r.introspectors
             FROM access_tokens t
             JOIN grants g ON g.id = t.grant_id
             JOIN resources r ON r.resource = g.resource
             WHERE t.hash = ANY($1) AND t.expires_at > $2",
        )
        .bind(as_slices(hashes))
        .bind(now.as_millis())
        .fetch_optional(&self.pool)
        .await?
        .map(|row| read_active_token(&row))
        .transpose()
    }

    pub(in super::super) async fn revoke_access_token(
        &self,
        hashes: &[KeyedHash],
        client_id: &str,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "DELETE FROM access_tokens t USING grants g
             WHERE t.hash = ANY($1) AND g.id = t.grant_id AND g.client_id = $2",
        )
        .bind(as_slices(hashes))
        .bind(client_id)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    pub(in super::super) async fn revoke_refresh_token(
        &self,
        hashes: &[KeyedHash],
        client_id: &str,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "DELETE FROM grants
             WHERE id = (SELECT grant_id FROM refresh_tokens WHERE hash = ANY($1))
               AND client_id = $2",
        )
        .bind(as_slices(hashes))
        .bind(client_id)
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

fn read_active_token(row: &PgRow) -> Result<ActiveToken, StoreError> {
    Ok(ActiveToken {
        grant_id: read_grant_id(row, "grant_id")?,
        client_id: row.try_get("client_id")?,
        subject: row.try_get("subject")?,
        resource: row.try_get("resource")?,
        scopes: read_scopes(row)?,
        issued_at: read_time(row, "issued_at")?,
        expires_at: read_time(row, "expires_at")?,
        introspectors: row.try_get("introspectors")?,
        token_id: read_hash(row)?.public_id(),
    })
}
