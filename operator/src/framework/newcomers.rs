//! New objects come first: while they arrive, an unchanged object that was reconciled before waits.
//!
//! Each child that is created, and each status that is written, is an event that reconciles its object again. Among a
//! thousand new objects these reconciles would take most of the workers, and most of the API server's time, from the
//! objects that have no children yet.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long after a new object the next one is expected.
const ARRIVING: Duration = Duration::from_millis(500);
/// The longest that an object waits, however many new ones arrive.
const LONGEST: Duration = Duration::from_secs(30);

/// What a reconcile saw of an object: a change of it is reconciled at once.
pub type Fingerprint = u64;

#[derive(Debug)]
struct Known {
    fingerprint: Fingerprint,
    waits_since: Option<Instant>,
}

#[derive(Debug)]
struct Objects<K> {
    /// How many new objects are being reconciled.
    arriving: usize,
    /// When the last one was done.
    last: Option<Instant>,
    known: HashMap<K, Known>,
}

/// The objects that were reconciled.
#[derive(Debug)]
pub struct Newcomers<K>(Mutex<Objects<K>>);

impl<K> Default for Newcomers<K> {
    fn default() -> Self {
        Self(Mutex::new(Objects {
            arriving: 0,
            last: None,
            known: HashMap::new(),
        }))
    }
}

impl<K: Eq + Hash> Newcomers<K> {
    /// Notes that a new object is being reconciled, until the guard is dropped.
    pub fn arriving(&self) -> Arriving<'_, K> {
        self.lock().arriving += 1;
        Arriving(self)
    }

    /// How long `object` has to wait, if it does.
    pub fn wait(&self, object: &K, fingerprint: Fingerprint, now: Instant) -> Option<Duration> {
        let mut objects = self.lock();
        let last = if objects.arriving > 0 {
            Some(now)
        } else {
            objects.last
        };
        let known = objects.known.get_mut(object)?;
        let since = *known.waits_since.get_or_insert(now);
        let wait = match known.fingerprint == fingerprint {
            true => wait(last, since, now),
            false => None,
        };
        if wait.is_none() {
            known.waits_since = None;
        }
        wait
    }

    /// Notes that `object` was reconciled.
    pub fn reconciled(&self, object: K, fingerprint: Fingerprint) {
        let known = Known {
            fingerprint,
            waits_since: None,
        };
        self.lock().known.insert(object, known);
    }

    /// Forgets a deleted object.
    pub fn forget(&self, object: &K) {
        self.lock().known.remove(object);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Objects<K>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A new object that is being reconciled.
#[must_use = "it is over when this is dropped"]
pub struct Arriving<'a, K: Eq + Hash>(&'a Newcomers<K>);

impl<K: Eq + Hash> Drop for Arriving<'_, K> {
    fn drop(&mut self) {
        let mut objects = self.0.lock();
        objects.arriving -= 1;
        objects.last = Some(Instant::now());
    }
}

/// How long an object that waits since `since` waits on, when the last new object was done at `last`.
fn wait(last: Option<Instant>, since: Instant, now: Instant) -> Option<Duration> {
    let quiet_at = last? + ARRIVING;
    let until = quiet_at.min(since + LONGEST);
    until
        .checked_duration_since(now)
        .filter(|wait| !wait.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn known_objects_wait_until_no_new_one_arrives() {
        let all = Newcomers::default();
        let wait = |key, fingerprint| all.wait(&key, fingerprint, Instant::now());
        all.reconciled("old", 1);
        let one = all.arriving();
        assert_eq!(wait("new", 1), None, "it is new itself");
        assert_eq!(wait("old", 2), None, "it was changed");
        tokio::time::advance(5000 * MS).await;
        assert_eq!(wait("old", 1), Some(500 * MS));
        drop(one);
        tokio::time::advance(400 * MS).await;
        assert_eq!(wait("old", 1), Some(100 * MS));
        tokio::time::advance(100 * MS).await;
        assert_eq!(wait("old", 1), None);
    }

    #[tokio::test(start_paused = true)]
    async fn no_object_waits_for_ever() {
        let all = Newcomers::default();
        all.reconciled("old", 1);
        let _one = all.arriving();
        let start = Instant::now();
        while all.wait(&"old", 1, Instant::now()).is_some() {
            tokio::time::advance(100 * MS).await;
        }
        assert_eq!(start.elapsed(), LONGEST);
        assert!(
            all.wait(&"old", 1, Instant::now()).is_some(),
            "it waits anew"
        );
    }

    #[test]
    fn without_new_objects_nothing_waits() {
        let all = Newcomers::default();
        all.reconciled("old", 1);
        assert_eq!(all.wait(&"old", 1, Instant::now()), None);
    }
}
