//! Counts of requests, for the limits on them.

use std::time::Duration;

use mcpauth_service::clock::UnixTime;

use super::State;
use crate::oauth::rate_limit::{Decision, RateLimit, Windows};

/// How many rates are kept at once.
const MAX_RATES: usize = 100_000;
/// The answer to a new subject when all are in use.
const RATES_FULL: Decision = Decision::Refused {
    retry_after: Duration::from_secs(10),
};

/// The requests of one subject under one rule.
pub(super) struct Rate {
    windows: Windows,
    expires_at: UnixTime,
}

impl Rate {
    /// Whether it no longer matters.
    pub(super) fn has_expired(&self, now: UnixTime) -> bool {
        now >= self.expires_at
    }
}

impl State {
    pub(super) fn hit(&mut self, key: [u8; 32], limit: RateLimit, now: UnixTime) -> Decision {
        if self.rates.len() >= MAX_RATES && !self.rates.contains_key(&key) {
            self.rates.retain(|_, rate| !rate.has_expired(now));
            if self.rates.len() >= MAX_RATES {
                return RATES_FULL;
            }
        }
        let rate = self.rates.entry(key).or_insert(Rate {
            windows: Windows::default(),
            expires_at: now,
        });
        let windows = rate.windows.at(limit, now);
        let decision = windows.decide(limit, now);
        if decision == Decision::Allowed {
            rate.windows = windows.plus_one();
            rate.expires_at = limit.forgotten_at(now);
        }
        decision
    }
}
