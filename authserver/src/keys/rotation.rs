//! When signing keys begin, sign, retire and go: pure rules over what the store keeps of them.
//!
//! A key's state follows from times, so that replicas agree without telling each other. A new key is published
//! before it signs, as long as verifiers may keep the set; one that has a successor stays published as long as anything
//! that it has signed may live.

use std::time::Duration;

use mcpauth_service::clock::UnixTime;
use mcpauth_wire::admin::SigningKeyState;
use mcpauth_wire::authserver_config::{ACCESS_TOKEN_SECONDS, SigningAlgorithm, SigningKeys};

/// How long a key is published before it signs; half of the rotation when that is shorter.
const AHEAD: Duration = Duration::from_hours(24);
/// How far the clocks of replicas may be apart: the first keys begin so much earlier, so that each replica can sign at once.
const SKEW: Duration = Duration::from_mins(5);
/// How long a retired key stays published: the longest life of what it signs, and clocks that differ.
pub const RETENTION: Duration = Duration::from_secs(ACCESS_TOKEN_SECONDS.most as u64 + 3600);

/// What the store keeps of a signing key. `Debug` does not show the sealed key.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// Its algorithm.
    pub algorithm: SigningAlgorithm,
    /// Its number among those of its algorithm.
    pub sequence: u32,
    /// When it begins to sign.
    pub not_before: UnixTime,
    /// When its algorithm was taken out of the configuration.
    pub retired_at: Option<UnixTime>,
    /// The private key, sealed under the pepper.
    pub sealed: Vec<u8>,
}

impl KeyRecord {
    /// Its place in the store. Two replicas that make the same next key want the same place, and one gets it.
    pub fn slot(&self) -> String {
        match (self.algorithm, self.sequence) {
            // Where versions that knew one key look for it.
            (SigningAlgorithm::Es256, 0) => "active".to_owned(),
            (algorithm, sequence) => format!("{}-{sequence}", algorithm.as_str()),
        }
    }

    fn order(&self) -> (UnixTime, u32) {
        (self.not_before, self.sequence)
    }
}

impl std::fmt::Debug for KeyRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyRecord")
            .field("slot", &self.slot())
            .field("not_before", &self.not_before)
            .field("retired_at", &self.retired_at)
            .finish_non_exhaustive()
    }
}

/// What a key does at this time, beside all others.
pub fn state(key: &KeyRecord, all: &[KeyRecord], now: UnixTime) -> SigningKeyState {
    let begun = |other: &&KeyRecord| {
        other.algorithm == key.algorithm && other.not_before <= now && other.retired_at.is_none()
    };
    let newest = all.iter().filter(begun).map(KeyRecord::order).max();
    match key.retired_at {
        Some(_) => SigningKeyState::Retired,
        None if now < key.not_before => SigningKeyState::Next,
        None if Some(key.order()) == newest => SigningKeyState::Active,
        None => SigningKeyState::Retired,
    }
}

/// A key that is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// Its algorithm.
    pub algorithm: SigningAlgorithm,
    /// Its number.
    pub sequence: u32,
    /// When it begins to sign.
    pub not_before: UnixTime,
}

/// What is to be done now. Nothing, most of the time.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan<'a> {
    /// Keys to make.
    pub create: Vec<NewKey>,
    /// Keys to store with another `retired_at`.
    pub change: Vec<(&'a KeyRecord, Option<UnixTime>)>,
    /// Keys to remove.
    pub remove: Vec<&'a KeyRecord>,
}

impl Plan<'_> {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.create.is_empty() && self.change.is_empty() && self.remove.is_empty()
    }
}

