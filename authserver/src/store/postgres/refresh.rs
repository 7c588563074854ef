//! Refreshing. Which tokens a family keeps is `refresh.rs`'s rule; it stands here once more in SQL, and the
//! conformance suite holds the two together.

use std::time::Duration;

use mcpauth_service::clock::UnixTime;
use sqlx::{PgConnection, Row as _};

use super::super::{Refresh, Refreshed, StoreError};
use super::grants::{delete_grant, insert_tokens, lock_grant, read_hash, update_grant};
use super::{Database, as_slices, read_time};
use crate::keys::pepper::KeyedHash;
use crate::oauth::grant::{Grant, Refusal};
use crate::oauth::refresh::{
    MAX_UNUSED, MAX_USED, Mark, RefreshKind, RefreshToken, RefreshVerdict,
};

/// $1 the token, $2 its parent, $3 the time, $4 its hash under the current pepper. It has no successors yet, which would
/// name it by its hash.
const MARK_USED: &str = "
WITH parent AS (UPDATE refresh_tokens SET successor_used = true WHERE hash = $2)
UPDATE refresh_tokens SET used_at = $3, hash = $4 WHERE hash = $1";

/// $1 the token, $2 its grant, $3 the time.
const MARK_VOID: &str = "
UPDATE refresh_tokens SET void = true, used_at = $3
WHERE grant_id = $2 AND (hash = $1 OR parent = $1)";

/// $1 the grant, $2 and $3 how many unused and used ones are kept, $4 the beginning of the grace period.
const REMOVE_SURPLUS: &str = "
DELETE FROM refresh_tokens WHERE hash IN (
    (SELECT hash FROM refresh_tokens WHERE grant_id = $1 AND used_at IS NULL
     ORDER BY issued_at DESC OFFSET $2)
    UNION ALL
    SELECT hash FROM (
        SELECT hash, used_at FROM refresh_tokens WHERE grant_id = $1 AND used_at IS NOT NULL
        ORDER BY used_at DESC, issued_at DESC OFFSET $3) AS used
    WHERE used_at <= $4)";

impl Database {
    pub(super) async fn refresh(
        &self,
        refresh: &Refresh<'_>,
        now: UnixTime,
    ) -> Result<Result<Refreshed, Refusal>, StoreError> {
        let mut transaction = self.begin().await?;
        let Some((mut grant, hash, token)) = lock(&mut transaction, refresh.hashes).await? else {
            return Ok(Err(Refusal::Unknown));
        };
        let kind = match token.refresh(&grant, &refresh.attempt, now) {
            RefreshVerdict::Grant(kind) => kind,
            RefreshVerdict::Refuse(refusal) => return Ok(Err(refusal)),
            RefreshVerdict::Revoke => {
                delete_grant(&mut *transaction, grant.id).await?;
                transaction.commit().await?;
                return Ok(Err(Refusal::Reused));
            }
        };
        grant.changed_at = grant.time(now);
        let scopes = refresh.attempt.scopes;
        let issued = refresh.minter.issue(&grant, scopes, None, now)?;
        update_grant(&mut transaction, &grant).await?;
        let hash = match (kind, refresh.hashes.first()) {
            (RefreshKind::Rotation, Some(current)) => {
                mark_used(&mut transaction, &hash, current, &token, &grant).await?;
                *current
            }
            (RefreshKind::LostResponse, _) => {
                mark_void(&mut transaction, &hash, &grant).await?;
                hash
            }
            _ => hash,
        };
        insert_tokens(&mut transaction, &issued, Some(&hash), now).await?;
        remove_surplus(&mut transaction, &grant, refresh.attempt.grace).await?;
        transaction.commit().await?;
        Ok(Ok(Refreshed { issued, kind }))
    }
}

async fn lock(
    connection: &mut PgConnection,
    hashes: &[KeyedHash],
) -> Result<Option<(Grant, KeyedHash, RefreshToken)>, StoreError> {
    let locking = select_grant!(
        "WHERE id = (SELECT grant_id FROM refresh_tokens WHERE hash = ANY($1))",
        "FOR UPDATE OF grants"
    );
    let Some(grant) = lock_grant(connection, locking, hashes).await? else {
        return Ok(None);
    };
    // Read now that the grant is locked: whoever held the lock may have used the token. Expired tokens are removed
    // without the lock.
    let row = sqlx::query(
        "SELECT hash, parent, issued_at, expires_at, used_at, successor_used, void
         FROM refresh_tokens WHERE hash = ANY($1)",
    )
    .bind(as_slices(hashes))
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let parent: Option<&[u8]> = row.try_get("parent")?;
    let token = RefreshToken {
        parent: parent.and_then(KeyedHash::from_bytes),
        issued_at: read_time(&row, "issued_at")?,
        expires_at: read_time(&row, "expires_at")?,
        mark: read_mark(&row)?,
    };
    Ok(Some((grant, read_hash(&row)?, token)))
}

fn read_mark(row: &sqlx::postgres::PgRow) -> Result<Mark, StoreError> {
    let used_at: Option<i64> = row.try_get("used_at")?;
    let Some(at) = used_at.map(UnixTime::from_millis) else {
        return Ok(Mark::Unused);
    };
    Ok(match row.try_get("void")? {
        true => Mark::Void { since: at },
        false => Mark::Used {
            first: at,
            successor_used: row.try_get("successor_used")?,
        },
    })
}

/// Notes that a token was used, and keeps it under its hash `current` from now on.
async fn mark_used(
    connection: &mut PgConnection,
    hash: &KeyedHash,
    current: &KeyedHash,
    token: &RefreshToken,
    grant: &Grant,
) -> Result<(), StoreError> {
    sqlx::query(MARK_USED)
        .bind(hash.as_bytes())
        .bind(token.parent.map(|parent| parent.as_bytes().to_vec()))
        .bind(grant.changed_at.as_millis())
        .bind(current.as_bytes())
        .execute(connection)
        .await?;
    Ok(())
}

/// Notes that the responses to a token were lost.
async fn mark_void(
    connection: &mut PgConnection,
    hash: &KeyedHash,
    grant: &Grant,
) -> Result<(), StoreError> {
    sqlx::query(MARK_VOID)
        .bind(hash.as_bytes())
        .bind(grant.id.as_bytes())
        .bind(grant.changed_at.as_millis())
        .execute(connection)
        .await?;
    Ok(())
}

async fn remove_surplus(
    connection: &mut PgConnection,
    grant: &Grant,
    grace: Duration,
) -> Result<(), StoreError> {
    let count = |count| i64::try_from(count).unwrap_or(i64::MAX);
    sqlx::query(REMOVE_SURPLUS)
        .bind(grant.id.as_bytes())
        .bind(count(MAX_UNUSED))
        .bind(count(MAX_USED))
        .bind(grant.changed_at.minus(grace).as_millis())
        .execute(connection)
        .await?;
    Ok(())
}
