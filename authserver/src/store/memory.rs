//! The store in memory: maps under one lock. A revoked grant is taken out of its map; what hangs on it
//! is looked up through the grant, and the next clearing removes it.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{ActiveToken, CodeRedemption, Issued, NewToken, Refresh, StoreError, Upsert};
use crate::clock::UnixTime;
use crate::keys::pepper::KeyedHash;
use crate::oauth::client::{Client, ClientOrigin};
use crate::oauth::code::{Code, CodeVerdict, NewCode};
use crate::oauth::grant::{Grant, GrantId, NewGrant, RefreshToken, RefreshVerdict, Refusal};
use crate::oauth::rate_limit::{Decision, RateLimit, Windows};
use crate::oauth::resource::Resource;
use crate::oauth::scope::Scopes;

/// How many callers' rates are counted at once.
const MAX_RATES: usize = 100_000;
/// What a new caller is told when they are all in use.
const RATES_FULL: Decision = Decision::Refused {
    retry_after: Duration::from_secs(10),
};

/// See the module.
#[derive(Default)]
pub struct MemoryStore(Box<Mutex<State>>);

#[derive(Default)]
struct State {
    clients: BTreeMap<String, Registered>,
    resources: BTreeMap<String, Resource>,
    grants: HashMap<GrantId, Grant>,
    codes: HashMap<KeyedHash, Member<Code>>,
    refresh_tokens: HashMap<KeyedHash, Member<RefreshToken>>,
    access_tokens: HashMap<KeyedHash, Member<AccessToken>>,
    assertions: HashMap<[u8; 32], UnixTime>,
    rates: HashMap<[u8; 32], Rate>,
    signing_key: Option<Vec<u8>>,
}

struct Registered {
    client: Client,
    last_used_at: UnixTime,
}

struct Member<T> {
    grant_id: GrantId,
    it: T,
}

struct AccessToken {
    scopes: Scopes,
    issued_at: UnixTime,
    expires_at: UnixTime,
}

struct Rate {
    windows: Windows,
    expires_at: UnixTime,
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MemoryStore")
    }
}

impl MemoryStore {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn upsert_client(&self, client: &Client, now: UnixTime) -> Upsert {
        let mut state = self.state();
        match state.clients.get_mut(&client.client_id) {
            Some(known) if known.client == *client => Upsert::Unchanged,
            Some(known) => {
                known.client = client.clone();
                Upsert::Updated
            }
            None => {
                let registered = Registered {
                    client: client.clone(),
                    last_used_at: now,
                };
                state.clients.insert(client.client_id.clone(), registered);
                Upsert::Created
            }
        }
    }

    pub(super) fn client(&self, client_id: &str) -> Option<Client> {
        let state = self.state();
        state
            .clients
            .get(client_id)
            .map(|known| known.client.clone())
    }

    pub(super) fn touch_client(&self, client_id: &str, now: UnixTime) {
        if let Some(known) = self.state().clients.get_mut(client_id) {
            known.last_used_at = known.last_used_at.max(now);
        }
    }

    pub(super) fn delete_client(&self, client_id: &str) {
        let mut state = self.state();
        state.clients.remove(client_id);
        state.grants.retain(|_, grant| grant.client_id != client_id);
    }

    pub(super) fn upsert_resource(&self, resource: &Resource) -> Result<Upsert, StoreError> {
        let mut state = self.state();
        let taken = state
            .resources
            .values()
            .any(|other| other.resource == resource.resource && other.id != resource.id);
        if taken {
            return Err(super::resource_taken(resource));
        }
        let before = state.resources.get(&resource.id);
        if before == Some(resource) {
            return Ok(Upsert::Unchanged);
        }
        let before = state
            .resources
            .insert(resource.id.clone(), resource.clone());
        let Some(before) = before else {
            return Ok(Upsert::Created);
        };
        if before.resource != resource.resource {
            state.revoke_resource(&before.resource);
        }
        Ok(Upsert::Updated)
    }

    pub(super) fn resource(&self, id: &str) -> Option<Resource> {
        self.state().resources.get(id).cloned()
    }

    pub(super) fn resources(&self) -> Vec<Resource> {
        self.state().resources.values().cloned().collect()
    }

    pub(super) fn delete_resource(&self, id: &str) {
        let mut state = self.state();
        if let Some(resource) = state.resources.remove(id) {
            state.revoke_resource(&resource.resource);
        }
    }

