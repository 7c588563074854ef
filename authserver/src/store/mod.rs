//! What the server remembers. Each operation is atomic, in memory and on Postgres alike; one
//! conformance suite (`tests/store/`) holds the two together. The rules (which code, which refresh
//! token is honoured) are pure functions in `code.rs` and `grant.rs`: a store loads, asks them, and
//! writes what they decide, all under a lock on the grant.

mod memory;
mod postgres;

use crate::clock::UnixTime;
use crate::keys::pepper::KeyedHash;
use crate::oauth::client::Client;
use crate::oauth::code::{CodeAttempt, NewCode};
use crate::oauth::grant::{Grant, GrantId, NewGrant, RefreshAttempt, Refusal};
use crate::oauth::rate_limit::{Decision, RateLimit};
use crate::oauth::resource::Resource;
use crate::oauth::scope::Scopes;

pub use memory::MemoryStore;
pub use postgres::PostgresStore;
use postgres::within;

/// Why the store did not do what it was asked. No text has the connection's URL or password in it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The database is away or overloaded. Nobody can tell whether a change was made that was under way.
    /// Answer 503, try again.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// It contradicts what is stored: a resource URI that another id has, or a grant for a client or
    /// resource that has been deleted meanwhile.
    #[error("{0}")]
    Conflict(String),
    /// An operator has to act; the text says how.
    #[error("the database refuses to work for us: {0}")]
    Misconfigured(String),
    /// What is stored does not read as what was written, or a query is wrong: a fault of ours.
    #[error("the store is inconsistent: {0}")]
    Internal(String),
}

/// What a create-or-update did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Upsert {
    /// It was not there.
    Created,
    /// It was there and different.
    Updated,
    /// It was there and the same; nothing was written.
    Unchanged,
}

/// A token about to be stored.
#[derive(Clone, Copy, Debug)]
pub struct NewToken {
    /// Its hash.
    pub hash: KeyedHash,
    /// From this time on it is refused; the store brings it forward to the grant's end.
    pub expires_at: UnixTime,
}

/// A code presented at the token endpoint, with what to issue for it.
#[derive(Clone, Copy, Debug)]
pub struct CodeRedemption<'a> {
    /// The code's hash under each pepper.
    pub hashes: &'a [KeyedHash],
    /// What came with it.
    pub attempt: CodeAttempt<'a>,
    /// The access token.
    pub access_token: NewToken,
    /// The refresh token, for clients that may have one.
    pub refresh_token: Option<NewToken>,
    /// The absolute end of the family that begins.
    pub grant_expires_at: UnixTime,
}

/// A refresh token presented at the token endpoint, with what to issue for it.
#[derive(Clone, Copy, Debug)]
pub struct Refresh<'a> {
    /// The token's hash under each pepper.
    pub hashes: &'a [KeyedHash],
    /// What came with it.
    pub attempt: RefreshAttempt<'a>,
    /// The new access token.
    pub access_token: NewToken,
    /// The new refresh token.
    pub refresh_token: NewToken,
}

/// What was issued.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The family, as it is now.
    pub grant: Grant,
    /// The access token's scopes.
    pub scopes: Scopes,
    /// The access token's end.
    pub access_expires_at: UnixTime,
    /// `nonce` of the authorization request, when a code was redeemed.
    pub nonce: Option<String>,
}

/// A live access token (RFC 7662).
#[derive(Clone, Debug)]
pub struct ActiveToken {
    /// Its family.
    pub grant_id: GrantId,
    /// The client it was issued to.
    pub client_id: String,
    /// The user; none for client credentials.
    pub subject: Option<String>,
    /// Its audience.
    pub resource: String,
    /// Its scopes.
    pub scopes: Scopes,
    /// When it was issued.
    pub issued_at: UnixTime,
    /// When it ends.
    pub expires_at: UnixTime,
    /// Who may know all this.
    pub introspectors: Vec<String>,
    /// Its `jti`, see [`KeyedHash::public_id`].
    pub token_id: String,
}

/// The store that the configuration names.
///
/// Every method fails with a [`StoreError`]; what else there is to know stands at the method.
#[derive(Debug)]
pub enum Store {
    /// In this process; everything is lost with it, and there is only one replica.
    Memory(MemoryStore),
    /// In a database, for any number of replicas.
    Postgres(PostgresStore),
}

impl Store {
    /// An empty store in memory.
    pub fn memory() -> Self {
        Self::Memory(MemoryStore::default())
    }

