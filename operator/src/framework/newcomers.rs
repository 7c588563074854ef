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
pub const ARRIVING: Duration = Duration::from_millis(500);
/// After which an object waits no longer, however many new ones arrive, as long as it is one of [`AT_ONCE`].
const LONG: Duration = Duration::from_secs(30);
/// How many objects that have waited for [`LONG`] are reconciled at a time, while new ones arrive.
const AT_ONCE: usize = 2;
/// How soon the others look again.
const AGAIN: Duration = Duration::from_secs(1);

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
    /// How many objects are being reconciled that waited for [`LONG`].
    overdue: usize,
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
            overdue: 0,
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

    /// Whether other new objects are being reconciled beside the one that asks.
    pub fn is_one_of_many(&self) -> bool {
        self.lock().arriving > 1
    }

    /// Whether `object` was reconciled before.
    pub fn knows(&self, object: &K) -> bool {
        self.lock().known.contains_key(object)
    }

    /// Lets `object` be reconciled now, until the guard is dropped.
    ///
    /// # Errors
    /// How long it has to wait before it asks again.
    pub fn turn(
        &self,
        object: &K,
        fingerprint: Fingerprint,
        now: Instant,
    ) -> Result<Turn<'_, K>, Duration> {
        let mut objects = self.lock();
        let verdict = objects.verdict(object, fingerprint, now);
        if let Verdict::Wait(wait) = verdict {
            return Err(wait);
        }
        if let Some(known) = objects.known.get_mut(object) {
            known.waits_since = None;
        }
        let overdue = matches!(verdict, Verdict::Overdue);
        objects.overdue += usize::from(overdue);
        Ok(Turn {
            newcomers: self,
            overdue,
        })
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

/// The turn of an object to be reconciled.
#[must_use = "it is over when this is dropped"]
pub struct Turn<'a, K: Eq + Hash> {
    newcomers: &'a Newcomers<K>,
    overdue: bool,
}

impl<K: Eq + Hash> Drop for Turn<'_, K> {
    fn drop(&mut self) {
        if self.overdue {
            self.newcomers.lock().overdue -= 1;
        }
    }
}

enum Verdict {
    Now,
    /// Now, though new objects arrive.
    Overdue,
    Wait(Duration),
}

impl<K: Eq + Hash> Objects<K> {
    fn verdict(&mut self, object: &K, fingerprint: Fingerprint, now: Instant) -> Verdict {
        let last = match self.arriving {
            0 => self.last,
            _ => Some(now),
        };
        let known = self.known.get_mut(object);
        let unchanged = known.filter(|known| known.fingerprint == fingerprint);
        let (Some(known), Some(last)) = (unchanged, last) else {
            return Verdict::Now;
        };
        let quiet = (last + ARRIVING).saturating_duration_since(now);
        if quiet.is_zero() {
            return Verdict::Now;
        }
        let since = *known.waits_since.get_or_insert(now);
        let long = (since + LONG).saturating_duration_since(now);
        match long.is_zero() {
            true if self.overdue < AT_ONCE => Verdict::Overdue,
            true => Verdict::Wait(AGAIN),
            false => Verdict::Wait(quiet.min(long)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn wait(all: &Newcomers<&'static str>, object: &'static str, now: u64) -> Option<Duration> {
        all.turn(&object, now, Instant::now()).err()
    }

    #[tokio::test(start_paused = true)]
    async fn known_objects_wait_until_no_new_one_arrives() {
        let all = Newcomers::default();
        all.reconciled("old", 1);
        let one = all.arriving();
        assert_eq!(wait(&all, "new", 1), None, "it is new itself");
        assert_eq!(wait(&all, "old", 2), None, "it was changed");
        tokio::time::advance(5000 * MS).await;
        assert_eq!(wait(&all, "old", 1), Some(500 * MS));
        drop(one);
        tokio::time::advance(400 * MS).await;
        assert_eq!(wait(&all, "old", 1), Some(100 * MS));
        tokio::time::advance(100 * MS).await;
        assert_eq!(wait(&all, "old", 1), None);
    }

    #[tokio::test(start_paused = true)]
    async fn no_object_waits_for_ever() {
        let all = Newcomers::default();
        all.reconciled("old", 1);
        let _one = all.arriving();
        let start = Instant::now();
        while wait(&all, "old", 1).is_some() {
            tokio::time::advance(100 * MS).await;
        }
        assert_eq!(start.elapsed(), LONG);
        assert!(wait(&all, "old", 1).is_some(), "it waits anew");
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_have_waited_long_leave_room_for_new_ones() {
        let all = Newcomers::default();
        let _one = all.arriving();
        let old = ["a", "b", "c"];
        for object in old {
            all.reconciled(object, 1);
            assert!(wait(&all, object, 1).is_some());
        }
        tokio::time::advance(LONG).await;
        let turns = old.map(|object| all.turn(&object, 1, Instant::now()));
        assert_eq!(turns.iter().filter(|turn| turn.is_ok()).count(), AT_ONCE);
        assert_eq!(turns[2].as_ref().err(), Some(&AGAIN));
        drop(turns);
        assert_eq!(wait(&all, "c", 1), None);
    }

    #[test]
    fn without_new_objects_nothing_waits() {
        let all = Newcomers::default();
        all.reconciled("old", 1);
        assert_eq!(wait(&all, "old", 1), None);
    }
}