    pub(super) fn create_authorization(
        &self,
        grant: NewGrant,
        code: &NewCode,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let mut state = self.state();
        state.check_references(&grant)?;
        let member = Member {
            grant_id: grant.id,
            it: Code {
                redirect_uri: code.redirect_uri.clone(),
                code_challenge: code.code_challenge.clone(),
                nonce: code.nonce.clone(),
                expires_at: code.expires_at,
                attempts: 0,
                used: false,
            },
        };
        state.codes.insert(code.hash, member);
        let grant = Grant::new(grant, now, code.expires_at);
        state.grants.insert(grant.id, grant);
        Ok(())
    }

    pub(super) fn redeem_code(
        &self,
        redemption: &CodeRedemption<'_>,
        now: UnixTime,
    ) -> Result<Issued, Refusal> {
        let mut state = self.state();
        let state = &mut *state;
        let member = find(&mut state.codes, redemption.hashes).ok_or(Refusal::Unknown)?;
        let grant = state
            .grants
            .get_mut(&member.grant_id)
            .ok_or(Refusal::Unknown)?;
        match member.it.redeem(grant, &redemption.attempt, now) {
            CodeVerdict::Accept => {}
            CodeVerdict::Refuse(refusal) => return Err(refusal),
            CodeVerdict::Count => {
                member.it.attempts += 1;
                return Err(Refusal::CodeVerifier);
            }
            CodeVerdict::Revoke => {
                state.grants.remove(&member.grant_id);
                return Err(Refusal::Reused);
            }
        }
        member.it.used = true;
        grant.expires_at = redemption.grant_expires_at;
        let issued = Issued::new(
            grant,
            None,
            redemption.access_token,
            member.it.nonce.clone(),
        );
        state.issue(
            &issued,
            redemption.access_token.hash,
            redemption.refresh_token,
            now,
        );
        Ok(issued)
    }

    pub(super) fn refresh(&self, refresh: &Refresh<'_>, now: UnixTime) -> Result<Issued, Refusal> {
        let mut state = self.state();
        let state = &mut *state;
        let member = find(&mut state.refresh_tokens, refresh.hashes).ok_or(Refusal::Unknown)?;
        let grant = state
            .grants
            .get_mut(&member.grant_id)
            .ok_or(Refusal::Unknown)?;
        match member.it.refresh(grant, &refresh.attempt, now) {
            RefreshVerdict::Rotate => grant.rotate(now),
            RefreshVerdict::Sibling => grant.siblings += 1,
            RefreshVerdict::Refuse(refusal) => return Err(refusal),
            RefreshVerdict::Revoke => {
                state.grants.remove(&member.grant_id);
                return Err(Refusal::Reused);
            }
        }
        let issued = Issued::new(grant, refresh.attempt.scopes, refresh.access_token, None);
        state.issue(
            &issued,
            refresh.access_token.hash,
            Some(refresh.refresh_token),
            now,
        );
        Ok(issued)
    }

    pub(super) fn grant_of_refresh_token(
        &self,
        hashes: &[KeyedHash],
        now: UnixTime,
    ) -> Option<Grant> {
        let mut state = self.state();
        let state = &mut *state;
        let member = find(&mut state.refresh_tokens, hashes)?;
        let grant = state.grants.get(&member.grant_id)?;
        (now < member.it.expires_at && now < grant.expires_at).then(|| grant.clone())
    }

    pub(super) fn issue_access_token(
        &self,
        grant: NewGrant,
        access_token: NewToken,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let mut state = self.state();
        state.check_references(&grant)?;
        let grant = Grant::new(grant, now, access_token.expires_at);
        let issued = Issued::new(&grant, None, access_token, None);
        state.issue(&issued, access_token.hash, None, now);
        state.grants.insert(grant.id, grant);
        Ok(())
    }

    pub(super) fn introspect(&self, hashes: &[KeyedHash], now: UnixTime) -> Option<ActiveToken> {
        let state = self.state();
        let (hash, member) = hashes
            .iter()
            .find_map(|hash| Some((hash, state.access_tokens.get(hash)?)))?;
        let grant = state.grants.get(&member.grant_id)?;
        let token = &member.it;
        if now >= token.expires_at {
            return None;
        }
        let resource = state
            .resources
            .values()
            .find(|resource| resource.resource == grant.resource)?;
        Some(ActiveToken {
            grant_id: grant.id,
            client_id: grant.client_id.clone(),
            subject: grant.subject.clone(),
            resource: grant.resource.clone(),
            scopes: token.scopes.clone(),
            issued_at: token.issued_at,
            expires_at: token.expires_at,
            introspectors: resource.introspectors.clone(),
            token_id: hash.public_id(),
        })
    }

    pub(super) fn revoke_access_token(&self, hashes: &[KeyedHash], client_id: &str) {
        let mut state = self.state();
        for hash in hashes {
            let grant_id = state.access_tokens.get(hash).map(|member| member.grant_id);
            if grant_id.is_some_and(|id| state.is_of_client(id, client_id)) {
                state.access_tokens.remove(hash);
            }
        }
    }

