//! What is made or presented once, and what removes all that has expired.

use std::collections::hash_map::Entry;

use mcpauth_service::clock::UnixTime;

use super::super::Unused;
use super::State;

impl State {
    pub(super) fn signing_key_or(&mut self, sealed: Vec<u8>) -> Vec<u8> {
        self.signing_key.get_or_insert(sealed).clone()
    }

    pub(super) fn remember_assertion(
        &mut self,
        key: [u8; 32],
        expires_at: UnixTime,
        now: UnixTime,
    ) -> bool {
        match self.assertions.entry(key) {
            Entry::Occupied(known) if now < *known.get() => false,
            entry => {
                entry.insert_entry(expires_at);
                true
            }
        }
    }

    pub(super) fn remove_expired(&mut self, unused: Unused, now: UnixTime) {
        let State {
            grants,
            codes,
            refresh_tokens,
            families,
            access_tokens,
            assertions,
            rates,
            ..
        } = self;
        grants.retain(|_, grant| now < grant.expires_at);
        codes.retain(|_, code| grants.contains_key(&code.grant_id));
        refresh_tokens.retain(|_, token| {
            now < token.value.expires_at && grants.contains_key(&token.grant_id)
        });
        families.retain(|id, _| grants.contains_key(id));
        access_tokens.retain(|_, token| {
            now < token.value.expires_at && grants.contains_key(&token.grant_id)
        });
        assertions.retain(|_, expires_at| now < *expires_at);
        rates
            .values_mut()
            .for_each(|table| table.remove_expired(now));
        self.remove_unused_clients(unused);
    }
}
