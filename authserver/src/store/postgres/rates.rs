//! Rate limits. The rule is `rate_limit.rs`'s; one statement has to apply it, so it stands here once
//! more in SQL, and the conformance suite holds the two together.

use mcpauth_service::clock::UnixTime;
use sqlx::Row as _;

use super::super::StoreError;
use super::Database;
use crate::oauth::rate_limit::{Decision, RateLimit, Windows};

// $1 key, $2 bucket, $3 now, $4 window in milliseconds, $5 limit, $6 when it may be forgotten.
// A refused hit updates nothing. What is returned beside `counted` is the state before the statement.
const HIT: &str = "
WITH counted AS (
    INSERT INTO rate_windows AS w (key, bucket, current, previous, expires_at)
    VALUES ($1, $2, 1, 0, $6)
    ON CONFLICT (key) DO UPDATE SET
        bucket = GREATEST(w.bucket, $2),
        current = CASE WHEN w.bucket >= $2 THEN w.current ELSE 0 END + 1,
        previous = CASE WHEN w.bucket >= $2 THEN w.previous
                        WHEN w.bucket = $2 - 1 THEN w.current ELSE 0 END,
        expires_at = GREATEST(w.expires_at, $6)
    WHERE CASE
        WHEN w.bucket >= $2 THEN
            w.previous * ($4 - GREATEST($3 - w.bucket * $4, 0)) + w.current * $4 < $5 * $4
        WHEN w.bucket = $2 - 1 THEN w.current * ($4 - ($3 - $2 * $4)) < $5 * $4
        ELSE true
    END
    RETURNING 1
)
SELECT EXISTS (SELECT FROM counted) AS counted, w.bucket, w.current, w.previous
FROM (SELECT 1) AS one LEFT JOIN rate_windows w ON w.key = $1";

impl Database {
    pub(super) async fn hit(
        &self,
        key: [u8; 32],
        limit: RateLimit,
        now: UnixTime,
    ) -> Result<Decision, StoreError> {
        let row = sqlx::query(HIT)
            .bind(key)
            .bind(limit.bucket(now))
            .bind(now.as_millis())
            .bind(limit.window_millis())
            .bind(limit.count())
            .bind(limit.forgotten_at(now).as_millis())
            .fetch_one(&self.pool)
            .await?;
        if row.try_get("counted")? {
            return Ok(Decision::Allowed);
        }
        let windows = read_windows(&row)?.at(limit, now);
        Ok(match windows.decide(limit, now) {
            refused @ Decision::Refused { .. } => refused,
            // The hits that made it full came after the statement began.
            Decision::Allowed => Decision::Refused {
                retry_after: limit.window,
            },
        })
    }

    pub(super) async fn has_hits(&self, key: [u8; 32], now: UnixTime) -> Result<bool, StoreError> {
        let has_hits = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM rate_windows WHERE key = $1 AND expires_at > $2)",
        )
        .bind(key)
        .bind(now.as_millis())
        .fetch_one(&self.pool)
        .await?;
        Ok(has_hits)
    }
}

fn read_windows(row: &sqlx::postgres::PgRow) -> Result<Windows, StoreError> {
    let column = |name| row.try_get::<Option<i64>, _>(name);
    Ok(Windows {
        bucket: column("bucket")?.unwrap_or_default(),
        current: column("current")?.unwrap_or_default(),
        previous: column("previous")?.unwrap_or_default(),
    })
}
