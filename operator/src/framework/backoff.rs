//! How long an object waits after a failed reconcile.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The wait after the first failure.
pub const FIRST: Duration = Duration::from_secs(1);
/// The maximum wait.
pub const LONGEST: Duration = Duration::from_secs(300);

/// The wait after `failures` consecutive failures (1 is the first): it doubles from [`FIRST`] up to [`LONGEST`], and
/// `jitter` (0.0 to 1.0) reduces it by up to a half, so that objects that failed at the same time are not retried at the
/// same time. Never less than [`FIRST`].
pub fn delay(failures: u32, jitter: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let full = FIRST.saturating_mul(1 << doublings).min(LONGEST);
    full.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0).max(FIRST)
}

/// Consecutive failures, by object.
#[derive(Debug)]
pub struct Backoff<K> {
    failures: Mutex<HashMap<K, u32>>,
}

impl<K> Default for Backoff<K> {
    fn default() -> Self {
        Self {
            failures: Mutex::default(),
        }
    }
}

impl<K: Eq + Hash> Backoff<K> {
    /// Counts a failure of `object` and returns the wait before the next attempt.
    pub fn failed(&self, object: K, jitter: f64) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(object).or_insert(0);
        *count = count.saturating_add(1);
        delay(*count, jitter)
    }

    /// Forgets the failures of `object`, because it succeeded or was deleted.
    pub fn succeeded(&self, object: &K) {
        self.failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(object);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_from_one_second_to_five_minutes() {
        let waits: Vec<u64> = (1..=11).map(|n| delay(n, 0.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(delay(u32::MAX, 0.0), LONGEST);
    }

    #[test]
    fn jitter_takes_away_at_most_half_and_keeps_the_bounds() {
        assert_eq!(delay(5, 1.0), Duration::from_secs(8));
        assert_eq!(delay(5, 0.5), Duration::from_secs(12));
        assert_eq!(delay(1, 1.0), FIRST);
        assert_eq!(delay(40, 7.0), LONGEST / 2);
    }

    #[test]
    fn one_object_does_not_slow_another_and_success_forgives() {
        let backoff = Backoff::default();
        for _ in 0..5 {
            backoff.failed("bad", 0.0);
        }
        assert_eq!(backoff.failed("other", 0.0), FIRST);
        assert_eq!(backoff.failed("bad", 0.0), Duration::from_secs(32));
        backoff.succeeded(&"bad");
        assert_eq!(backoff.failed("bad", 0.0), FIRST);
    }
}
