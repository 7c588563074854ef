//! A store that is observed: each operation has a span, and is counted and timed.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use mcpauth_service::clock::UnixTime;
use mcpauth_service::otlp::TARGET;
use tracing::Instrument as _;

use super::{
    ActiveToken, CodeRedemption, Extent, NewRegistration, PepperUse, Refresh, Refreshed,
    Registered, Store, StoreError, Unused, Upsert,
};
use crate::issue::{Issued, Minter};
use crate::keys::pepper::KeyedHash;
use crate::keys::rotation::KeyRecord;
use crate::metrics::Metrics;
use crate::oauth::client::Client;
use crate::oauth::code::NewCode;
use crate::oauth::grant::{Grant, GrantId, NewGrant, Refusal};
use crate::oauth::rate_limit::{Decision, RateLimit};
use crate::oauth::resource::Resource;

/// Another store, which waits for a database.
#[derive(Debug)]
pub struct ObservedStore<S> {
    store: S,
    metrics: Arc<Metrics>,
}

impl<S: Store> ObservedStore<S> {
    /// Observes this store.
    pub const fn new(store: S, metrics: Arc<Metrics>) -> Self {
        Self { store, metrics }
    }
}

/// The kind of an error. A conflict is an answer like any other.
const fn kind(error: &StoreError) -> Option<&'static str> {
    match error {
        StoreError::Conflict(_) => None,
        StoreError::Unavailable(_) => Some("unavailable"),
        StoreError::Unconfirmed(_) => Some("unconfirmed"),
        StoreError::ReadOnly(_) => Some("read_only"),
        StoreError::TooNew(_) => Some("too_new"),
        StoreError::Misconfigured(_) => Some("misconfigured"),
        StoreError::Internal(_) | StoreError::Random(_) => Some("internal"),
    }
}

macro_rules! observed {
    ($(fn $operation:ident($($name:ident: $type:ty),*) -> $output:ty;)*) => {
        #[async_trait]
        impl<S: Store> Store for ObservedStore<S> {
            $(async fn $operation(&self, $($name: $type),*) -> Result<$output, StoreError> {
                let operation = stringify!($operation);
                let span = tracing::trace_span!(
                    target: TARGET,
                    concat!("store.", stringify!($operation)),
                    otel.kind = "internal",
                );
                let counted = self.metrics.store_operation(operation);
                let result = self.store.$operation($($name),*).instrument(span).await;
                if let Some(error) = result.as_ref().err().and_then(kind) {
                    counted.failed(error);
                }
                result
            })*
        }
    };
}

observed! {
    fn ping() -> ();
    fn upsert_client(client: &Client, now: UnixTime) -> Upsert;
    fn client(client_id: &str) -> Option<Client>;
    fn register_client(registration: &NewRegistration<'_>, now: UnixTime) -> Registered;
    fn update_registration(client: &Client) -> bool;
    fn touch_client(client_id: &str, now: UnixTime) -> ();
    fn replace_secret_hash(client_id: &str, before: &KeyedHash, after: &KeyedHash) -> ();
    fn delete_client(client_id: &str) -> ();
    fn upsert_resource(resource: &Resource) -> Upsert;
    fn resource(id: &str) -> Option<Resource>;
    fn resources() -> Vec<Resource>;
    fn delete_resource(id: &str) -> ();
    fn create_authorization(grant: NewGrant, code: &NewCode, now: UnixTime) -> ();
    fn redeem_code(redemption: &CodeRedemption<'_>, now: UnixTime) -> Result<Issued, Refusal>;
    fn refresh(refresh: &Refresh<'_>, now: UnixTime) -> Result<Refreshed, Refusal>;
    fn grant_of(hashes: &[KeyedHash], now: UnixTime) -> Option<Grant>;
    fn issue_access_token(grant: NewGrant, minter: Minter<'_>, now: UnixTime) -> Issued;
    fn introspect(hashes: &[KeyedHash], extent: Extent, now: UnixTime) -> Option<ActiveToken>;
    fn revoke_access_token(hashes: &[KeyedHash], client_id: &str) -> ();
    fn revoke_refresh_token(hashes: &[KeyedHash], client_id: &str) -> ();
    fn revoke_grant(id: GrantId) -> ();
    fn revoke_user(subject: &str) -> ();
    fn signing_keys() -> Vec<KeyRecord>;
    fn add_signing_keys(keys: &[KeyRecord]) -> ();
    fn replace_signing_key(before: &KeyRecord, after: &KeyRecord) -> bool;
    fn remove_signing_key(key: &KeyRecord) -> ();
    fn under_other_peppers(current: u16, now: UnixTime) -> BTreeMap<u16, PepperUse>;
    fn remember_assertion(client_id: &str, jti: &str, expires_at: UnixTime, now: UnixTime) -> bool;
    fn hit(rule: &str, subject: &str, limit: RateLimit, now: UnixTime) -> Decision;
    fn has_hits(rule: &str, subject: &str, now: UnixTime) -> bool;
    fn remove_expired(unused: Unused, now: UnixTime) -> bool;
}
