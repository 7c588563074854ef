//! What the server remembers. Each operation is atomic, in memory and on Postgres alike; one
//! conformance suite (`tests/store/`) holds the two together. The rules (which code, which refresh
//! token is honoured) are pure functions in `oauth/code.rs` and `oauth/refresh.rs`: a store loads, asks them, and
//! writes what they decide, all under a lock on the grant. Tokens are made by a [`Minter`] after the decision.

mod memory;
mod observed;
mod postgres;

use std::collections::BTreeMap;
use std::net::IpAddr;

use async_trait::async_trait;
use mcpauth_service::clock::UnixTime;
use mcpauth_wire::{ResourceUri, Scopes};

use crate::issue::{Issued, Minter};
use crate::keys::pepper::KeyedHash;
use crate::keys::rotation::KeyRecord;
use crate::oauth::client::Client;
use crate::oauth::code::{CodeAttempt, NewCode};
use crate::oauth::grant::{Grant, GrantId, NewGrant, Refusal};
use crate::oauth::rate_limit::{Decision, RateLimit};
use crate::oauth::refresh::{RefreshAttempt, RefreshKind};
use crate::oauth::resource::Resource;
use crate::random::RandomError;
pub use mcpauth_wire::admin::Outcome as Upsert;

pub use memory::MemoryStore;
pub use observed::ObservedStore;
pub use postgres::PostgresStore;

/// Why a store operation failed. No text contains the connection's URL or password.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The database is unavailable or overloaded. It is unknown whether a change in progress was made.
    /// Respond with 503, so that the client retries.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// A code may have been redeemed, or not: the database did not confirm it. Nobody has the tokens. A client that presented
    /// the code again would end its family, so it must not be invited to.
    #[error("the database did not confirm that the code was redeemed: {0}")]
    Unconfirmed(String),
    /// It contradicts what is stored: a resource URI that another id has, or a grant for a client or
    /// resource that has been deleted meanwhile.
    #[error("{0}")]
    Conflict(String),
    /// The database takes no changes: it is a standby, or in read-only mode. Respond with 503: soon there may be another
    /// primary.
    #[error("the database takes no changes: {0}")]
    ReadOnly(String),
    /// A newer version of this server, which runs beside this one, has stored what this one does not understand. Respond
    /// with 503: the newer one may answer the next request.
    #[error("a newer version of this server has stored {0}")]
    TooNew(String),
    /// An administrator must act; the text says how.
    #[error("the database cannot be used: {0}")]
    Misconfigured(String),
    /// The stored data cannot be parsed, or a query is wrong: a bug.
    #[error("the stored data is inconsistent: {0}")]
    Internal(String),
    /// No token could be created; nothing was written.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// A code presented at the token endpoint, with what to issue for it.
#[derive(Clone, Copy)]
pub struct CodeRedemption<'a> {
    /// The code's hash under each pepper, the current one first: a used code is kept under that.
    pub hashes: &'a [KeyedHash],
    /// What came with it.
    pub attempt: CodeAttempt<'a>,
    /// The absolute end of the family that begins.
    pub grant_expires_at: UnixTime,
    /// Makes the tokens.
    pub minter: Minter<'a>,
}

/// A refresh token presented at the token endpoint, with what to issue for it.
#[derive(Clone, Copy)]
pub struct Refresh<'a> {
    /// The token's hash under each pepper, the current one first: a used token is kept under that.
    pub hashes: &'a [KeyedHash],
    /// What came with it.
    pub attempt: RefreshAttempt<'a>,
    /// Makes the tokens.
    pub minter: Minter<'a>,
}

/// What came of a refresh.
#[derive(Clone, Debug)]
pub struct Refreshed {
    /// The new tokens.
    pub issued: Issued,
    /// Why they were granted.
    pub kind: RefreshKind,
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
    /// The scopes of the resource that its client and user may have, see [`crate::oauth::client::grantable`]; of
    /// [`Extent::Grantable`] alone.
    pub grantable: Option<Scopes>,
}

/// How much introspection tells about a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// What it is.
    Token,
    /// Also what another token of its client and user could be for.
    Grantable,
}

/// A client that registers itself.
#[derive(Clone, Copy, Debug)]
pub struct NewRegistration<'a> {
    /// The client.
    pub client: &'a Client,
    /// Where it comes from, see [`crate::oauth::dynamic_registration::network`].
    pub network: IpAddr,
    /// How many such clients there are at most.
    pub max_clients: u32,
}

/// What came of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registered {
    /// The client is stored.
    Created,
    /// There are as many clients as there may be, and all of them are in use.
    Full,
}

/// Which self-registered clients are unused.
#[derive(Clone, Copy, Debug)]
pub struct Unused {
    /// Those that registered before this time and were never used.
    pub never_used_since: UnixTime,
    /// Those that were last used before this time.
    pub idle_since: UnixTime,
}

