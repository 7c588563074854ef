//! The rate limit's rule: a sliding window made of two fixed ones.
//!
//! Hits are counted in fixed windows. The sliding count is the current window's hits and, of the window
//! before, the share that the sliding window still covers. A refused hit does not count, so that a
//! client that never pauses is served at the limit's rate and not locked out for good.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use hashlink::LruCache;
use mcpauth_service::clock::UnixTime;

/// At most `count` hits in any `window`, to within what two fixed windows can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// How many hits.
    pub count: NonZeroU32,
    /// In how long a time: a millisecond to a day.
    pub window: Duration,
}

/// The answer to a hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Within the limit.
    Allowed,
    /// Over the limit.
    Refused {
        /// After this time a hit is allowed if none is until then.
        retry_after: Duration,
    },
}

impl RateLimit {
    /// `count` hits in a minute, at least one.
    pub const fn per_minute(count: u32) -> Self {
        Self {
            count: match NonZeroU32::new(count) {
                Some(count) => count,
                None => NonZeroU32::MIN,
            },
            window: Duration::from_secs(60),
        }
    }

    pub(crate) fn count(self) -> i64 {
        i64::from(self.count.get())
    }

    /// The window's length in milliseconds, within its bounds.
    pub(crate) fn window_millis(self) -> i64 {
        i64::try_from(self.window.as_millis())
            .unwrap_or(i64::MAX)
            .clamp(1, 86_400_000)
    }

    /// The number of the fixed window that a time lies in.
    pub(crate) fn bucket(self, now: UnixTime) -> i64 {
        now.as_millis().div_euclid(self.window_millis())
    }

    /// When a hit at `now` has no more weight.
    pub(crate) fn forgotten_at(self, now: UnixTime) -> UnixTime {
        UnixTime::from_millis((self.bucket(now) + 2) * self.window_millis())
    }
}

/// The counts of two fixed windows that follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Windows {
    /// The number of the second one.
    pub(crate) bucket: i64,
    /// Hits in the second one.
    pub(crate) current: i64,
    /// Hits in the first one.
    pub(crate) previous: i64,
}

impl Windows {
    /// The same counts as seen at `now`. A time before the counted windows (another replica's clock is
    /// ahead) is taken for the beginning of the second one.
    pub(crate) fn at(self, limit: RateLimit, now: UnixTime) -> Self {
        let bucket = limit.bucket(now);
        match bucket - self.bucket {
            ..=0 => self,
            1 => Self {
                bucket,
                current: 0,
                previous: self.current,
            },
            2.. => Self {
                bucket,
                current: 0,
                previous: 0,
            },
        }
    }

    /// With one more hit.
    pub(crate) fn plus_one(self) -> Self {
        Self {
            current: self.current + 1,
            ..self
        }
    }

    /// Whether one more hit is within the limit. Call on the result of [`Windows::at`].
    pub(crate) fn decide(self, limit: RateLimit, now: UnixTime) -> Decision {
        let window = limit.window_millis();
        let elapsed = (now.as_millis() - self.bucket * window).max(0);
        if self.previous * (window - elapsed) + self.current * window < limit.count() * window {
            return Decision::Allowed;
        }
        let wait = if self.current < limit.count() {
            free_after(self.previous, limit.count() - self.current, window) - elapsed
        } else {
            window - elapsed + free_after(self.current, limit.count(), window)
        };
        Decision::Refused {
            retry_after: Duration::from_millis(u64::try_from(wait).unwrap_or(0)),
        }
    }
}

/// The first millisecond of a window at which the share of `previous` hits is below `free`.
fn free_after(previous: i64, free: i64, window: i64) -> i64 {
    // previous * (window - elapsed) < free * window, solved for elapsed.
    ((previous - free) * window).div_euclid(previous) + 1
}

/// The rates of many subjects under one rule. When it is full, the one that was used longest ago is forgotten: that never
/// refuses newcomers, and a subject under attack is used all the time.
pub(crate) struct RateTable(LruCache<[u8; 32], Rate>);

struct Rate {
    windows: Windows,
    expires_at: UnixTime,
}

impl RateTable {
    /// How many subjects are kept.
    pub(crate) const CAPACITY: usize = 20_000;

