//! Families of tokens: what begins and ends them.

use mcpauth_service::clock::UnixTime;
use mcpauth_wire::Scopes;
use sqlx::postgres::{PgArguments, PgQueryResult, PgRow};
use sqlx::{PgConnection, Postgres, Row as _, Transaction};

use super::super::{CodeRedemption, StoreError, reference_gone};
use super::sweeps::BATCH;
use super::{Database, as_slices, read_time};
use crate::issue::{Issued, Minted, Minter};
use crate::keys::pepper::KeyedHash;
use crate::oauth::code::{Code, CodeVerdict, NewCode};
use crate::oauth::grant::{Grant, GrantId, LoginMark, NewGrant, Refusal};

/// A grant, if its resource admits its client: $1 to $9, see [`bind_grant`].
macro_rules! insert_grant {
    () => {
        concat!(
            "INSERT INTO grants (id, subject, client_id, resource, scopes, login, rotated_at, expires_at,
                                 authenticated_at, generation, siblings)
             SELECT $1, $2, c.client_id, r.resource, $5, $6, $7, $8, $9, 0, 0 FROM clients c, resources r
             WHERE c.client_id = $3 AND r.resource = $4 AND ",
            is_admitted!()
        )
    };
}

/// What the client is told of its code, once the transaction is committed; without one, nothing changes.
pub(super) type Redeemed = (
    Option<Transaction<'static, Postgres>>,
    Result<Issued, Refusal>,
);

