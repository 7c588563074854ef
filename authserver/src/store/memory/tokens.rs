//! Introspection and revocation of single tokens.

use mcpauth_service::clock::UnixTime;

use super::super::{ActiveToken, Extent};
use super::State;
use crate::keys::pepper::KeyedHash;
use crate::oauth::grant::GrantId;

impl State {
    pub(super) fn introspect(
        &self,
        hashes: &[KeyedHash],
        extent: Extent,
        now: UnixTime,
    ) -> Option<ActiveToken> {
        let (hash, member) = hashes
            .iter()
            .find_map(|hash| Some((hash, self.access_tokens.get(hash)?)))?;
        let grant = self.grants.get(&member.grant_id)?;
        let token = &member.value;
        if now >= token.expires_at {
            return None;
        }
        let resource = self
            .resources
            .values()
            .find(|resource| resource.resource == grant.resource)?;
        let grantable = || {
            let client = self.clients.get(&grant.client_id);
            client.and_then(|known| known.client.scopes_at(resource))
        };
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
            grantable: (extent == Extent::Grantable).then(|| grantable().unwrap_or_default()),
        })
    }

    pub(super) fn revoke_access_token(&mut self, hashes: &[KeyedHash], client_id: &str) {
        for hash in hashes {
            let grant_id = self.access_tokens.get(hash).map(|member| member.grant_id);
            if grant_id.is_some_and(|id| self.is_of_client(id, client_id)) {
                self.access_tokens.remove(hash);
            }
        }
    }

    pub(super) fn revoke_refresh_token(&mut self, hashes: &[KeyedHash], client_id: &str) {
        for hash in hashes {
            let grant_id = self.refresh_tokens.get(hash).map(|member| member.grant_id);
            if let Some(id) = grant_id.filter(|id| self.is_of_client(*id, client_id)) {
                self.grants.remove(&id);
            }
        }
    }

    fn is_of_client(&self, id: GrantId, client_id: &str) -> bool {
        self.grants
            .get(&id)
            .is_some_and(|grant| grant.client_id == client_id)
    }
}