/// What works only as long as a version of the pepper is known, but for registration access tokens: hardly any client ever
/// presents its own, so they would keep a pepper for as long as the client. Access tokens and codes live for at most a day, so they
/// are not hashed again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PepperUse {
    /// Access tokens that have not expired.
    pub access_tokens: u64,
    /// Refresh tokens that have neither expired nor been used. Used ones are needed only to notice that they are used
    /// again.
    pub refresh_tokens: u64,
    /// Authorization codes that have neither expired nor been used.
    pub codes: u64,
    /// Secrets of clients.
    pub client_secrets: u64,
    /// Sealed signing keys.
    pub signing_keys: u64,
}

impl PepperUse {
    /// Each count, with what is counted, in the singular.
    pub fn counts(&self) -> [(&'static str, u64); 5] {
        [
            ("access_token", self.access_tokens),
            ("refresh_token", self.refresh_tokens),
            ("code", self.codes),
            ("client_secret", self.client_secrets),
            ("signing_key", self.signing_keys),
        ]
    }
}

/// Clients, resources, grants with their tokens, and what counts requests: the state that replicas share.
///
/// Every method fails with a [`StoreError`]; what else there is to know stands at the method.
#[async_trait]
pub trait Store: std::fmt::Debug + Send + Sync {
    /// Whether the store answers and its schema is there: readiness.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Creates or replaces a client. A changed client keeps its grants for the resources that it may still ask
    /// for; none of the tokens for others is live from the moment that this is written.
    async fn upsert_client(&self, client: &Client, now: UnixTime) -> Result<Upsert, StoreError>;

    /// The client with this id. `TooNew` when only a newer version understands it.
    async fn client(&self, client_id: &str) -> Result<Option<Client>, StoreError>;

    /// Stores a client that registers itself. Where there are too many, the oldest that was never used goes, of the
    /// network that has most of those: whoever registers many displaces their own. One with a live grant stays.
    async fn register_client(
        &self,
        registration: &NewRegistration<'_>,
        now: UnixTime,
    ) -> Result<Registered, StoreError>;

    /// Replaces what a self-registered client has registered. False when there is none with this id: it may have been
    /// deleted meanwhile, and does not come back.
    async fn update_registration(&self, client: &Client) -> Result<bool, StoreError>;

    /// Notes that a self-registered client is in use: it got tokens for a user. Written at most once an hour.
    async fn touch_client(&self, client_id: &str, now: UnixTime) -> Result<(), StoreError>;

    /// Replaces the hash of a client's secret, if it is still this one.
    async fn replace_secret_hash(
        &self,
        client_id: &str,
        before: &KeyedHash,
        after: &KeyedHash,
    ) -> Result<(), StoreError>;

    /// Deletes a client and revokes its grants; an unknown one is fine. None of its tokens is live from the moment that
    /// this is written.
    async fn delete_client(&self, client_id: &str) -> Result<(), StoreError>;

    /// Creates or replaces a resource. A new URI revokes the grants for the old one. Grants of clients that it no
    /// longer admits are revoked: none of their tokens is live from the moment that this is written.
    /// `Conflict` when another id has the URI.
    async fn upsert_resource(&self, resource: &Resource) -> Result<Upsert, StoreError>;

    /// The resource with this id.
    async fn resource(&self, id: &str) -> Result<Option<Resource>, StoreError>;

    /// All resources, ordered by id. Those that only a newer version understands are left out.
    async fn resources(&self) -> Result<Vec<Resource>, StoreError>;

    /// Deletes a resource and revokes the grants for it; an unknown one is fine. None of their tokens is live from the
    /// moment that this is written.
    async fn delete_resource(&self, id: &str) -> Result<(), StoreError>;

    /// Stores a grant that the user gave, with the code for it. It lives as long as the code, unless
    /// that is redeemed. `Conflict` when its client or resource is gone.
    async fn create_authorization(
        &self,
        grant: NewGrant,
        code: &NewCode,
        now: UnixTime,
    ) -> Result<(), StoreError>;

    /// Redeems a code, once. See [`crate::oauth::code::Code::redeem`] for the rule.
    async fn redeem_code(
        &self,
        redemption: &CodeRedemption<'_>,
        now: UnixTime,
    ) -> Result<Result<Issued, Refusal>, StoreError>;

    /// Refreshes a family. See [`crate::oauth::refresh::RefreshToken::refresh`] for the rule.
    async fn refresh(
        &self,
        refresh: &Refresh<'_>,
        now: UnixTime,
    ) -> Result<Result<Refreshed, Refusal>, StoreError>;

    /// The family of a refresh token, or of a code, while both live: to ask about its user before anything is issued.
    async fn grant_of(
        &self,
        hashes: &[KeyedHash],
        now: UnixTime,
    ) -> Result<Option<Grant>, StoreError>;