/// Decides.
pub fn plan<'a>(all: &'a [KeyRecord], config: &SigningKeys, now: UnixTime) -> Plan<'a> {
    let mut plan = Plan::default();
    for algorithm in SigningAlgorithm::ALL {
        let mut keys: Vec<_> = all
            .iter()
            .filter(|key| key.algorithm == algorithm)
            .collect();
        keys.sort_by_key(|key| key.order());
        let replaced = keys
            .windows(2)
            .filter(|pair| pair[1].not_before.plus(RETENTION) <= now);
        plan.remove.extend(replaced.map(|pair| pair[0]));
        let Some(newest) = keys.last().copied() else {
            if config.algorithms.contains(&algorithm) {
                // The first keys of all have no verifiers yet.
                let not_before = match all.is_empty() {
                    true => now.minus(SKEW),
                    false => now.plus(ahead(config)),
                };
                plan.create.push(NewKey {
                    algorithm,
                    sequence: 0,
                    not_before,
                });
            }
            continue;
        };
        let configured = config.algorithms.contains(&algorithm);
        match (configured, newest.retired_at) {
            (true, Some(_)) => plan.change.push((newest, None)),
            (true, None) => plan.create.extend(successor(newest, &keys, config, now)),
            (false, None) => {
                let signing = keys.iter().filter(|key| key.retired_at.is_none());
                plan.change.extend(signing.map(|key| (*key, Some(now))));
            }
            (false, Some(at)) if at.plus(RETENTION) <= now => plan.remove.push(newest),
            (false, Some(_)) => {}
        }
    }
    plan
}

/// The key after the newest, when it is time to publish it.
fn successor(
    newest: &KeyRecord,
    keys: &[&KeyRecord],
    config: &SigningKeys,
    now: UnixTime,
) -> Option<NewKey> {
    let due = newest.not_before.plus(config.rotation());
    if now < due.minus(ahead(config)) {
        return None;
    }
    let sequence = keys.iter().map(|key| key.sequence).max().unwrap_or(0) + 1;
    Some(NewKey {
        algorithm: newest.algorithm,
        sequence,
        not_before: due.max(now.plus(ahead(config))),
    })
}

