//! Verifies tokens by asking their source, and caches the results for a short time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest;
use mcpauth_service::admission::{Admission, Bounds, Caller, Place};
use mcpauth_service::clock::Clock;
use moka::sync::Cache;
use tokio::sync::watch;
use tracing::Instrument as _;

use crate::auth::judge::{Judgement, Rejection, Verdict, judge};
use crate::auth::source::{SourceError, TokenSource};
use crate::config;
use crate::metrics::{IntrospectionResult, Lookup, Metrics};
use crate::resource::Resource;

/// How many invalid tokens are remembered.
const INVALID_ENTRIES: u64 = 1024;
/// How long an unused entry is kept. Even an expired entry is useful: it shows that the token was
/// valid recently, so that its next check need not queue with unknown tokens.
const KEPT: Duration = Duration::from_secs(600);
/// Checks of tokens that were valid recently.
const KNOWN: Bounds = Bounds {
    waiting: 2048,
    concurrent: 32,
};
/// Checks of all other tokens. A flood of made-up tokens fills this queue only.
const UNKNOWN: Bounds = Bounds {
    waiting: 256,
    concurrent: 16,
};
/// Requests that wait for the check of a token that another one began: each holds its head.
const JOINED_KNOWN: Bounds = Bounds {
    waiting: 1024,
    concurrent: 1024,
};
/// As many as one subject may have in flight.
const JOINED_UNKNOWN: Bounds = Bounds {
    waiting: 512,
    concurrent: 512,
};
/// How often the token of an open stream is checked.
const STREAM_INTERVAL: Duration = Duration::from_secs(60);

/// SHA-256 of a token. The cache is keyed by it, so that a dump of the process's memory contains
/// few tokens.
type Key = [u8; 32];

/// Checks tokens and caches the results for a moment.
#[derive(Debug)]
pub struct Verifier {
    source: TokenSource,
    resource: Resource,
    window: Duration,
    timeout: Duration,
    clock: Clock,
    metrics: Metrics,
    valid: Cache<Key, Cached>,
    /// Separate, so that a flood of unknown tokens evicts no valid one.
    invalid: Cache<Key, Cached>,
    /// Checks in flight.
    in_flight: Mutex<HashMap<Key, watch::Receiver<Option<Answered>>>>,
    admission: Admission,
    joining: Admission,
}

#[derive(Clone, Debug)]
struct Cached {
    verdict: Verdict,
    /// On the monotonic clock.
    until: Duration,
}

/// The result of a check.
#[derive(Clone, Debug)]
struct Answered {
    /// When the source was asked, on the monotonic clock.
    asked: Duration,
    /// Until when the verdict may be used.
    until: Duration,
    verdict: Verdict,
}

impl Verifier {
    /// With an empty cache.
    pub fn new(
        source: TokenSource,
        config: &config::Introspection,
        resource: Resource,
        clock: Clock,
        metrics: Metrics,
    ) -> Self {
        let cache = |entries: u64| {
            Cache::builder()
                .max_capacity(entries)
                .time_to_live(KEPT)
                .build()
        };
        Self {
            source,
            resource,
            window: Duration::from_millis(config.cache_milliseconds.into()),
            timeout: Duration::from_millis(config.timeout_milliseconds.into()),
            clock,
            metrics,
            valid: cache(config.cache_entries.into()),
            invalid: cache(INVALID_ENTRIES),
            in_flight: Mutex::default(),
            admission: Admission::new(KNOWN, UNKNOWN),
            joining: Admission::new(JOINED_KNOWN, JOINED_UNKNOWN),
        }
    }

    /// The caller that `token` identifies.
    ///
    /// # Errors
    /// The token is not valid, or it cannot be checked.
    pub async fn verify(self: &Arc<Self>, token: &str) -> Verdict {
        let key = key_of(token);
        let arrived = self.clock.monotonic();
        loop {
            if let Some(verdict) = self.cached(&key) {
                return verdict;
            }
            let (mut in_flight, _place) = match self.join(key, token) {
                Joined::Cached(verdict) => return verdict,
                Joined::InFlight(in_flight, place) => (in_flight, place),
                Joined::Full => return self.unavailable(&SourceError::Busy),
            };
            let answered = in_flight.wait_for(Option::is_some).await.ok();
            let Some(answered) = answered.and_then(|answered| answered.clone()) else {
                return Err(Rejection::Unavailable);
            };
            // The check may have started before this request arrived. Its result is used only
            // within the cache's window; otherwise a revoked token would be valid for longer.
            let fresh = answered.asked >= arrived || self.clock.monotonic() < answered.until;
            if fresh || answered.verdict == Err(Rejection::Unavailable) {
                return answered.verdict;
            }
        }
    }

