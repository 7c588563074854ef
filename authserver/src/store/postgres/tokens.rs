//! Introspection and revocation of single tokens.

use mcpauth_service::clock::UnixTime;

use super::super::{ActiveToken, Extent, StoreError};
use super::{Database, as_slices};
use crate::keys::pepper::KeyedHash;

impl Database {
    pub(super) async fn introspect(
        &self,
        hashes: &[KeyedHash],
        extent: Extent,
        now: UnixTime,
    ) -> Result<Option<ActiveToken>, StoreError> {
        self.introspection.ask(hashes, extent, now).await
    }

    pub(super) async fn revoke_access_token(
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

    pub(super) async fn revoke_refresh_token(
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
