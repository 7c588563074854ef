//! What is made or presented once, and what removes all that has expired.

use std::collections::hash_map::Entry;

use mcpauth_service::clock::UnixTime;

use super::super::Unused;
use super::State;
use crate::keys::rotation::KeyRecord;

impl State {
    pub(super) fn add_signing_keys(&mut self, keys: &[KeyRecord]) {
        for key in keys {
            let mut known = self.signing_keys.iter();
            if known.all(|known| known.slot() != key.slot()) {
                self.signing_keys.push(key.clone());
            }
        }
    }

    pub(super) fn replace_signing_key(&mut self, before: &KeyRecord, after: &KeyRecord) -> bool {
        let known = self.signing_keys.iter_mut().find(|known| *known == before);
        known.map(|known| known.clone_from(after)).is_some()
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