    /// Whether the store answers and its schema is there: readiness.
    pub async fn ping(&self) -> Result<(), StoreError> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Postgres(store) => within(store.ping()).await,
        }
    }

    /// Creates or replaces a client. A changed client keeps its grants.
    pub async fn upsert_client(
        &self,
        client: &Client,
        now: UnixTime,
    ) -> Result<Upsert, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.upsert_client(client, now)),
            Self::Postgres(store) => within(store.upsert_client(client, now)).await,
        }
    }

    /// The client with this id.
    pub async fn client(&self, client_id: &str) -> Result<Option<Client>, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.client(client_id)),
            Self::Postgres(store) => within(store.client(client_id)).await,
        }
    }

    /// Notes that a client is in use. Call it before an authorization begins: a dynamically registered
    /// client that nobody uses is removed. Written at most once an hour.
    pub async fn touch_client(&self, client_id: &str, now: UnixTime) -> Result<(), StoreError> {
        match self {
            Self::Memory(store) => {
                store.touch_client(client_id, now);
                Ok(())
            }
            Self::Postgres(store) => within(store.touch_client(client_id, now)).await,
        }
    }

    /// Deletes a client and revokes its grants; an unknown one is fine.
    pub async fn delete_client(&self, client_id: &str) -> Result<(), StoreError> {
        match self {
            Self::Memory(store) => {
                store.delete_client(client_id);
                Ok(())
            }
            Self::Postgres(store) => within(store.delete_client(client_id)).await,
        }
    }

    /// Creates or replaces a resource. A new URI revokes the grants for the old one.
    /// `Conflict` when another id has the URI.
    pub async fn upsert_resource(&self, resource: &Resource) -> Result<Upsert, StoreError> {
        match self {
            Self::Memory(store) => store.upsert_resource(resource),
            Self::Postgres(store) => within(store.upsert_resource(resource)).await,
        }
    }

    /// The resource with this id.
    pub async fn resource(&self, id: &str) -> Result<Option<Resource>, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.resource(id)),
            Self::Postgres(store) => within(store.resource(id)).await,
        }
    }

    /// All resources, ordered by id.
    pub async fn resources(&self) -> Result<Vec<Resource>, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.resources()),
            Self::Postgres(store) => within(store.resources()).await,
        }
    }

    /// Deletes a resource and revokes the grants for it; an unknown one is fine.
    pub async fn delete_resource(&self, id: &str) -> Result<(), StoreError> {
        match self {
            Self::Memory(store) => {
                store.delete_resource(id);
                Ok(())
            }
            Self::Postgres(store) => within(store.delete_resource(id)).await,
        }
    }

    /// Stores a grant that the user gave, with the code for it. It lives as long as the code, unless
    /// that is redeemed. `Conflict` when its client or resource is gone.
    pub async fn create_authorization(
        &self,
        grant: NewGrant,
        code: &NewCode,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        match self {
            Self::Memory(store) => store.create_authorization(grant, code, now),
            Self::Postgres(store) => within(store.create_authorization(grant, code, now)).await,
        }
    }

    /// Redeems a code, once. See [`crate::oauth::code::Code::redeem`] for the rule.
    pub async fn redeem_code(
        &self,
        redemption: &CodeRedemption<'_>,
        now: UnixTime,
    ) -> Result<Result<Issued, Refusal>, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.redeem_code(redemption, now)),
            Self::Postgres(store) => within(store.redeem_code(redemption, now)).await,
        }
    }

    /// Refreshes a family. See [`crate::oauth::grant::RefreshToken::refresh`] for the rule.
    pub async fn refresh(
        &self,
        refresh: &Refresh<'_>,
        now: UnixTime,
    ) -> Result<Result<Issued, Refusal>, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.refresh(refresh, now)),
            Self::Postgres(store) => within(store.refresh(refresh, now)).await,
        }
    }

    /// The family of a refresh token, while both live: to ask about its user before refreshing.
    pub async fn grant_of_refresh_token(
        &self,
        hashes: &[KeyedHash],
        now: UnixTime,
    ) -> Result<Option<Grant>, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.grant_of_refresh_token(hashes, now)),
            Self::Postgres(store) => within(store.grant_of_refresh_token(hashes, now)).await,
        }
    }

    /// Stores a grant with its only access token, which ends with it: client credentials.
    /// `Conflict` when its client or resource is gone.
    pub async fn issue_access_token(
        &self,
        grant: NewGrant,
        access_token: NewToken,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        match self {
            Self::Memory(store) => store.issue_access_token(grant, access_token, now),
            Self::Postgres(store) => {
                within(store.issue_access_token(grant, access_token, now)).await
            }
        }
    }

    /// The access token with one of these hashes, if it is live. One lookup by primary key; on Postgres
    /// calls that come together share a query.
    pub async fn introspect(
        &self,
        hashes: &[KeyedHash],
        now: UnixTime,
    ) -> Result<Option<ActiveToken>, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.introspect(hashes, now)),
            Self::Postgres(store) => within(store.introspect(hashes, now)).await,
        }
    }

    /// Revokes this one access token, if it is this client's (RFC 7009). The family lives on: a client
    /// that wants to end it revokes its refresh token.
    pub async fn revoke_access_token(
        &self,
        hashes: &[KeyedHash],
        client_id: &str,
    ) -> Result<(), StoreError> {
        match self {
            Self::Memory(store) => {
                store.revoke_access_token(hashes, client_id);
                Ok(())
            }
            Self::Postgres(store) => within(store.revoke_access_token(hashes, client_id)).await,
        }
    }

    /// Revokes the family of this refresh token with all its access tokens, if it is this client's.
    pub async fn revoke_refresh_token(
        &self,
        hashes: &[KeyedHash],
        client_id: &str,
    ) -> Result<(), StoreError> {
        match self {
            Self::Memory(store) => {
                store.revoke_refresh_token(hashes, client_id);
                Ok(())
            }
            Self::Postgres(store) => within(store.revoke_refresh_token(hashes, client_id)).await,
        }
    }

    /// Revokes a family with all its tokens; an unknown one is fine.
    pub async fn revoke_grant(&self, id: GrantId) -> Result<(), StoreError> {
        match self {
            Self::Memory(store) => {
                store.revoke_grant(id);
                Ok(())
            }
            Self::Postgres(store) => within(store.revoke_grant(id)).await,
        }
    }

    /// The sealed signing key: the stored one, or else this one, which is stored then. Replicas that
    /// start together get the same.
    pub async fn signing_key_or(&self, sealed: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.signing_key_or(sealed)),
            Self::Postgres(store) => within(store.signing_key_or(&sealed)).await,
        }
    }

    /// Remembers a client assertion until it expires (RFC 7523, section 3). False when this client has
    /// presented this `jti` before, to whichever replica.
    pub async fn remember_assertion(
        &self,
        client_id: &str,
        jti: &str,
        expires_at: UnixTime,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let key = digest(&[client_id, jti]);
        match self {
            Self::Memory(store) => Ok(store.remember_assertion(key, expires_at, now)),
            Self::Postgres(store) => within(store.remember_assertion(key, expires_at, now)).await,
        }
    }

    /// Counts a hit, if it is within the limit. `subject` is what is limited, `rule` names the limit;
    /// keep to one limit for a rule.
    pub async fn hit(
        &self,
        rule: &str,
        subject: &str,
        limit: RateLimit,
        now: UnixTime,
    ) -> Result<Decision, StoreError> {
        let key = digest(&[rule, subject]);
        match self {
            Self::Memory(store) => Ok(store.hit(key, limit, now)),
            Self::Postgres(store) => within(store.hit(key, limit, now)).await,
        }
    }

    /// Removes some of what has expired, and dynamically registered clients that were last used before
    /// `unused_since` and have no live grant. Call it every few seconds, and again at once when it
    /// answers true: there is more. Nothing depends on it but space; replicas do not disturb each other.
    pub async fn remove_expired(
        &self,
        unused_since: UnixTime,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        match self {
            Self::Memory(store) => {
                store.remove_expired(unused_since, now);
                Ok(false)
            }
            // However long it takes: given up, it would begin anew each time.
            Self::Postgres(store) => store.remove_expired(unused_since, now).await,
        }
    }
}

/// A key of bounded size for names from outside. The zero byte keeps ("ab", "c") from ("a", "bc").
fn digest(parts: &[&str]) -> [u8; 32] {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for part in parts {
        context.update(part.as_bytes());
        context.update(&[0]);
    }
    let mut key = [0; 32];
    key.copy_from_slice(context.finish().as_ref());
    key
}

impl Issued {
    fn new(
        grant: &Grant,
        scopes: Option<&Scopes>,
        access_token: NewToken,
        nonce: Option<String>,
    ) -> Self {
        Self {
            grant: grant.clone(),
            scopes: scopes.unwrap_or(&grant.scopes).clone(),
            access_expires_at: access_token.expires_at.min(grant.expires_at),
            nonce,
        }
    }
}

fn resource_taken(resource: &Resource) -> StoreError {
    StoreError::Conflict(format!(
        "the resource {} is registered under another id already; delete that one or choose another URI",
        resource.resource
    ))
}

fn reference_gone() -> StoreError {
    StoreError::Conflict("the client or the resource has been deleted meanwhile".into())
}
