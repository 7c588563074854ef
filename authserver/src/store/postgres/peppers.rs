//! What was hashed and sealed under which version of the pepper. It is the first two bytes, so that what is under others
//! than the current one are two ranges of the primary key, which are empty but while a pepper is replaced.

use std::collections::BTreeMap;

use mcpauth_service::clock::UnixTime;
use sqlx::Row as _;

use super::super::{PepperUse, StoreError};
use super::Database;

/// The rows of a table under other versions. $1 the time, $2 and $3 the first and last hash of the current version.
macro_rules! others {
    ($kind:literal, $column:literal, $rows:literal) => {
        concat!(
            "SELECT '",
            $kind,
            "' AS kind, get_byte(hash, 0) * 256 + get_byte(hash, 1) AS version, count(*) AS count
             FROM (SELECT ",
            $column,
            " AS hash FROM ",
            $rows,
            " AND ",
            $column,
            " < $2
                   UNION ALL
                   SELECT ",
            $column,
            " FROM ",
            $rows,
            " AND ",
            $column,
            " > $3) AS others
             WHERE length(hash) > 1 GROUP BY version"
        )
    };
}

const UNDER_OTHERS: &str = concat!(
    others!("access", "hash", "access_tokens WHERE expires_at > $1"),
    " UNION ALL ",
    others!(
        "refresh",
        "hash",
        "refresh_tokens WHERE expires_at > $1 AND used_at IS NULL"
    ),
    " UNION ALL ",
    others!(
        "code",
        "hash",
        "authorization_codes WHERE expires_at > $1 AND NOT used"
    ),
    " UNION ALL ",
    others!("secret", "secret_hash", "clients WHERE NOT gone"),
    " UNION ALL ",
    others!("key", "sealed", "signing_keys WHERE true"),
);

impl Database {
    pub(super) async fn under_other_peppers(
        &self,
        current: u16,
        now: UnixTime,
    ) -> Result<BTreeMap<u16, PepperUse>, StoreError> {
        let first = current.to_be_bytes().to_vec();
        // Longer than any hash.
        let last = [first.as_slice(), &[0xff; 64]].concat();
        let mut connection = self.background().await?;
        let rows = sqlx::query(UNDER_OTHERS)
            .bind(now.as_millis())
            .bind(first)
            .bind(last)
            .fetch_all(&mut *connection)
            .await?;
        let mut uses = BTreeMap::<u16, PepperUse>::new();
        for row in rows {
            let version = u16::try_from(row.try_get::<i32, _>("version")?);
            let (Ok(version), Ok(count)) =
                (version, u64::try_from(row.try_get::<i64, _>("count")?))
            else {
                continue;
            };
            let uses = uses.entry(version).or_default();
            match row.try_get("kind")? {
                "access" => uses.access_tokens = count,
                "refresh" => uses.refresh_tokens = count,
                "code" => uses.codes = count,
                "secret" => uses.client_secrets = count,
                _ => uses.signing_keys = count,
            }
        }
        Ok(uses)
    }
}
