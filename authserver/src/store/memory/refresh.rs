//! Refreshing.

use std::time::Duration;

use mcpauth_service::clock::UnixTime;

use super::super::{Refresh, Refreshed, StoreError};
use super::State;
use super::grants::{find, rehash};
use crate::keys::pepper::KeyedHash;
use crate::oauth::grant::{Grant, Refusal};
use crate::oauth::refresh::{Mark, RefreshKind, RefreshToken, RefreshVerdict, surplus};

impl State {
    pub(super) fn refresh(
        &mut self,
        refresh: &Refresh<'_>,
        now: UnixTime,
    ) -> Result<Result<Refreshed, Refusal>, StoreError> {
        let tokens = &mut self.refresh_tokens;
        let known = refresh.hashes.iter().find(|hash| tokens.contains_key(hash));
        let (Some(mut hash), Some(member)) = (known.copied(), find(tokens, refresh.hashes)) else {
            return Ok(Err(Refusal::Unknown));
        };
        let Some(grant) = self.grants.get(&member.grant_id) else {
            return Ok(Err(Refusal::Unknown));
        };
        let kind = match member.value.refresh(grant, &refresh.attempt, now) {
            RefreshVerdict::Grant(kind) => kind,
            RefreshVerdict::Refuse(refusal) => return Ok(Err(refusal)),
            RefreshVerdict::Revoke => {
                self.grants.remove(&member.grant_id);
                return Ok(Err(Refusal::Reused));
            }
        };
        let mut grant = grant.clone();
        grant.changed_at = grant.time(now);
        let scopes = refresh.attempt.scopes;
        let issued = refresh.minter.issue(&grant, scopes, None, now)?;
        if kind == RefreshKind::Rotation {
            hash = self.rehash(&grant, refresh.hashes).unwrap_or(hash);
        }
        self.mark(hash, &grant, kind);
        self.store_issued(&issued, Some(hash), now);
        self.remove_surplus(&grant, refresh.attempt.grace);
        Ok(Ok(Refreshed { issued, kind }))
    }

    /// Keeps a token under the current pepper. It has no successors yet, which would name it by its hash.
    fn rehash(&mut self, grant: &Grant, hashes: &[KeyedHash]) -> Option<KeyedHash> {
        let current = rehash(&mut self.refresh_tokens, hashes)?;
        let family = self.families.get_mut(&grant.id)?.iter_mut();
        for key in family.filter(|key| hashes.contains(key)) {
            *key = current;
        }
        Some(current)
    }

    /// Notes what a refresh with this token means for it and its neighbours.
    fn mark(&mut self, hash: KeyedHash, grant: &Grant, kind: RefreshKind) {
        let time = grant.changed_at;
        match kind {
            RefreshKind::Rotation => {
                let parent = self.member(&hash).and_then(|token| {
                    token.mark = Mark::Used {
                        first: time,
                        successor_used: false,
                    };
                    token.parent
                });
                if let Some(Mark::Used { successor_used, .. }) = parent
                    .and_then(|parent| self.member(&parent))
                    .map(|token| &mut token.mark)
                {
                    *successor_used = true;
                }
            }
            RefreshKind::Sibling => {}
            RefreshKind::LostResponse => {
                for key in self.families.get(&grant.id).into_iter().flatten() {
                    if let Some(member) = self.refresh_tokens.get_mut(key)
                        && (*key == hash || member.value.parent == Some(hash))
                    {
                        member.value.mark = Mark::Void { since: time };
                    }
                }
            }
        }
    }

    fn remove_surplus(&mut self, grant: &Grant, grace: Duration) {
        let State {
            families,
            refresh_tokens,
            ..
        } = self;
        let Some(family) = families.get_mut(&grant.id) else {
            return;
        };
        let tokens: Vec<_> = family
            .iter()
            .filter_map(|key| Some((*key, refresh_tokens.get(key)?.value)))
            .collect();
        for key in surplus(&tokens, grace, grant.changed_at) {
            refresh_tokens.remove(&key);
        }
        family.retain(|key| refresh_tokens.contains_key(key));
    }

    fn member(&mut self, hash: &KeyedHash) -> Option<&mut RefreshToken> {
        Some(&mut self.refresh_tokens.get_mut(hash)?.value)
    }
}
