//! Families of tokens: what begins and ends them.

use std::collections::HashMap;

use mcpauth_service::clock::UnixTime;

use super::super::{CodeRedemption, StoreError, reference_gone};
use super::{AccessToken, Member, State};
use crate::issue::{Issued, Minter};
use crate::keys::pepper::KeyedHash;
use crate::oauth::code::{Code, CodeVerdict, NewCode};
use crate::oauth::grant::{Grant, GrantId, NewGrant, Refusal};
use crate::oauth::refresh::RefreshToken;

impl State {
    pub(super) fn create_authorization(
        &mut self,
        grant: NewGrant,
        code: &NewCode,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        self.check_references(&grant)?;
        let member = Member {
            grant_id: grant.id,
            value: Code {
                redirect_uri: code.redirect_uri.clone(),
                code_challenge: code.code_challenge.clone(),
                nonce: code.nonce.clone(),
                expires_at: code.expires_at,
                attempts: 0,
                used: false,
            },
        };
        self.codes.insert(code.hash, member);
        let grant = Grant::new(grant, now, code.expires_at);
        if let Some(known) = self.clients.get_mut(&grant.client_id) {
            known.granted_until = known.granted_until.max(grant.expires_at);
        }
        self.grants.insert(grant.id, grant);
        Ok(())
    }

    pub(super) fn redeem_code(
        &mut self,
        redemption: &CodeRedemption<'_>,
        now: UnixTime,
    ) -> Result<Result<Issued, Refusal>, StoreError> {
        let Some(member) = find(&mut self.codes, redemption.hashes) else {
            return Ok(Err(Refusal::Unknown));
        };
        let Some(grant) = self.grants.get(&member.grant_id) else {
            return Ok(Err(Refusal::Unknown));
        };
        match member.value.redeem(grant, &redemption.attempt, now) {
            CodeVerdict::Accept => {}
            CodeVerdict::Refuse(refusal) => return Ok(Err(refusal)),
            CodeVerdict::Count => {
                member.value.attempts += 1;
                return Ok(Err(Refusal::CodeVerifier));
            }
            CodeVerdict::Revoke => {
                self.grants.remove(&member.grant_id);
                return Ok(Err(Refusal::Reused));
            }
        }
        let mut grant = grant.clone();
        grant.changed_at = grant.time(now);
        grant.expires_at = redemption.grant_expires_at;
        let nonce = member.value.nonce.clone();
        let issued = redemption.minter.issue(&grant, None, nonce, now)?;
        member.value.used = true;
        rehash(&mut self.codes, redemption.hashes);
        self.store_issued(&issued, None, now);
        Ok(Ok(issued))
    }

    pub(super) fn grant_of(&mut self, hashes: &[KeyedHash], now: UnixTime) -> Option<Grant> {
        let of_refresh_token = find(&mut self.refresh_tokens, hashes)
            .filter(|member| now < member.value.expires_at)
            .map(|member| member.grant_id);
        let of_code = find(&mut self.codes, hashes).map(|member| member.grant_id);
        let grant = self.grants.get(&of_refresh_token.or(of_code)?)?;
        (now < grant.expires_at).then(|| grant.clone())
    }

    pub(super) fn issue_access_token(
        &mut self,
        grant: NewGrant,
        minter: Minter<'_>,
        now: UnixTime,
    ) -> Result<Issued, StoreError> {
        self.check_references(&grant)?;
        let grant = Grant::new(grant, now, now.plus(minter.access));
        let issued = minter.issue(&grant, None, None, now)?;
        self.store_issued(&issued, None, now);
        Ok(issued)
    }

    pub(super) fn revoke_grant(&mut self, id: GrantId) {
        self.grants.remove(&id);
    }

    pub(super) fn revoke_user(&mut self, subject: &str) {
        self.grants
            .retain(|_, grant| grant.subject.as_deref() != Some(subject));
    }

    fn check_references(&self, grant: &NewGrant) -> Result<(), StoreError> {
        let client = self.clients.get(&grant.client_id);
        let owner = client.ok_or_else(reference_gone)?.client.owner();
        let admitted = self.resources.values().any(|resource| {
            resource.resource == grant.resource && resource.allowed_clients.admit(owner)
        });
        admitted.then_some(()).ok_or_else(reference_gone)
    }

    /// Writes the grant and its new tokens. `parent` is the refresh token that was presented.
    pub(super) fn store_issued(
        &mut self,
        issued: &Issued,
        parent: Option<KeyedHash>,
        now: UnixTime,
    ) {
        let grant = issued.grant.clone();
        let grant_id = grant.id;
        let access_token = Member {
            grant_id,
            value: AccessToken {
                scopes: issued.scopes.clone(),
                issued_at: now,
                expires_at: issued.access.expires_at,
            },
        };
        self.access_tokens.insert(issued.access.hash, access_token);
        if let Some(token) = &issued.refresh {
            let value = RefreshToken::new(parent, grant.changed_at, token.expires_at);
            self.refresh_tokens
                .insert(token.hash, Member { grant_id, value });
            self.families.entry(grant_id).or_default().push(token.hash);
        }
        self.grants.insert(grant_id, grant);
    }
}

/// Keeps what has one of these hashes under the first of them, which is the answer.
pub(super) fn rehash<T>(
    map: &mut HashMap<KeyedHash, T>,
    hashes: &[KeyedHash],
) -> Option<KeyedHash> {
    let current = hashes.first()?;
    let known = hashes.iter().find_map(|hash| map.remove(hash))?;
    map.insert(*current, known);
    Some(*current)
}

pub(super) fn find<'a, T>(
    map: &'a mut HashMap<KeyedHash, Member<T>>,
    hashes: &[KeyedHash],
) -> Option<&'a mut Member<T>> {
    let hash = hashes.iter().find(|hash| map.contains_key(hash))?;
    map.get_mut(hash)
}
