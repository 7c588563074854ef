//! The signing keys, sealed.

use mcpauth_service::clock::UnixTime;
use mcpauth_wire::authserver_config::SigningAlgorithm;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::super::StoreError;
use super::{Database, read_time};
use crate::keys::rotation::KeyRecord;

impl Database {
    pub(super) async fn signing_keys(&self) -> Result<Vec<KeyRecord>, StoreError> {
        sqlx::query("SELECT algorithm, sequence, not_before, retired_at, sealed FROM signing_keys")
            .fetch_all(&self.pool)
            .await?
            .iter()
            .filter_map(|row| read(row).transpose())
            .collect()
    }

    pub(super) async fn add_signing_keys(&self, keys: &[KeyRecord]) -> Result<(), StoreError> {
        if keys.is_empty() {
            return Ok(());
        }
        let column = |of: fn(&KeyRecord) -> String| keys.iter().map(of).collect::<Vec<_>>();
        let sealed: Vec<_> = keys.iter().map(|key| key.sealed.as_slice()).collect();
        let sequences: Vec<_> = keys.iter().map(sequence).collect();
        let times: Vec<_> = keys.iter().map(|key| key.not_before.as_millis()).collect();
        // One statement: whoever sees one of the first keys sees them all.
        sqlx::query(
            "INSERT INTO signing_keys (slot, algorithm, sequence, not_before, sealed)
             SELECT * FROM unnest($1::text[], $2::text[], $3::integer[], $4::bigint[], $5::bytea[])
             ON CONFLICT (slot) DO NOTHING",
        )
        .bind(column(KeyRecord::slot))
        .bind(column(|key| key.algorithm.as_str().to_owned()))
        .bind(sequences)
        .bind(times)
        .bind(sealed)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    pub(super) async fn replace_signing_key(
        &self,
        before: &KeyRecord,
        after: &KeyRecord,
    ) -> Result<bool, StoreError> {
        let replaced = sqlx::query(
            "UPDATE signing_keys SET retired_at = $4, sealed = $5
             WHERE slot = $1 AND sealed = $2 AND retired_at IS NOT DISTINCT FROM $3",
        )
        .bind(before.slot())
        .bind(&before.sealed)
        .bind(before.retired_at.map(UnixTime::as_millis))
        .bind(after.retired_at.map(UnixTime::as_millis))
        .bind(&after.sealed)
        .execute(&self.pool)
        .await?;
        Ok(replaced.rows_affected() == 1)
    }

    pub(super) async fn remove_signing_key(&self, key: &KeyRecord) -> Result<(), StoreError> {
        sqlx::query(
            "DELETE FROM signing_keys
             WHERE slot = $1 AND sealed = $2 AND retired_at IS NOT DISTINCT FROM $3",
        )
        .bind(key.slot())
        .bind(&key.sealed)
        .bind(key.retired_at.map(UnixTime::as_millis))
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

fn sequence(key: &KeyRecord) -> i32 {
    i32::try_from(key.sequence).unwrap_or(i32::MAX)
}

/// None for an algorithm that this version does not know.
fn read(row: &PgRow) -> Result<Option<KeyRecord>, StoreError> {
    let Some(algorithm) = SigningAlgorithm::parse(row.try_get("algorithm")?) else {
        return Ok(None);
    };
    let sequence: i32 = row.try_get("sequence")?;
    let retired_at: Option<i64> = row.try_get("retired_at")?;
    Ok(Some(KeyRecord {
        algorithm,
        sequence: u32::try_from(sequence).unwrap_or_default(),
        not_before: read_time(row, "not_before")?,
        retired_at: retired_at.map(UnixTime::from_millis),
        sealed: row.try_get("sealed")?,
    }))
}
