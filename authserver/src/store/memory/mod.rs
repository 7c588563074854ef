//! The store in memory: maps under one lock. A revoked grant is taken out of its map; its codes and
//! tokens are looked up through the grant, and the next housekeeping removes them.

mod grants;
mod housekeeping;
mod peppers;
mod rates;
mod refresh;
mod registrations;
mod registry;
mod tokens;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use mcpauth_service::clock::UnixTime;
use mcpauth_wire::Scopes;

use super::{
    ActiveToken, CodeRedemption, Extent, NewRegistration, PepperUse, Refresh, Refreshed,
    Registered, Store, StoreError, Unused, Upsert, digest,
};
use crate::issue::{Issued, Minter};
use crate::keys::pepper::KeyedHash;
use crate::keys::rotation::KeyRecord;
use crate::oauth::client::Client;
use crate::oauth::code::{Code, NewCode};
use crate::oauth::grant::{Grant, GrantId, NewGrant, Refusal};
use crate::oauth::rate_limit::{Decision, RateLimit, RateTable};
use crate::oauth::refresh::RefreshToken;
use crate::oauth::resource::Resource;
use registrations::Registrations;

/// In this process; everything is lost with it, and there is only one replica.
#[derive(Default)]
pub struct MemoryStore(Mutex<State>);

#[derive(Default)]
struct State {
    clients: BTreeMap<String, KnownClient>,
    registrations: Registrations,
    resources: BTreeMap<String, Resource>,
    grants: HashMap<GrantId, Grant>,
    codes: HashMap<KeyedHash, Member<Code>>,
    refresh_tokens: HashMap<KeyedHash, Member<RefreshToken>>,
    /// The refresh tokens of each grant.
    families: HashMap<GrantId, Vec<KeyedHash>>,
    access_tokens: HashMap<KeyedHash, Member<AccessToken>>,
    assertions: HashMap<[u8; 32], UnixTime>,
    rates: HashMap<String, RateTable>,
    signing_keys: Vec<KeyRecord>,
}

struct KnownClient {
    client: Client,
    last_used_at: UnixTime,
    /// Where it registered itself from, until it is used.
    never_used: Option<IpAddr>,
    /// When its last grant ends that a user has given and that no code was redeemed for.
    granted_until: UnixTime,
}

/// A token or code with the grant that it belongs to.
struct Member<T> {
    grant_id: GrantId,
    value: T,
}

struct AccessToken {
    scopes: Scopes,
    issued_at: UnixTime,
    expires_at: UnixTime,
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryStore")
    }
}

impl MemoryStore {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn upsert_client(&self, client: &Client, now: UnixTime) -> Result<Upsert, StoreError> {
        Ok(self.state().upsert_client(client, now))
    }

    async fn client(&self, client_id: &str) -> Result<Option<Client>, StoreError> {
        Ok(self.state().client(client_id))
    }

    async fn register_client(
        &self,
        registration: &NewRegistration<'_>,
        now: UnixTime,
    ) -> Result<Registered, StoreError> {
        Ok(self.state().register_client(registration, now))
    }

    async fn update_registration(&self, client: &Client) -> Result<bool, StoreError> {
        Ok(self.state().update_registration(client))
    }

    async fn touch_client(&self, client_id: &str, now: UnixTime) -> Result<(), StoreError> {
        self.state().touch_client(client_id, now);
        Ok(())
    }

    async fn replace_secret_hash(
        &self,
        client_id: &str,
        before: &KeyedHash,
        after: &KeyedHash,
    ) -> Result<(), StoreError> {
        self.state().replace_secret_hash(client_id, before, after);
        Ok(())
    }

    async fn delete_client(&self, client_id: &str) -> Result<(), StoreError> {
        self.state().delete_client(client_id);
        Ok(())
    }

    async fn upsert_resource(&self, resource: &Resource) -> Result<Upsert, StoreError> {
        self.state().upsert_resource(resource)
    }

    async fn resource(&self, id: &str) -> Result<Option<Resource>, StoreError> {
        Ok(self.state().resource(id))
    }

