//! Time: the one place that reads it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Where the program takes the time from. Clones of a manual clock move together.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System {
        origin: Instant,
    },
    Manual {
        started: Duration,
        elapsed_millis: Arc<AtomicU64>,
    },
}

impl Clock {
    /// The system's clocks. The origin of [`Clock::monotonic`] is now.
    pub fn system() -> Self {
        Self(Source::System {
            origin: Instant::now(),
        })
    }

    /// A clock that moves only by [`Clock::advance`] and [`Clock::sleep`]. `started` is the time
    /// since the Unix epoch at which it starts.
    pub fn manual(started: Duration) -> Self {
        Self(Source::Manual {
            started,
            elapsed_millis: Arc::default(),
        })
    }

    /// The time since a fixed origin; never goes back.
    pub fn monotonic(&self) -> Duration {
        match &self.0 {
            Source::System { origin } => origin.elapsed(),
            Source::Manual { elapsed_millis, .. } => {
                Duration::from_millis(elapsed_millis.load(Ordering::SeqCst))
            }
        }
    }

    /// The time since 1970-01-01T00:00:00Z: what an `exp` is compared with.
    pub fn since_epoch(&self) -> Duration {
        match &self.0 {
            Source::System { .. } => system_time(),
            Source::Manual { started, .. } => *started + self.monotonic(),
        }
    }

    /// Waits. On a manual clock the time jumps instead.
    pub async fn sleep(&self, duration: Duration) {
        match &self.0 {
            Source::System { .. } => tokio::time::sleep(duration).await,
            Source::Manual { .. } => self.advance(duration),
        }
    }

    /// Moves a manual clock forward by whole milliseconds, rounded up; the system's cannot be
    /// moved.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual { elapsed_millis, .. } = &self.0 {
            let millis = by.as_nanos().div_ceil(1_000_000);
            elapsed_millis.fetch_add(u64::try_from(millis).unwrap_or(0), Ordering::SeqCst);
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the wall clock"
)]
fn system_time() -> Duration {
    // A clock set before 1970 reads as 1970.
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}
