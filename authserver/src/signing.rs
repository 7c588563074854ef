//! Keeps the signing keys: makes the next ones, seals them under the current pepper, removes those whose tokens have
//! expired, and reads what other replicas have made.

use std::sync::Arc;

use mcpauth_service::admission::Caller;
use mcpauth_service::clock::UnixTime;
use mcpauth_service::heavy;
use mcpauth_wire::admin::SigningKeyState;
use mcpauth_wire::authserver_config::{SigningAlgorithm, SigningKeys};

use crate::keys::pepper::Pepper;
use crate::keys::ring::{KeyRing, OpenKey};
use crate::keys::rotation::{self, KeyRecord, NewKey};
use crate::keys::signing_key::{SigningKey, SigningKeyError};
use crate::metrics::Metrics;
use crate::random::{self, RandomError};
use crate::store::{Store, StoreError};

/// How often it is looked again whether all is done: each time something was, or another replica was faster.
const ATTEMPTS: usize = 4;

/// Why the keys cannot be kept. Those that were read before go on signing.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key cannot be made, sealed or opened.
    #[error(transparent)]
    Key(#[from] SigningKeyError),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The thread that made a key panicked.
    #[error(
        "a signing key was not made, because its thread panicked: report this fault in the program"
    )]
    Panicked,
}

/// The signing keys, and how they rotate.
#[derive(Debug)]
pub struct Signing {
    ring: KeyRing,
    config: SigningKeys,
}

impl Signing {
    /// Without any keys: [`Signing::tend`] reads or makes them.
    pub fn new(config: SigningKeys) -> Self {
        Self {
            ring: KeyRing::default(),
            config,
        }
    }

    /// The keys.
    pub fn ring(&self) -> &KeyRing {
        &self.ring
    }

    /// The algorithms that sign.
    pub fn algorithms(&self) -> &[SigningAlgorithm] {
        &self.config.algorithms
    }

    /// The key for a client that registered this algorithm.
    pub fn signer(
        &self,
        registered: Option<SigningAlgorithm>,
        now: UnixTime,
    ) -> Option<Arc<SigningKey>> {
        let algorithm = self.config.algorithm_for(registered)?;
        self.ring.signer(algorithm, now)
    }

    /// Does what is due. Replicas may do so at once.
    ///
    /// # Errors
    /// When the store is unavailable, or a key in it cannot be opened.
    pub async fn tend(
        &self,
        store: &dyn Store,
        pepper: &Pepper,
        now: UnixTime,
    ) -> Result<(), SigningError> {
        for _ in 0..ATTEMPTS {
            let records = store.signing_keys().await?;
            let records = give_up_lost(store, pepper, records).await?;
            let plan = rotation::plan(&records, &self.config, now);
            if plan.is_empty() && reseal(store, pepper, &records).await? {
                break;
            }
            store
                .add_signing_keys(&make(pepper, plan.create).await?)
                .await?;
            for (before, retired_at) in plan.change {
                let after = KeyRecord {
                    retired_at,
                    ..before.clone()
                };
                store.replace_signing_key(before, &after).await?;
            }
            for key in plan.remove {
                store.remove_signing_key(key).await?;
            }
        }
        self.read(store, pepper).await
    }

    /// Opens what is in the store now.
    async fn read(&self, store: &dyn Store, pepper: &Pepper) -> Result<(), SigningError> {
        let mut open = Vec::new();
        for record in store.signing_keys().await? {
            let key = match self.ring.opened(&record.sealed) {
                Some(key) => key,
                None => Arc::new(SigningKey::open(record.algorithm, pepper, &record.sealed)?),
            };
            open.push(OpenKey { record, key });
        }
        self.ring.set(open);
        Ok(())
    }

    /// Sets the metric.
    pub fn count(&self, metrics: &Metrics, now: UnixTime) {
        let keys = self.ring.states(now);
        for algorithm in SigningAlgorithm::ALL.map(SigningAlgorithm::as_str) {
            for state in SigningKeyState::ALL {
                let same = keys
                    .iter()
                    .filter(|key| key.algorithm == algorithm && key.state == state);
                metrics.signing_keys(algorithm, state.as_str(), same.count());
            }
        }
    }
}

/// Removes the keys that were sealed under a pepper that is given up: nobody can open them.
async fn give_up_lost(
    store: &dyn Store,
    pepper: &Pepper,
    records: Vec<KeyRecord>,
) -> Result<Vec<KeyRecord>, SigningError> {
    let is_lost = |record: &KeyRecord| {
        Pepper::sealed_under(&record.sealed).is_ok_and(|version| pepper.has_lost(version))
    };
    let (lost, kept): (Vec<_>, Vec<_>) = records.into_iter().partition(is_lost);
    for record in lost {
        tracing::warn!(key = ?record, "removing a signing key: its pepper is lost");
        store.remove_signing_key(&record).await?;
    }
    Ok(kept)
}

/// Seals anew what was sealed under another pepper than the current one. False when another replica was faster with one.
async fn reseal(
    store: &dyn Store,
    pepper: &Pepper,
    records: &[KeyRecord],
) -> Result<bool, SigningError> {
    let mut all = true;
    for before in records {
        if Pepper::sealed_under(&before.sealed) == Ok(pepper.current_version()) {
            continue;
        }
        let key = SigningKey::open(before.algorithm, pepper, &before.sealed)?;
        let after = KeyRecord {
            sealed: key.seal(pepper, random::bytes()?)?,
            ..before.clone()
        };
        all &= store.replace_signing_key(before, &after).await?;
    }
    Ok(all)
}

/// Makes keys apart from the threads that serve requests: one for RSA takes a good part of a second.
async fn make(pepper: &Pepper, wanted: Vec<NewKey>) -> Result<Vec<KeyRecord>, SigningError> {
    let mut made = Vec::new();
    for new in wanted {
        let key = heavy::run(Caller::Unknown, move || SigningKey::generate(new.algorithm)).await;
        let key = key.ok_or(SigningError::Panicked)??;
        made.push(KeyRecord {
            algorithm: new.algorithm,
            sequence: new.sequence,
            not_before: new.not_before,
            retired_at: None,
            sealed: key.seal(pepper, random::bytes()?)?,
        });
    }
    Ok(made)
}