    pub(super) fn revoke_refresh_token(&self, hashes: &[KeyedHash], client_id: &str) {
        let mut state = self.state();
        for hash in hashes {
            let grant_id = state.refresh_tokens.get(hash).map(|member| member.grant_id);
            if let Some(id) = grant_id.filter(|id| state.is_of_client(*id, client_id)) {
                state.grants.remove(&id);
            }
        }
    }

    pub(super) fn revoke_grant(&self, id: GrantId) {
        self.state().grants.remove(&id);
    }

    pub(super) fn signing_key_or(&self, sealed: Vec<u8>) -> Vec<u8> {
        self.state().signing_key.get_or_insert(sealed).clone()
    }

    pub(super) fn remember_assertion(
        &self,
        key: [u8; 32],
        expires_at: UnixTime,
        now: UnixTime,
    ) -> bool {
        match self.state().assertions.entry(key) {
            Entry::Occupied(known) if now < *known.get() => false,
            entry => {
                entry.insert_entry(expires_at);
                true
            }
        }
    }

    pub(super) fn hit(&self, key: [u8; 32], limit: RateLimit, now: UnixTime) -> Decision {
        let mut state = self.state();
        if state.rates.len() >= MAX_RATES && !state.rates.contains_key(&key) {
            state.rates.retain(|_, rate| now < rate.expires_at);
            if state.rates.len() >= MAX_RATES {
                return RATES_FULL;
            }
        }
        let rate = state.rates.entry(key).or_insert(Rate {
            windows: Windows::default(),
            expires_at: now,
        });
        let windows = rate.windows.at(limit, now);
        let decision = windows.decide(limit, now);
        if decision == Decision::Allowed {
            rate.windows = windows.plus_one();
            rate.expires_at = limit.forgotten_at(now);
        }
        decision
    }

    pub(super) fn remove_expired(&self, unused_since: UnixTime, now: UnixTime) {
        let mut state = self.state();
        let State {
            clients,
            grants,
            codes,
            refresh_tokens,
            access_tokens,
            assertions,
            rates,
            ..
        } = &mut *state;
        grants.retain(|_, grant| now < grant.expires_at);
        codes.retain(|_, code| grants.contains_key(&code.grant_id));
        refresh_tokens
            .retain(|_, token| now < token.it.expires_at && grants.contains_key(&token.grant_id));
        access_tokens
            .retain(|_, token| now < token.it.expires_at && grants.contains_key(&token.grant_id));
        assertions.retain(|_, expires_at| now < *expires_at);
        rates.retain(|_, rate| now < rate.expires_at);
        let granted: HashSet<&str> = grants
            .values()
            .map(|grant| grant.client_id.as_str())
            .collect();
        clients.retain(|id, known| {
            known.client.origin != ClientOrigin::Dynamic
                || known.last_used_at >= unused_since
                || granted.contains(id.as_str())
        });
    }
}

impl State {
    fn check_references(&self, grant: &NewGrant) -> Result<(), StoreError> {
        let resource_known = self
            .resources
            .values()
            .any(|resource| resource.resource == grant.resource);
        if self.clients.contains_key(&grant.client_id) && resource_known {
            Ok(())
        } else {
            Err(super::reference_gone())
        }
    }

    fn issue(
        &mut self,
        issued: &Issued,
        access_hash: KeyedHash,
        refresh_token: Option<NewToken>,
        now: UnixTime,
    ) {
        let grant_id = issued.grant.id;
        let access_token = AccessToken {
            scopes: issued.scopes.clone(),
            issued_at: now,
            expires_at: issued.access_expires_at,
        };
        let member = Member {
            grant_id,
            it: access_token,
        };
        self.access_tokens.insert(access_hash, member);
        if let Some(token) = refresh_token {
            let it = RefreshToken {
                generation: issued.grant.generation,
                expires_at: token.expires_at.min(issued.grant.expires_at),
            };
            self.refresh_tokens
                .insert(token.hash, Member { grant_id, it });
        }
    }

    fn is_of_client(&self, id: GrantId, client_id: &str) -> bool {
        self.grants
            .get(&id)
            .is_some_and(|grant| grant.client_id == client_id)
    }

    fn revoke_resource(&mut self, resource: &str) {
        self.grants.retain(|_, grant| grant.resource != resource);
    }
}

fn find<'a, T>(
    map: &'a mut HashMap<KeyedHash, Member<T>>,
    hashes: &[KeyedHash],
) -> Option<&'a mut Member<T>> {
    let hash = hashes.iter().find(|hash| map.contains_key(hash))?;
    map.get_mut(hash)
}
