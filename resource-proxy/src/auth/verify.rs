//! Whether a token is good: the judgement, and the memory of it.

mod lanes;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest;
use mcpauth_wire::introspection::{Answer, OneOrMany};
use moka::sync::Cache;
use tokio::sync::watch;

use crate::auth::introspection::{IntrospectionError, Introspector};
use crate::clock::Clock;
use crate::config;
use crate::metrics::{IntrospectionResult, Lookup, Metrics};
use crate::resource::Resource;
use lanes::{Lane, Lanes};

/// How many tokens are remembered that were no good.
const BAD_ENTRIES: u64 = 1024;
/// How long an entry is kept that is not used: that a token was good tells who it is worth asking
/// for.
const KEPT: Duration = Duration::from_secs(600);

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The `client_id`.
    pub client_id: String,
    /// The `sub`; the client itself where there is none.
    pub subject: String,
    /// The scopes of the token.
    pub scopes: Vec<String>,
}

/// Why there is no identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The token is no good, with the reason for the client.
    Invalid(&'static str),
    /// Nobody knows: the authorization server gives no answer.
    Unavailable,
}

/// A judgement about a token.
pub type Verdict = Result<Arc<Identity>, Rejection>;

type Key = [u8; 32];

/// Checks tokens and remembers the result for a moment.
#[derive(Debug)]
pub struct Verifier {
    introspector: Introspector,
    resource: Resource,
    window: Duration,
    timeout: Duration,
    clock: Clock,
    metrics: Metrics,
    good: Cache<Key, Remembered>,
    /// Apart, so that a flood of unknown tokens pushes no good one out.
    bad: Cache<Key, Remembered>,
    /// Questions that are under way, by token.
    flights: Mutex<HashMap<Key, watch::Receiver<Option<Landed>>>>,
    lanes: Lanes,
}

#[derive(Clone, Debug)]
struct Remembered {
    verdict: Verdict,
    /// On the monotonic clock.
    until: Duration,
}

#[derive(Clone, Debug)]
struct Landed {
    /// When the question was asked, on the monotonic clock.
    asked: Duration,
    /// Until when the verdict holds.
    until: Duration,
    verdict: Verdict,
}

impl Verifier {
    /// With an empty memory.
    pub fn new(
        introspector: Introspector,
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
            introspector,
            resource,
            window: Duration::from_millis(config.cache_milliseconds.into()),
            timeout: Duration::from_millis(config.timeout_milliseconds.into()),
            clock,
            metrics,
            good: cache(config.cache_entries.into()),
            bad: cache(BAD_ENTRIES),
            flights: Mutex::default(),
            lanes: Lanes::new(),
        }
    }

    /// Who may use `token`, and for what.
    ///
    /// # Errors
    /// The token is no good, or nobody knows.
    pub async fn verify(self: &Arc<Self>, token: &str) -> Verdict {
        let key = digest_of(token);
        let arrived = self.clock.monotonic();
        loop {
            if let Some(verdict) = self.remembered(&key) {
                return verdict;
            }
            let mut flight = match self.join(key, token) {
                Joined::Remembered(verdict) => return verdict,
                Joined::Flight(flight) => flight,
                Joined::Full => return self.unavailable(&IntrospectionError::Busy),
            };
            let landed = flight.wait_for(Option::is_some).await.ok();
            let Some(landed) = landed.and_then(|landed| landed.clone()) else {
                return Err(Rejection::Unavailable);
            };
            // Who joined a slow question late gets an answer that was perhaps given before: it
            // counts only within the window, else a revoked token would live longer than that.
            let fresh = landed.asked >= arrived || self.clock.monotonic() < landed.until;
            if fresh || landed.verdict == Err(Rejection::Unavailable) {
                return landed.verdict;
            }
        }
    }

    fn remembered(&self, key: &Key) -> Option<Verdict> {
        let now = self.clock.monotonic();
        let hit = |cache: &Cache<Key, Remembered>| cache.get(key).filter(|hit| now < hit.until);
        if let Some(hit) = hit(&self.good) {
            self.metrics.lookup(Lookup::Hit);
            return Some(hit.verdict);
        }
        let hit = hit(&self.bad)?;
        self.metrics.lookup(Lookup::NegativeHit);
        Some(hit.verdict)
    }

    /// Takes part in the question about this token, or starts it.
    fn join(self: &Arc<Self>, key: Key, token: &str) -> Joined {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(&key) {
            self.metrics.lookup(Lookup::Joined);
            return Joined::Flight(flight.clone());
        }
        // A question may have landed between our look at the cache and the lock.
        if let Some(verdict) = self.remembered(&key) {
            return Joined::Remembered(verdict);
        }
        self.metrics.lookup(Lookup::Miss);
        let Some(place) = self.lanes.place(self.lane(&key)) else {
            return Joined::Full;
        };
        let (sender, receiver) = watch::channel(None);
        flights.insert(key, receiver.clone());
        let (verifier, token) = (Arc::clone(self), token.to_owned());
        // A task of its own: the question goes on when the client that asked first goes away.
        tokio::spawn(async move {
            let landed = verifier.ask(&token, place).await;
            verifier.remember(key, &landed);
            let mut flights = verifier
                .flights
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            flights.remove(&key);
            drop(flights);
            sender.send_replace(Some(landed));
        });
        Joined::Flight(receiver)
    }

    /// A token that was good a moment ago does not queue behind those that nobody has seen.
    fn lane(&self, key: &Key) -> Lane {
        if self.good.contains_key(key) {
            Lane::Known
        } else {
            Lane::Unknown
        }
    }

    async fn ask(&self, token: &str, place: lanes::Place) -> Landed {
        let began = self.clock.monotonic();
        let question = async {
            let _turn = place.turn().await;
            let asked = self.clock.monotonic();
            (asked, self.introspector.introspect(token).await)
        };
        let (asked, answer) = tokio::time::timeout(self.timeout, question)
            .await
            .unwrap_or((began, Err(IntrospectionError::Timeout)));
        let now = self.clock.since_epoch();
        let judged = answer.and_then(|answer| judge(answer, &self.resource, now));
        self.metrics.introspection(
            result_of(&judged),
            self.clock.monotonic().saturating_sub(began),
        );
        match judged {
            Ok(Judgement { verdict, remaining }) => {
                self.metrics.available();
                Landed {
                    asked,
                    until: asked + self.window.min(remaining),
                    verdict,
                }
            }
            Err(error) => Landed {
                asked,
                until: asked,
                verdict: self.unavailable(&error),
            },
        }
    }

    fn remember(&self, key: Key, landed: &Landed) {
        let remembered = Remembered {
            verdict: landed.verdict.clone(),
            until: landed.until,
        };
        match landed.verdict {
            Ok(_) => self.good.insert(key, remembered),
            Err(Rejection::Invalid(_)) => {
                self.good.invalidate(&key);
                self.bad.insert(key, remembered);
            }
            Err(Rejection::Unavailable) => {}
        }
    }

    fn unavailable(&self, error: &IntrospectionError) -> Verdict {
        // Once for each outage: a flood of requests must not become a flood of lines.
        if !matches!(error, IntrospectionError::Busy) && self.metrics.unavailable() {
            tracing::error!(%error, "tokens cannot be checked; requests without a cached token get 503");
        } else {
            tracing::debug!(%error, "no introspection");
        }
        Err(Rejection::Unavailable)
    }
}

