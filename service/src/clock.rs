//! Time: the one place that reads the wall clock, and the form in which time is passed around.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// A point in time: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(i64);

impl UnixTime {
    /// From milliseconds since the epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// From seconds since the epoch (a JWT's NumericDate without its fraction).
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down: what `exp` and `iat` carry.
    pub const fn as_seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This time moved into the future, saturating.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// This time moved into the past, saturating.
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }

    /// How much later this is than `earlier`; zero when it is not later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The time since the epoch; zero before it.
    pub fn since_epoch(self) -> Duration {
        self.since(Self(0))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A program's clock. Clones of a test clock advance together.
#[derive(Clone, Debug)]
pub struct Clock {
    source: Source,
    /// By how many milliseconds a test has advanced the clock; none for the system clock.
    moved: Option<Arc<AtomicU64>>,
}

#[derive(Clone, Copy, Debug)]
enum Source {
    /// The system's clocks; the monotonic one counts from here.
    System { origin: Instant },
    /// Advances only when a test says so.
    Stopped { at: UnixTime },
}

impl Clock {
    /// The system's clocks. The origin of [`Clock::monotonic`] is now.
    pub fn system() -> Self {
        Self {
            source: Source::System {
                origin: Instant::now(),
            },
            moved: None,
        }
    }

    /// For tests: a clock that moves only by [`Clock::advance`] and [`Clock::sleep`].
    pub fn manual(start: UnixTime) -> Self {
        Self {
            source: Source::Stopped { at: start },
            moved: Some(Arc::default()),
        }
    }

    /// For tests: the system's clocks, which [`Clock::advance`] can also advance.
    pub fn shifted() -> Self {
        Self {
            moved: Some(Arc::default()),
            ..Self::system()
        }
    }

    /// The time now.
    pub fn now(&self) -> UnixTime {
        let time = match self.source {
            Source::System { .. } => system_now(),
            Source::Stopped { at } => at,
        };
        match &self.moved {
            Some(_) => time.plus(self.moved()),
            None => time,
        }
    }

    /// The time since a fixed origin; never goes back.
    pub fn monotonic(&self) -> Duration {
        match self.source {
            Source::System { origin } if self.moved.is_none() => origin.elapsed(),
            Source::System { origin } => origin.elapsed() + self.moved(),
            Source::Stopped { .. } => self.moved(),
        }
    }

    /// Waits. A manual clock jumps instead.
    pub async fn sleep(&self, duration: Duration) {
        match self.source {
            Source::System { .. } => tokio::time::sleep(duration).await,
            Source::Stopped { .. } => self.advance(duration),
        }
    }

    /// Moves a test's clock forward by whole milliseconds, rounded up. The system's cannot be moved.
    pub fn advance(&self, by: Duration) {
        if let Some(moved) = &self.moved {
            let millis = by.as_nanos().div_ceil(1_000_000);
            moved.fetch_add(u64::try_from(millis).unwrap_or(0), Ordering::SeqCst);
        }
    }

    fn moved(&self) -> Duration {
        let millis = self
            .moved
            .as_ref()
            .map_or(0, |moved| moved.load(Ordering::SeqCst));
        Duration::from_millis(millis)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the wall clock"
)]
fn system_now() -> UnixTime {
    // A clock set before 1970 reads as 1970.
    UnixTime(millis(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn seconds_round_down_and_differences_never_go_below_zero() {
        let time = UnixTime::from_millis(1_999);
        assert_eq!(time.as_seconds(), 1);
        assert_eq!(time.since_epoch(), Duration::from_millis(1_999));
        assert_eq!(UnixTime::from_millis(-1).as_seconds(), -1);
        assert_eq!(UnixTime::from_millis(-1).since_epoch(), Duration::ZERO);
        assert_eq!(time.plus(2 * SECOND), UnixTime::from_millis(3_999));
        assert_eq!(time.minus(2 * SECOND), UnixTime::from_millis(-1));
        assert_eq!(
            UnixTime::from_millis(0).since(time),
            Duration::ZERO,
            "earlier minus later"
        );
        assert_eq!(
            UnixTime::from_millis(i64::MAX).plus(SECOND),
            UnixTime::from_millis(i64::MAX)
        );
    }

    #[tokio::test]
    async fn clones_of_a_manual_clock_move_together() {
        let clock = Clock::manual(UnixTime::from_seconds(100));
        let other = clock.clone();
        clock.advance(Duration::from_secs(4) + Duration::from_nanos(1));
        clock.sleep(SECOND).await;
        assert_eq!(other.now(), UnixTime::from_millis(105_001));
        assert_eq!(other.monotonic(), Duration::from_millis(5_001));
    }

    #[tokio::test]
    async fn a_shifted_clock_also_runs_by_itself() {
        let (system, clock) = (Clock::system(), Clock::shifted());
        let hour = Duration::from_secs(3600);
        clock.advance(hour);
        system.advance(hour);
        let now = system.now();
        assert!(clock.now() >= now.plus(hour));
        assert!(system.now() < now.plus(hour), "the system's is not moved");
        let before = clock.monotonic();
        assert!(before >= hour);
        clock.sleep(Duration::from_millis(2)).await;
        assert!(clock.monotonic() >= before + Duration::from_millis(2));
    }
}
