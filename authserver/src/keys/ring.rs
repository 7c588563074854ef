//! The signing keys that this process has opened.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use mcpauth_service::clock::UnixTime;
use mcpauth_wire::admin::{self, SigningKeyState};
use mcpauth_wire::authserver_config::SigningAlgorithm;
use serde_json::{Value, json};

use crate::keys::rotation::{KeyRecord, state};
use crate::keys::signing_key::SigningKey;

/// An opened key, with what the store keeps of it.
#[derive(Clone, Debug)]
pub struct OpenKey {
    /// What the store keeps.
    pub record: KeyRecord,
    /// The key.
    pub key: Arc<SigningKey>,
}

/// All keys that are published. What each of them does follows from the time.
#[derive(Default)]
pub struct KeyRing(RwLock<Arc<Keys>>);

#[derive(Debug, Default)]
struct Keys {
    records: Vec<KeyRecord>,
    keys: Vec<Arc<SigningKey>>,
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.keys().records).finish()
    }
}

impl KeyRing {
    fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces all keys.
    pub fn set(&self, mut open: Vec<OpenKey>) {
        open.sort_by_key(|open| (open.record.algorithm, open.record.not_before));
        let (records, keys) = open.into_iter().map(|open| (open.record, open.key)).unzip();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Keys { records, keys });
    }

    /// The key that has been opened from these sealed bytes.
    pub fn opened(&self, sealed: &[u8]) -> Option<Arc<SigningKey>> {
        let keys = self.keys();
        let at = keys
            .records
            .iter()
            .position(|known| known.sealed == sealed)?;
        keys.keys.get(at).cloned()
    }

    /// The key that signs now: one of this algorithm, or of another while this one's first is only published.
    pub fn signer(&self, algorithm: SigningAlgorithm, now: UnixTime) -> Option<Arc<SigningKey>> {
        let keys = self.keys();
        let active = |wanted: Option<SigningAlgorithm>| {
            let mut all = keys.records.iter().zip(&keys.keys);
            all.find(|(record, _)| {
                wanted.is_none_or(|wanted| record.algorithm == wanted)
                    && state(record, &keys.records, now) == SigningKeyState::Active
            })
        };
        let found = active(Some(algorithm)).or_else(|| active(None));
        found.map(|(_, key)| Arc::clone(key))
    }

    /// The JWK set (RFC 7517): also those that do not sign yet, and no longer.
    pub fn jwks(&self) -> Value {
        let keys: Vec<_> = self
            .keys()
            .keys
            .iter()
            .map(|key| key.public_jwk())
            .collect();
        json!({ "keys": keys })
    }

    /// What each key does at this time.
    pub fn states(&self, now: UnixTime) -> Vec<admin::SigningKey> {
        let keys = self.keys();
        let all = keys.records.iter().zip(&keys.keys);
        all.map(|(record, key)| admin::SigningKey {
            kid: key.key_id().to_owned(),
            algorithm: record.algorithm.as_str().to_owned(),
            state: state(record, &keys.records, now),
            not_before: record.not_before.as_seconds(),
        })
        .collect()
    }
}
