//! Stops guessing at secrets: who has failed too often is refused before the next one is verified.
//!
//! Failures are counted by what is guessed at and by network, so that nobody can lock a client out elsewhere. A network from
//! which the right secret came is never refused: behind a gateway that is the network of everybody.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use moka::sync::Cache;

use crate::http::core::Core;
use crate::http::error::HttpError;
use crate::oauth::rate_limit::{Decision, RateLimit, RateTable};
use crate::store::{StoreError, digest};

/// The rule in the store by which the networks are known that the right secret came from.
const AUTHENTICATED: &str = "authenticated";
/// They are forgotten after one to two days without it.
const REMEMBERED: RateLimit = RateLimit {
    count: NonZeroU32::MIN,
    window: Duration::from_hours(24),
};
/// How long a replica does not tell the store again.
const TOLD: Duration = Duration::from_hours(6);
const MAX_TOLD: u64 = 20_000;

/// The failures that this replica has seen.
#[derive(Debug)]
pub struct Guesses {
    core: Arc<Core>,
    limit: RateLimit,
    failures: Mutex<RateTable>,
    told: Cache<[u8; 32], ()>,
}

/// Guesses at one secret from one network.
#[derive(Debug)]
pub struct Source<'a> {
    guesses: &'a Guesses,
    subject: String,
    key: [u8; 32],
}

impl Guesses {
    /// With so many failures in a minute.
    pub fn new(core: Arc<Core>, failures_per_minute: u32) -> Self {
        Self {
            core,
            limit: RateLimit::per_minute(failures_per_minute),
            failures: Mutex::new(RateTable::new()),
            told: Cache::builder()
                .max_capacity(MAX_TOLD)
                .time_to_live(TOLD)
                .build(),
        }
    }

    /// Guesses at the secret of `id` from this network.
    pub fn of(&self, id: &str, network: IpAddr) -> Source<'_> {
        let subject = format!("{id} {network}");
        Source {
            guesses: self,
            key: digest(&[&subject]),
            subject,
        }
    }
}

impl Source<'_> {
    /// Whether a secret is verified at all.
    ///
    /// # Errors
    /// 429 after too many failures, unless the right secret came from there; 503 when the store is unavailable.
    pub async fn admit(&self) -> Result<(), HttpError> {
        let Guesses {
            core,
            limit,
            failures,
            told,
        } = self.guesses;
        let now = core.clock.now();
        let decision = {
            let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
            failures.peek(&self.key, *limit, now)
        };
        let Decision::Refused { retry_after } = decision else {
            return Ok(());
        };
        let known = told.contains_key(&self.key)
            || core
                .store
                .has_hits(AUTHENTICATED, &self.subject, now)
                .await?;
        match known {
            true => Ok(()),
            false => Err(HttpError::TooManyRequests(retry_after)),
        }
    }

    /// Counts a wrong secret.
    pub fn failed(&self) {
        let Guesses {
            core,
            limit,
            failures,
            ..
        } = self.guesses;
        let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.hit(self.key, *limit, core.clock.now());
    }

    /// Remembers where the right secret came from.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn succeeded(&self) -> Result<(), StoreError> {
        let Guesses { core, told, .. } = self.guesses;
        if told.contains_key(&self.key) {
            return Ok(());
        }
        let now = core.clock.now();
        core.store
            .hit(AUTHENTICATED, &self.subject, REMEMBERED, now)
            .await?;
        told.insert(self.key, ());
        Ok(())
    }
}