impl Database {
    pub(super) async fn create_authorization(
        &self,
        grant: NewGrant,
        code: &NewCode,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let grant = Grant::new(grant, now, code.expires_at);
        let mut transaction = self.begin().await?;
        insert_grant(&mut transaction, &grant).await?;
        sqlx::query(
            "INSERT INTO authorization_codes
                 (hash, grant_id, redirect_uri, code_challenge, nonce, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(code.hash.as_bytes())
        .bind(grant.id.as_bytes())
        .bind(&code.redirect_uri)
        .bind(&code.code_challenge)
        .bind(&code.nonce)
        .bind(code.expires_at.as_millis())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    pub(super) async fn redeem_code(
        &self,
        redemption: &CodeRedemption<'_>,
        now: UnixTime,
    ) -> Result<Redeemed, StoreError> {
        let mut transaction = self.begin().await?;
        let Some((mut grant, hash, code)) =
            lock_by_code(&mut transaction, redemption.hashes).await?
        else {
            return Ok((None, Err(Refusal::Unknown)));
        };
        let outcome = match code.redeem(&grant, &redemption.attempt, now) {
            CodeVerdict::Accept => {
                let current = redemption.hashes.first().unwrap_or(&hash);
                use_code(&mut transaction, &hash, current).await?;
                grant.changed_at = grant.time(now);
                grant.expires_at = redemption.grant_expires_at;
                update_grant(&mut transaction, &grant).await?;
                let issued = redemption.minter.issue(&grant, None, code.nonce, now)?;
                insert_tokens(&mut transaction, &issued, None, now).await?;
                Ok(issued)
            }
            CodeVerdict::Refuse(refusal) => Err(refusal),
            CodeVerdict::Count => {
                count_attempt(&mut transaction, &hash).await?;
                Err(Refusal::CodeVerifier)
            }
            CodeVerdict::Revoke => {
                delete_grant(&mut *transaction, grant.id).await?;
                Err(Refusal::Reused)
            }
        };
        Ok((Some(transaction), outcome))
    }

    pub(super) async fn grant_of(
        &self,
        hashes: &[KeyedHash],
        now: UnixTime,
    ) -> Result<Option<Grant>, StoreError> {
        sqlx::query(select_grant!(
            "WHERE expires_at > $2 AND id =
                 (SELECT grant_id FROM refresh_tokens WHERE hash = ANY($1) AND expires_at > $2
                  UNION ALL
                  SELECT grant_id FROM authorization_codes WHERE hash = ANY($1))",
            ""
        ))
        .bind(as_slices(hashes))
        .bind(now.as_millis())
        .fetch_optional(&self.pool)
        .await?
        .map(|row| read_grant(&row))
        .transpose()
    }

    pub(super) async fn issue_access_token(
        &self,
        grant: NewGrant,
        minter: Minter<'_>,
        now: UnixTime,
    ) -> Result<Issued, StoreError> {
        let grant = Grant::new(grant, now, now.plus(minter.access));
        let minter = Minter {
            refresh: None,
            ..minter
        };
        let issued = minter.issue(&grant, None, None, now)?;
        // One statement: a transaction of several would take four times as many round trips.
        let inserting = sqlx::query(concat!(
            "WITH granted AS (",
            insert_grant!(),
            " RETURNING id)
             INSERT INTO access_tokens (hash, grant_id, scopes, issued_at, expires_at)
             SELECT $10, id, $11, $12, $13 FROM granted"
        ));
        let inserted = bind_grant(inserting, &grant)
            .bind(issued.access.hash.as_bytes())
            .bind(issued.scopes.to_string())
            .bind(now.as_millis())
            .bind(issued.access.expires_at.as_millis())
            .execute(&self.pool)
            .await;
        check_inserted(inserted)?;
        Ok(issued)
    }

    pub(super) async fn revoke_grant(&self, id: GrantId) -> Result<(), StoreError> {
        delete_grant(&self.pool, id).await
    }

    pub(super) async fn revoke_user(&self, subject: &str) -> Result<(), StoreError> {
        while sqlx::query(
            "DELETE FROM grants WHERE id = ANY(ARRAY(
                 SELECT id FROM grants WHERE subject = $1 LIMIT $2))",
        )
        .bind(subject)
        .bind(i64::from(BATCH))
        .execute(&self.pool)
        .await?
        .rows_affected()
            == u64::from(BATCH)
        {}
        Ok(())
    }
}

async fn lock_by_code(
    connection: &mut PgConnection,
    hashes: &[KeyedHash],
) -> Result<Option<(Grant, KeyedHash, Code)>, StoreError> {
    let locking = select_grant!(
        "WHERE id = (SELECT grant_id FROM authorization_codes WHERE hash = ANY($1))",
        "FOR UPDATE OF grants"
    );
    let Some(grant) = lock_grant(connection, locking, hashes).await? else {
        return Ok(None);
    };
    // Read now that the grant is locked: whoever held the lock may have used the code.
    let row = sqlx::query(
        "SELECT hash, redirect_uri, code_challenge, nonce, expires_at, attempts, used
         FROM authorization_codes WHERE hash = ANY($1)",
    )
    .bind(as_slices(hashes))
    .fetch_one(connection)
    .await?;
    let code = Code {
        redirect_uri: row.try_get("redirect_uri")?,
        code_challenge: row.try_get("code_challenge")?,
        nonce: row.try_get("nonce")?,
        expires_at: read_time(&row, "expires_at")?,
        attempts: row.try_get("attempts")?,
        used: row.try_get("used")?,
    };
    Ok(Some((grant, read_hash(&row)?, code)))
}

/// The grant that this statement locks, of a code or token with one of these hashes.
pub(super) async fn lock_grant(
    connection: &mut PgConnection,
    locking: &'static str,
    hashes: &[KeyedHash],
) -> Result<Option<Grant>, StoreError> {
    let query = sqlx::query(locking).bind(as_slices(hashes));
    let row = query.fetch_optional(connection).await?;
    row.map(|row| read_grant(&row)).transpose()
}

/// Notes that a code was used, and keeps it under its hash `current` from now on.
async fn use_code(
    connection: &mut PgConnection,
    hash: &KeyedHash,
    current: &KeyedHash,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE authorization_codes SET used = true, hash = $2 WHERE hash = $1")
        .bind(hash.as_bytes())
        .bind(current.as_bytes())
        .execute(connection)
        .await?;
    Ok(())
}

async fn count_attempt(connection: &mut PgConnection, hash: &KeyedHash) -> Result<(), StoreError> {
    sqlx::query("UPDATE authorization_codes SET attempts = attempts + 1 WHERE hash = $1")
        .bind(hash.as_bytes())
        .execute(connection)
        .await?;
    Ok(())
}

async fn insert_grant(connection: &mut PgConnection, grant: &Grant) -> Result<(), StoreError> {
    let inserting = bind_grant(sqlx::query(insert_grant!()), grant);
    check_inserted(inserting.execute(connection).await)
}

type Statement<'a> = sqlx::query::Query<'a, Postgres, PgArguments>;

/// The values of [`insert_grant!`].
fn bind_grant<'a>(statement: Statement<'a>, grant: &'a Grant) -> Statement<'a> {
    statement
        .bind(grant.id.as_bytes())
        .bind(&grant.subject)
        .bind(&grant.client_id)
        .bind(&grant.resource)
        .bind(grant.scopes.to_string())
        .bind(grant.login.as_ref().map(LoginMark::as_str))
        .bind(grant.changed_at.as_millis())
        .bind(grant.expires_at.as_millis())
        .bind(grant.authenticated_at.map(UnixTime::as_millis))
}

/// Nothing is inserted when the client or the resource is gone, or no longer admits the other.
fn check_inserted(inserted: Result<PgQueryResult, sqlx::Error>) -> Result<(), StoreError> {
    let inserted = inserted.map_err(|error| match StoreError::from(error) {
        StoreError::Conflict(_) => reference_gone(),
        other => other,
    })?;
    match inserted.rows_affected() {
        0 => Err(reference_gone()),
        _ => Ok(()),
    }
}

pub(super) async fn update_grant(
    connection: &mut PgConnection,
    grant: &Grant,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE grants SET rotated_at = $2, expires_at = $3 WHERE id = $1")
        .bind(grant.id.as_bytes())
        .bind(grant.changed_at.as_millis())
        .bind(grant.expires_at.as_millis())
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn delete_grant(
    executor: impl sqlx::PgExecutor<'_>,
    id: GrantId,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM grants WHERE id = $1")
        .bind(id.as_bytes())
        .execute(executor)
        .await?;
    Ok(())
}

/// `parent` is the refresh token that was presented.
pub(super) async fn insert_tokens(
    connection: &mut PgConnection,
    issued: &Issued,
    parent: Option<&KeyedHash>,
    now: UnixTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO access_tokens (hash, grant_id, scopes, issued_at, expires_at)
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(issued.access.hash.as_bytes())
    .bind(issued.grant.id.as_bytes())
    .bind(issued.scopes.to_string())
    .bind(now.as_millis())
    .bind(issued.access.expires_at.as_millis())
    .execute(&mut *connection)
    .await?;
    match &issued.refresh {
        Some(token) => {
            let parent = parent.map(|hash| hash.as_bytes().to_vec());
            insert_refresh_token(connection, &issued.grant, token, parent).await
        }
        None => Ok(()),
    }
}

async fn insert_refresh_token(
    connection: &mut PgConnection,
    grant: &Grant,
    token: &Minted,
    parent: Option<Vec<u8>>,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO refresh_tokens (hash, grant_id, generation, parent, issued_at, expires_at)
         SELECT $1, id, generation, $3, $4, $5 FROM grants WHERE id = $2",
    )
    .bind(token.hash.as_bytes())
    .bind(grant.id.as_bytes())
    .bind(parent)
    .bind(grant.changed_at.as_millis())
    .bind(token.expires_at.as_millis())
    .execute(connection)
    .await?;
    Ok(())
}

fn read_grant(row: &PgRow) -> Result<Grant, StoreError> {
    Ok(Grant {
        id: read_grant_id(row, "id")?,
        subject: row.try_get("subject")?,
        client_id: row.try_get("client_id")?,
        resource: row.try_get("resource")?,
        scopes: read_scopes(row)?,
        login: row
            .try_get::<Option<String>, _>("login")?
            .map(LoginMark::new),
        authenticated_at: row
            .try_get::<Option<i64>, _>("authenticated_at")?
            .map(UnixTime::from_millis),
        changed_at: read_time(row, "rotated_at")?,
        expires_at: read_time(row, "expires_at")?,
    })
}

pub(super) fn read_grant_id(row: &PgRow, column: &str) -> Result<GrantId, StoreError> {
    Ok(GrantId::from_bytes(row.try_get(column)?))
}

pub(super) fn read_hash(row: &PgRow) -> Result<KeyedHash, StoreError> {
    KeyedHash::from_bytes(row.try_get("hash")?)
        .ok_or_else(|| StoreError::Internal("a hash is not 34 bytes long".into()))
}

pub(super) fn read_scopes(row: &PgRow) -> Result<Scopes, StoreError> {
    Scopes::parse(row.try_get("scopes")?)
        .map_err(|_| StoreError::Internal("cannot parse scopes".into()))
}