enum Joined {
    Remembered(Verdict),
    Flight(watch::Receiver<Option<Landed>>),
    Full,
}

#[derive(Debug, PartialEq)]
struct Judgement {
    verdict: Verdict,
    /// How long the token still lives.
    remaining: Duration,
}

/// Judges an answer. `now` is the time since the epoch.
fn judge(
    answer: Answer,
    resource: &Resource,
    now: Duration,
) -> Result<Judgement, IntrospectionError> {
    let invalid = |reason| {
        Ok(Judgement {
            verdict: Err(Rejection::Invalid(reason)),
            remaining: Duration::MAX,
        })
    };
    if !answer.active {
        return invalid("the token is expired, revoked or unknown");
    }
    let audiences = answer.aud.as_ref().map_or(&[][..], OneOrMany::as_slice);
    if !audiences.iter().any(|aud| resource.is_audience(aud)) {
        return invalid("the token is for another resource");
    }
    let is_bearer = answer
        .token_type
        .is_none_or(|kind| kind.eq_ignore_ascii_case("bearer"));
    if !is_bearer || answer.cnf.is_some() {
        // Nobody proves a key to us: who has stolen the token would get through.
        return invalid("the token is not a bearer token");
    }
    let remaining = match answer.exp {
        None => Duration::MAX,
        Some(exp) => Duration::try_from_secs_f64(exp.max(0.0))
            .unwrap_or(Duration::MAX)
            .saturating_sub(now),
    };
    if remaining.is_zero() {
        return invalid("the token is expired");
    }
    let client_id = answer.client_id.or_else(|| answer.sub.clone());
    let Some(client_id) = client_id else {
        let reason = "it names neither client_id nor sub";
        return Err(IntrospectionError::Malformed(reason.into()));
    };
    let scopes = answer.scope.as_ref().map_or(&[][..], OneOrMany::as_slice);
    let identity = Identity {
        subject: answer.sub.unwrap_or_else(|| client_id.clone()),
        client_id,
        scopes: scopes
            .iter()
            .flat_map(|scope| scope.split_ascii_whitespace())
            .map(str::to_owned)
            .collect(),
    };
    Ok(Judgement {
        verdict: Ok(Arc::new(identity)),
        remaining,
    })
}

fn result_of(judged: &Result<Judgement, IntrospectionError>) -> IntrospectionResult {
    match judged {
        Ok(Judgement { verdict: Ok(_), .. }) => IntrospectionResult::Active,
        Ok(_) => IntrospectionResult::Inactive,
        Err(_) => IntrospectionResult::Failed,
    }
}

/// Tokens are remembered by their hash, so that a dump of our memory has few of them.
fn digest_of(token: &str) -> Key {
    let mut key = [0; 32];
    key.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
    key
}

#[cfg(test)]
mod tests;