    pub(crate) fn new() -> Self {
        Self(LruCache::new(Self::CAPACITY))
    }

    /// Counts a hit, if it is within the limit.
    pub(crate) fn hit(&mut self, key: [u8; 32], limit: RateLimit, now: UnixTime) -> Decision {
        let known = self.0.get(&key).map(|rate| rate.windows);
        let windows = known.unwrap_or_default().at(limit, now);
        let decision = windows.decide(limit, now);
        if decision == Decision::Allowed {
            let rate = Rate {
                windows: windows.plus_one(),
                expires_at: limit.forgotten_at(now),
            };
            self.0.insert(key, rate);
        }
        decision
    }

    /// Whether a hit would be within the limit.
    pub(crate) fn peek(&mut self, key: &[u8; 32], limit: RateLimit, now: UnixTime) -> Decision {
        let known = self.0.get(key).map(|rate| rate.windows);
        known.unwrap_or_default().at(limit, now).decide(limit, now)
    }

    /// Whether the subject has hits that are not forgotten.
    pub(crate) fn has_hits(&mut self, key: &[u8; 32], now: UnixTime) -> bool {
        self.0.get(key).is_some_and(|rate| now < rate.expires_at)
    }

    /// Removes what has no more weight.
    pub(crate) fn remove_expired(&mut self, now: UnixTime) {
        self.0.retain(|_, rate| now < rate.expires_at);
    }
}

impl fmt::Debug for RateTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RateTable({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: UnixTime = UnixTime::from_seconds(60 * 1_000_000);

    fn limit(count: u32) -> RateLimit {
        RateLimit::per_minute(count)
    }

    fn hit(windows: &mut Windows, limit: RateLimit, now: UnixTime) -> Decision {
        let seen = windows.at(limit, now);
        let decision = seen.decide(limit, now);
        if decision == Decision::Allowed {
            *windows = seen.plus_one();
        }
        decision
    }

    #[test]
    fn retry_after_is_neither_too_long_nor_too_short() {
        for (count, offset) in [(1, 0), (3, 0), (3, 59_999), (7, 12_345), (600, 30_000)] {
            let limit = limit(count);
            let mut windows = Windows::default();
            let mut now = START.plus(Duration::from_millis(offset));
            for round in 0..50 {
                let retry_after = loop {
                    match hit(&mut windows, limit, now) {
                        Decision::Allowed => {}
                        Decision::Refused { retry_after } => break retry_after,
                    }
                };
                let just_before = now.plus(retry_after - Duration::from_millis(1));
                assert_ne!(
                    windows.at(limit, just_before).decide(limit, just_before),
                    Decision::Allowed,
                    "limit {count}, round {round}"
                );
                now = now.plus(retry_after);
                assert_eq!(
                    windows.at(limit, now).decide(limit, now),
                    Decision::Allowed,
                    "limit {count}, round {round}"
                );
            }
        }
    }

    #[test]
    fn no_minute_has_more_than_twice_the_limit_and_a_steady_flood_gets_the_limit() {
        let limit = limit(60);
        let mut windows = Windows::default();
        let mut allowed = Vec::new();
        for tick in 0..6_000 {
            let now = START.plus(Duration::from_millis(tick * 100));
            if hit(&mut windows, limit, now) == Decision::Allowed {
                allowed.push(now);
            }
        }
        for (index, time) in allowed.iter().enumerate() {
            let in_window = allowed[index..]
                .iter()
                .take_while(|later| later.since(*time) < limit.window)
                .count();
            assert!(in_window <= 120, "{in_window} hits in a minute");
        }
        assert!((600..=660).contains(&allowed.len()), "{}", allowed.len());
    }

    #[test]
    fn a_replica_whose_clock_is_behind_does_not_reset_the_count() {
        let limit = limit(1);
        let mut windows = Windows::default();
        let ahead = START.plus(Duration::from_secs(60));
        assert_eq!(hit(&mut windows, limit, ahead), Decision::Allowed);
        assert_ne!(hit(&mut windows, limit, START), Decision::Allowed);
        assert_ne!(hit(&mut windows, limit, ahead), Decision::Allowed);
    }
}