fn ahead(config: &SigningKeys) -> Duration {
    AHEAD.min(config.rotation() / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use SigningAlgorithm::{Es256, Rs256};

    const START: UnixTime = UnixTime::from_seconds(1_800_000_000);
    const HOUR: Duration = Duration::from_hours(1);
    const DAY: Duration = Duration::from_hours(24);

    fn config(algorithms: &[SigningAlgorithm], rotation_days: u32) -> SigningKeys {
        SigningKeys {
            algorithms: algorithms.to_vec(),
            rotation_days,
        }
    }

    fn made(new: NewKey) -> KeyRecord {
        KeyRecord {
            algorithm: new.algorithm,
            sequence: new.sequence,
            not_before: new.not_before,
            retired_at: None,
            sealed: vec![],
        }
    }

    /// What replicas share.
    #[derive(Default)]
    struct Shared(Vec<KeyRecord>);

    impl Shared {
        /// Does what a replica has planned for what it read.
        fn apply(&mut self, read: &[KeyRecord], config: &SigningKeys, now: UnixTime) {
            let plan = plan(read, config, now);
            for new in plan.create {
                if self.0.iter().all(|key| key.slot() != made(new).slot()) {
                    self.0.push(made(new));
                }
            }
            for (key, retired_at) in plan.change {
                if let Some(known) = self.0.iter_mut().find(|known| *known == key) {
                    known.retired_at = retired_at;
                }
            }
            self.0.retain(|known| !plan.remove.contains(&known));
        }

        fn tend(&mut self, config: &SigningKeys, now: UnixTime) {
            let read = self.0.clone();
            self.apply(&read, config, now);
        }

        fn states(&self, algorithm: SigningAlgorithm, now: UnixTime) -> Vec<SigningKeyState> {
            let mut keys: Vec<_> = self
                .0
                .iter()
                .filter(|key| key.algorithm == algorithm)
                .collect();
            keys.sort_by_key(|key| key.order());
            keys.into_iter()
                .map(|key| state(key, &self.0, now))
                .collect()
        }
    }

    #[test]
    fn next_becomes_active_and_active_retired() {
        use SigningKeyState::{Active, Next, Retired};
        let config = config(&[Es256], 30);
        let mut shared = Shared::default();
        let at = |hours: u32| START.plus(HOUR * hours);
        for (hours, expected) in [
            (0, &[Active][..]),
            (29 * 24 - 1, &[Active]),
            (29 * 24, &[Active, Next]),
            (30 * 24 - 1, &[Active, Next]),
            (30 * 24, &[Retired, Active]),
            (31 * 24, &[Retired, Active]),
            (31 * 24 + 1, &[Active]),
        ] {
            shared.tend(&config, at(hours));
            assert_eq!(shared.states(Es256, at(hours)), expected, "{hours} h");
            shared.tend(&config, at(hours));
            assert_eq!(
                shared.states(Es256, at(hours)),
                expected,
                "again, {hours} h"
            );
        }
    }

    #[test]
    fn a_further_algorithm_is_published_before_it_signs() {
        use SigningKeyState::{Active, Next, Retired};
        let mut shared = Shared::default();
        shared.tend(&config(&[Es256], 30), START);
        let both = config(&[Es256, Rs256], 30);
        shared.tend(&both, START);
        assert_eq!(shared.states(Rs256, START), [Next]);
        let later = START.plus(DAY);
        assert_eq!(shared.states(Rs256, later), [Active]);
        // Taken out, it stays published; put back, it signs again.
        let without = config(&[Es256], 30);
        shared.tend(&without, later);
        assert_eq!(shared.states(Rs256, later), [Retired]);
        shared.tend(&both, later);
        assert_eq!(shared.states(Rs256, later), [Active]);
        shared.tend(&without, later);
        shared.tend(&without, later.plus(RETENTION));
        assert_eq!(shared.states(Rs256, later), []);
        assert_eq!(shared.states(Es256, later), [Active]);
    }

    #[test]
    fn a_key_that_is_overdue_is_replaced_by_one_that_is_published_first() {
        let config = config(&[Es256], 1);
        let mut shared = Shared::default();
        shared.tend(&config, START);
        let late = START.plus(DAY * 90);
        shared.tend(&config, late);
        assert_eq!(shared.0[1].not_before, late.plus(DAY / 2));
    }

    /// Numbers that look random, the same in each run.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (self.0 >> 33) % bound
        }
    }

    /// Three replicas whose clocks are up to two minutes apart read, and write later, in any order, with pauses; what one
    /// signs is verified with the set of another that may have been read half a rotation ago.
    #[test]
    fn whatever_replicas_do_each_token_verifies_until_it_expires() {
        for seed in 0..200 {
            let mut numbers = Numbers(seed);
            let days = [1, 2, 30][(seed % 3) as usize];
            let config = config(&[Es256, Rs256], days);
            let (mut shared, mut now) = (Shared::default(), START);
            let mut read: [Option<Vec<KeyRecord>>; 3] = [const { None }; 3];
            let mut tokens: Vec<(String, UnixTime)> = vec![];
            shared.tend(&config, now);
            let mut published: Vec<(String, UnixTime)> =
                shared.0.iter().map(|key| (key.slot(), now)).collect();
            let first = now;
            for _ in 0..600 {
                let pause = Duration::from_mins(1 + numbers.below(u64::from(days) * 120));
                now = now.plus(pause);
                let replica = usize::try_from(numbers.below(3)).unwrap();
                let clock = now
                    .plus(Duration::from_secs(120))
                    .minus(Duration::from_secs(numbers.below(240)));
                match read[replica].take() {
                    None => read[replica] = Some(shared.0.clone()),
                    Some(seen) => shared.apply(&seen, &config, clock),
                }
                for key in &shared.0 {
                    if published.iter().all(|(slot, _)| *slot != key.slot()) {
                        published.push((key.slot(), now));
                    }
                }
                for algorithm in SigningAlgorithm::ALL {
                    let active: Vec<_> = shared
                        .0
                        .iter()
                        .filter(|key| {
                            key.algorithm == algorithm
                                && state(key, &shared.0, clock) == SigningKeyState::Active
                        })
                        .collect();
                    let [signer] = active.as_slice() else {
                        panic!("{seed}: {} active keys", active.len());
                    };
                    let since = published
                        .iter()
                        .find(|(slot, _)| *slot == signer.slot())
                        .unwrap()
                        .1;
                    assert!(
                        since == first
                            || since.plus(ahead(&config)) <= now.plus(Duration::from_secs(240)),
                        "{seed}: it signs before verifiers know it"
                    );
                    tokens.push((signer.slot(), now.plus(DAY)));
                    let keys = shared
                        .0
                        .iter()
                        .filter(|key| key.algorithm == algorithm)
                        .count();
                    assert!(keys <= 5, "{seed}: {keys} keys");
                }
                tokens.retain(|(_, expires_at)| now < *expires_at);
                for (slot, _) in &tokens {
                    assert!(
                        shared.0.iter().any(|key| key.slot() == *slot),
                        "{seed}: {slot} is gone"
                    );
                }
            }
        }
    }
}