    /// Ends when `token` is no longer valid, or can no longer be checked.
    pub async fn while_valid(self: Arc<Self>, token: String) {
        loop {
            tokio::time::sleep(STREAM_INTERVAL).await;
            if self.verify(&token).await.is_err() {
                return;
            }
        }
    }

    fn cached(&self, key: &Key) -> Option<Verdict> {
        let now = self.clock.monotonic();
        let hit = |cache: &Cache<Key, Cached>| cache.get(key).filter(|hit| now < hit.until);
        if let Some(hit) = hit(&self.valid) {
            self.metrics.lookup(Lookup::Hit);
            return Some(hit.verdict);
        }
        let hit = hit(&self.invalid)?;
        self.metrics.lookup(Lookup::NegativeHit);
        Some(hit.verdict)
    }

    /// Joins the check of this token that is in flight, or starts one.
    fn join(self: &Arc<Self>, key: Key, token: &str) -> Joined {
        let mut in_flight = self
            .in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(question) = in_flight.get(&key) {
            self.metrics.lookup(Lookup::Joined);
            return match self.joining.enter(self.caller(&key)) {
                Some(place) => Joined::InFlight(question.clone(), Some(place)),
                None => Joined::Full,
            };
        }
        // The check may have finished since the cache was read.
        if let Some(verdict) = self.cached(&key) {
            return Joined::Cached(verdict);
        }
        self.metrics.lookup(Lookup::Miss);
        let Some(place) = self.admission.enter(self.caller(&key)) else {
            return Joined::Full;
        };
        let (sender, receiver) = watch::channel(None);
        in_flight.insert(key, receiver.clone());
        let (verifier, token) = (Arc::clone(self), token.to_owned());
        // A separate task, so that the check continues when the client that caused it disconnects.
        let check = async move {
            let answered = verifier.ask(&token, place).await;
            verifier.keep(key, &answered);
            let mut in_flight = verifier
                .in_flight
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            in_flight.remove(&key);
            drop(in_flight);
            sender.send_replace(Some(answered));
        };
        tokio::spawn(check.in_current_span());
        Joined::InFlight(receiver, None)
    }

    fn caller(&self, key: &Key) -> Caller {
        if self.valid.contains_key(key) {
            Caller::Known
        } else {
            Caller::Unknown
        }
    }

    async fn ask(&self, token: &str, place: Place) -> Answered {
        let began = self.clock.monotonic();
        let question = async {
            let _turn = place.turn().await;
            let asked = self.clock.monotonic();
            (asked, self.source.claims(token).await)
        };
        let (asked, claims) = tokio::time::timeout(self.timeout, question)
            .await
            .unwrap_or((began, Err(SourceError::Timeout)));
        let now = self.clock.now().since_epoch();
        let judged = claims.and_then(|claims| judge(claims, &self.resource, now));
        self.metrics.introspection(
            result_of(&judged),
            self.clock.monotonic().saturating_sub(began),
        );
        match judged {
            Ok(Judgement { verdict, remaining }) => {
                self.metrics.available();
                Answered {
                    asked,
                    until: asked + self.window.min(remaining),
                    verdict,
                }
            }
            Err(error) => Answered {
                asked,
                until: asked,
                verdict: self.unavailable(&error),
            },
        }
    }

    fn keep(&self, key: Key, answered: &Answered) {
        let cached = Cached {
            verdict: answered.verdict.clone(),
            until: answered.until,
        };
        match answered.verdict {
            Ok(_) => self.valid.insert(key, cached),
            Err(Rejection::Invalid(_)) => {
                self.valid.invalidate(&key);
                self.invalid.insert(key, cached);
            }
            Err(Rejection::Unavailable) => {}
        }
    }

    fn unavailable(&self, error: &SourceError) -> Verdict {
        // An error is logged once per outage, not once per request.
        if !matches!(error, SourceError::Busy) && self.metrics.unavailable() {
            tracing::error!(
                %error,
                "cannot check tokens; requests whose token is not cached get 503"
            );
        } else {
            tracing::debug!(%error, "cannot check a token");
        }
        Err(Rejection::Unavailable)
    }
}

/// How a request gets a result that is not in the cache.
enum Joined {
    Cached(Verdict),
    InFlight(watch::Receiver<Option<Answered>>, Option<Place>),
    /// Too many requests are waiting.
    Full,
}

fn result_of(judged: &Result<Judgement, SourceError>) -> IntrospectionResult {
    match judged {
        Ok(Judgement { verdict: Ok(_), .. }) => IntrospectionResult::Active,
        Ok(_) => IntrospectionResult::Inactive,
        Err(_) => IntrospectionResult::Failed,
    }
}

fn key_of(token: &str) -> Key {
    let mut key = [0; 32];
    key.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
    key
}