    /// Stores a grant with its only access token, which ends with it: client credentials.
    /// `Conflict` when its client or resource is gone.
    async fn issue_access_token(
        &self,
        grant: NewGrant,
        minter: Minter<'_>,
        now: UnixTime,
    ) -> Result<Issued, StoreError>;

    /// The access token with one of these hashes, if it is live. One lookup by primary key; on Postgres
    /// calls that come together share a query. `TooNew` for one of a client whose origin only a newer version knows.
    async fn introspect(
        &self,
        hashes: &[KeyedHash],
        extent: Extent,
        now: UnixTime,
    ) -> Result<Option<ActiveToken>, StoreError>;

    /// Revokes this one access token, if it is this client's (RFC 7009). The family lives on: a client
    /// that wants to end it revokes its refresh token.
    async fn revoke_access_token(
        &self,
        hashes: &[KeyedHash],
        client_id: &str,
    ) -> Result<(), StoreError>;

    /// Revokes the family of this refresh token with all its access tokens, if it is this client's.
    async fn revoke_refresh_token(
        &self,
        hashes: &[KeyedHash],
        client_id: &str,
    ) -> Result<(), StoreError>;

    /// Revokes a family with all its tokens; an unknown one is fine.
    async fn revoke_grant(&self, id: GrantId) -> Result<(), StoreError>;

    /// Revokes all families of a user. They may sign in again.
    async fn revoke_user(&self, subject: &str) -> Result<(), StoreError>;

    /// The signing keys, in any order. Those of an algorithm that only a newer version knows are left out.
    async fn signing_keys(&self) -> Result<Vec<KeyRecord>, StoreError>;

    /// Adds signing keys, those whose slot is free. They appear together.
    async fn add_signing_keys(&self, keys: &[KeyRecord]) -> Result<(), StoreError>;

    /// Replaces a signing key that is still stored as `before`; false when it is not. Both have the same slot.
    async fn replace_signing_key(
        &self,
        before: &KeyRecord,
        after: &KeyRecord,
    ) -> Result<bool, StoreError>;

    /// Removes a signing key, if it is still stored so.
    async fn remove_signing_key(&self, key: &KeyRecord) -> Result<(), StoreError>;

    /// Counts what would be lost with each version of the pepper but the current one. However long it takes.
    async fn under_other_peppers(
        &self,
        current: u16,
        now: UnixTime,
    ) -> Result<BTreeMap<u16, PepperUse>, StoreError>;

    /// Remembers a client assertion until it expires (RFC 7523, section 3). False when this client has
    /// presented this `jti` before, to whichever replica.
    async fn remember_assertion(
        &self,
        client_id: &str,
        jti: &str,
        expires_at: UnixTime,
        now: UnixTime,
    ) -> Result<bool, StoreError>;

    /// Counts a hit, if it is within the limit. `subject` is what is limited, `rule` names the limit;
    /// keep to one limit for a rule.
    async fn hit(
        &self,
        rule: &str,
        subject: &str,
        limit: RateLimit,
        now: UnixTime,
    ) -> Result<Decision, StoreError>;

    /// Whether the subject has hits under this rule that are not forgotten: one is remembered for the limit's window at
    /// least, and for two at most.
    async fn has_hits(&self, rule: &str, subject: &str, now: UnixTime) -> Result<bool, StoreError>;

    /// Removes some of what has expired, and unused clients without a live grant. Call it every few seconds, and again
    /// at once when it answers true: there is more. Nothing depends on it but space; replicas do not disturb each other.
    async fn remove_expired(&self, unused: Unused, now: UnixTime) -> Result<bool, StoreError>;
}

/// A key of bounded size for names from outside. The zero byte keeps ("ab", "c") from ("a", "bc").
pub(crate) fn digest(parts: &[&str]) -> [u8; 32] {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for part in parts {
        context.update(part.as_bytes());
        context.update(&[0]);
    }
    let mut key = [0; 32];
    key.copy_from_slice(context.finish().as_ref());
    key
}

/// The key under which equal resources conflict.
fn canonical(resource: &str) -> String {
    // What is stored was checked; a resource of an older version that no longer passes is equal to itself alone.
    ResourceUri::parse(resource)
        .map_or_else(|_| resource.to_owned(), |uri| uri.canonical().to_owned())
}

fn same_resource(one: &str, other: &str) -> bool {
    canonical(one) == canonical(other)
}

fn resource_taken(resource: &Resource) -> StoreError {
    StoreError::Conflict(format!(
        "the resource {} is already registered under another id; delete that registration, or choose another URI",
        resource.resource
    ))
}

fn reference_gone() -> StoreError {
    StoreError::Conflict(
        "the client or the resource was deleted in the meantime, or no longer admits the client"
            .into(),
    )
}
