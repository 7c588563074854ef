//! What was hashed and sealed under which version of the pepper.

use std::collections::BTreeMap;

use mcpauth_service::clock::UnixTime;

use super::super::PepperUse;
use super::State;
use crate::keys::pepper::{KeyedHash, Pepper};
use crate::oauth::refresh::Mark;

impl State {
    pub(super) fn replace_secret_hash(
        &mut self,
        client_id: &str,
        before: &KeyedHash,
        after: &KeyedHash,
    ) {
        if let Some(known) = self.clients.get_mut(client_id)
            && known.client.secret_hash == Some(*before)
        {
            known.client.secret_hash = Some(*after);
        }
    }

    pub(super) fn under_other_peppers(
        &self,
        current: u16,
        now: UnixTime,
    ) -> BTreeMap<u16, PepperUse> {
        let mut uses = BTreeMap::<u16, PepperUse>::new();
        let mut of = |version: u16, count: fn(&mut PepperUse) -> &mut u64| {
            if version != current {
                *count(uses.entry(version).or_default()) += 1;
            }
        };
        for (hash, token) in &self.access_tokens {
            if now < token.value.expires_at {
                of(hash.version(), |uses| &mut uses.access_tokens);
            }
        }
        for (hash, token) in &self.refresh_tokens {
            if now < token.value.expires_at && token.value.mark == Mark::Unused {
                of(hash.version(), |uses| &mut uses.refresh_tokens);
            }
        }
        for (hash, code) in &self.codes {
            if now < code.value.expires_at && !code.value.used {
                of(hash.version(), |uses| &mut uses.codes);
            }
        }
        let secrets = self.clients.values();
        for hash in secrets.filter_map(|known| known.client.secret_hash) {
            of(hash.version(), |uses| &mut uses.client_secrets);
        }
        let keys = self.signing_keys.iter();
        for version in keys.filter_map(|key| Pepper::sealed_under(&key.sealed).ok()) {
            of(version, |uses| &mut uses.signing_keys);
        }
        uses
    }
}