    async fn resources(&self) -> Result<Vec<Resource>, StoreError> {
        Ok(self.state().resources())
    }

    async fn delete_resource(&self, id: &str) -> Result<(), StoreError> {
        self.state().delete_resource(id);
        Ok(())
    }

    async fn create_authorization(
        &self,
        grant: NewGrant,
        code: &NewCode,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        self.state().create_authorization(grant, code, now)
    }

    async fn redeem_code(
        &self,
        redemption: &CodeRedemption<'_>,
        now: UnixTime,
    ) -> Result<Result<Issued, Refusal>, StoreError> {
        self.state().redeem_code(redemption, now)
    }

    async fn refresh(
        &self,
        refresh: &Refresh<'_>,
        now: UnixTime,
    ) -> Result<Result<Refreshed, Refusal>, StoreError> {
        self.state().refresh(refresh, now)
    }

    async fn grant_of(
        &self,
        hashes: &[KeyedHash],
        now: UnixTime,
    ) -> Result<Option<Grant>, StoreError> {
        Ok(self.state().grant_of(hashes, now))
    }

    async fn issue_access_token(
        &self,
        grant: NewGrant,
        minter: Minter<'_>,
        now: UnixTime,
    ) -> Result<Issued, StoreError> {
        self.state().issue_access_token(grant, minter, now)
    }

    async fn introspect(
        &self,
        hashes: &[KeyedHash],
        extent: Extent,
        now: UnixTime,
    ) -> Result<Option<ActiveToken>, StoreError> {
        Ok(self.state().introspect(hashes, extent, now))
    }

    async fn revoke_access_token(
        &self,
        hashes: &[KeyedHash],
        client_id: &str,
    ) -> Result<(), StoreError> {
        self.state().revoke_access_token(hashes, client_id);
        Ok(())
    }

    async fn revoke_refresh_token(
        &self,
        hashes: &[KeyedHash],
        client_id: &str,
    ) -> Result<(), StoreError> {
        self.state().revoke_refresh_token(hashes, client_id);
        Ok(())
    }

    async fn revoke_grant(&self, id: GrantId) -> Result<(), StoreError> {
        self.state().revoke_grant(id);
        Ok(())
    }

    async fn revoke_user(&self, subject: &str) -> Result<(), StoreError> {
        self.state().revoke_user(subject);
        Ok(())
    }

    async fn signing_keys(&self) -> Result<Vec<KeyRecord>, StoreError> {
        Ok(self.state().signing_keys.clone())
    }

    async fn add_signing_keys(&self, keys: &[KeyRecord]) -> Result<(), StoreError> {
        self.state().add_signing_keys(keys);
        Ok(())
    }

    async fn replace_signing_key(
        &self,
        before: &KeyRecord,
        after: &KeyRecord,
    ) -> Result<bool, StoreError> {
        Ok(self.state().replace_signing_key(before, after))
    }

    async fn remove_signing_key(&self, key: &KeyRecord) -> Result<(), StoreError> {
        self.state().signing_keys.retain(|known| known != key);
        Ok(())
    }

    async fn under_other_peppers(
        &self,
        current: u16,
        now: UnixTime,
    ) -> Result<BTreeMap<u16, PepperUse>, StoreError> {
        Ok(self.state().under_other_peppers(current, now))
    }

    async fn remember_assertion(
        &self,
        client_id: &str,
        jti: &str,
        expires_at: UnixTime,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let key = digest(&[client_id, jti]);
        Ok(self.state().remember_assertion(key, expires_at, now))
    }

    async fn hit(
        &self,
        rule: &str,
        subject: &str,
        limit: RateLimit,
        now: UnixTime,
    ) -> Result<Decision, StoreError> {
        Ok(self.state().hit(rule, subject, limit, now))
    }

    async fn has_hits(&self, rule: &str, subject: &str, now: UnixTime) -> Result<bool, StoreError> {
        Ok(self.state().has_hits(rule, subject, now))
    }

    async fn remove_expired(&self, unused: Unused, now: UnixTime) -> Result<bool, StoreError> {
        self.state().remove_expired(unused, now);
        Ok(false)
    }
}
