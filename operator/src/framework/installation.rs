//! Installations of the operator, and whether one that claims objects is still there.
//!
//! An installation is the namespace and name of its leader Lease: replicas that share a Lease are one installation, of
//! which one writes. The Lease is also the only sign of life of another installation.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client, ResourceExt};
use tokio::time::Instant;

use crate::framework::apply::is_code;
use crate::framework::leader::LEASE_DURATION;
use crate::framework::references::Key;
use crate::text::{explain, is_label};

/// The annotation on an object with the installation that manages it, `NAMESPACE/LEASE`.
pub const CLAIM: &str = "mcpauth.io/claimed-by";
/// A claim lapses when the Lease of its installation has not been renewed for this long. Longer than any upgrade or
/// eviction of an operator takes.
const LAPSE: SignedDuration = SignedDuration::from_mins(5);
/// How long one look at a Lease is good for: a thousand objects of one installation need one.
const LOOK: Duration = Duration::from_secs(5);
/// With more time between two looks, they do not say what was there in between.
const GAP: Duration = Duration::from_secs(180);

/// An installation of the operator.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Installation {
    /// The namespace of its Lease.
    pub namespace: String,
    /// The name of its Lease.
    pub lease: String,
}

impl fmt::Display for Installation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.lease)
    }
}

impl Installation {
    /// The one that a claim names; `None` when it names none, so that nobody can tell whether it is there.
    pub fn parse(claim: &str) -> Option<Self> {
        let (namespace, lease) = claim.split_once('/')?;
        let valid = is_label(namespace) && lease.split('.').all(is_label);
        valid.then(|| Self {
            namespace: namespace.to_owned(),
            lease: lease.to_owned(),
        })
    }
}

/// Whether another installation still manages what it claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Its Lease is renewed, or was until a short time ago.
    Alive,
    /// Its Lease is gone or out of date, but we have not watched it for long enough.
    Silent,
    /// It is gone: its claims have lapsed.
    Lapsed,
    /// We cannot tell, so its claims stay; the text says why.
    Unknown(String),
}

/// Decides from a Lease, which may not exist, and how long we have seen it like this.
///
/// The five minutes are those of two clocks, which may differ by more. So the Lease must not change while we watch
/// either: a holder renews it every few seconds, and creates it anew if it was deleted. Where its time is in our future,
/// because a clock was wrong, five minutes without a change count alone.
fn judge(lease: Option<&Lease>, unchanged_for: Duration, now: Timestamp) -> Holder {
    if unchanged_for > LAPSE.unsigned_abs() {
        return Holder::Lapsed;
    }
    let renewed = lease.and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref());
    if renewed.is_some_and(|renewed| now.duration_since(renewed.0) < LAPSE) {
        return Holder::Alive;
    }
    match unchanged_for > LEASE_DURATION {
        true => Holder::Lapsed,
        false => Holder::Silent,
    }
}

/// What was seen of a Lease.
struct Seen {
    lease: Option<Lease>,
    /// Since when it is like this.
    since: Instant,
    /// When it was last looked at.
    looked: Instant,
}

/// The Leases of other installations.
#[derive(Default)]
pub struct Holders(Mutex<HashMap<Installation, Seen>>);

impl Holders {
    /// Whether `other` is still there.
    ///
    /// # Errors
    /// The API server does not answer.
    pub async fn look(
        &self,
        client: &Client,
        other: &Installation,
        now: Timestamp,
    ) -> Result<Holder, kube::Error> {
        if let Some(known) = self.known(other, now) {
            return Ok(known);
        }
        let leases: Api<Lease> = Api::namespaced(client.clone(), &other.namespace);
        match leases.get_opt(&other.lease).await {
            Ok(lease) => Ok(self.record(other, lease, now)),
            Err(error) if is_code(&error, 403) => Ok(Holder::Unknown(explain(&error))),
            Err(error) => Err(error),
        }
    }

    fn known(&self, other: &Installation, now: Timestamp) -> Option<Holder> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = seen.get(other).filter(|s| s.looked.elapsed() < LOOK)?;
        Some(judge(
            seen.lease.as_ref(),
            seen.looked.duration_since(seen.since),
            now,
        ))
    }

    fn record(&self, other: &Installation, lease: Option<Lease>, now: Timestamp) -> Holder {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let looked = Instant::now();
        let version =
            |lease: &Option<Lease>| lease.as_ref().and_then(ResourceExt::resource_version);
        let before = all.get(other);
        let same = before
            .filter(|seen| seen.looked.elapsed() < GAP && version(&seen.lease) == version(&lease));
        let since = same.map_or(looked, |seen| seen.since);
        let verdict = judge(lease.as_ref(), looked.duration_since(since), now);
        let seen = Seen {
            lease,
            since,
            looked,
        };
        // Whoever may write an object chooses what its claim names, so this must not grow with every value.
        all.retain(|_, seen| seen.looked.elapsed() < GAP);
        all.insert(other.clone(), seen);
        verdict
    }
}

/// Objects that were left alone, each with the claim that an event named.
#[derive(Debug, Default)]
pub struct LeftAlone(Mutex<HashMap<(&'static str, Key), String>>);

impl LeftAlone {
    /// Records the claim on an object, or that it is ours. Returns whether that is news.
    pub fn set(&self, kind: &'static str, object: Key, claim: Option<&str>) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match claim {
            Some(claim) => all.insert((kind, object), claim.to_owned()).as_deref() != Some(claim),
            None => all.remove(&(kind, object)).is_some(),
        }
    }

    /// How many objects of this kind are left alone.
    pub fn count(&self, kind: &'static str) -> usize {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.keys().filter(|(of, _)| *of == kind).count()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::coordination::v1::LeaseSpec;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn renewed(second: Option<i64>) -> Lease {
        Lease {
            spec: Some(LeaseSpec {
                renew_time: second.map(at).map(MicroTime),
                ..LeaseSpec::default()
            }),
            ..Lease::default()
        }
    }

    #[test]
    fn a_claim_names_a_lease() {
        let claim = "mcp-auth-system/mcp-auth-operator";
        assert_eq!(Installation::parse(claim).unwrap().to_string(), claim);
        for bad in ["", "a", "a/", "/b", "a/b/c", "A/b", "a/b?x", "../b"] {
            assert_eq!(Installation::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_claim_lapses_five_minutes_after_the_last_renewal() {
        let lease = renewed(Some(1000));
        for (now, unchanged, holder) in [
            (1001, 0, Holder::Alive),
            (1299, 60, Holder::Alive),
            // A clock that runs ahead of ours.
            (10, 299, Holder::Alive),
            (10, 301, Holder::Lapsed),
            (1300, 0, Holder::Silent),
            (1300, 15, Holder::Silent),
            (1300, 16, Holder::Lapsed),
        ] {
            let judged = judge(Some(&lease), unchanged * SECOND, at(now));
            assert_eq!(judged, holder, "{now} {unchanged}");
        }
    }

    /// A holder whose Lease was deleted creates it again.
    #[test]
    fn a_lease_that_is_missing_or_empty_must_stay_so_for_a_while() {
        for lease in [None, Some(renewed(None)), Some(Lease::default())] {
            let judged = |unchanged| judge(lease.as_ref(), unchanged * SECOND, at(1));
            assert_eq!(judged(0), Holder::Silent);
            assert_eq!(judged(16), Holder::Lapsed);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_whose_clock_is_far_behind_keeps_its_claims_while_it_renews() {
        let holders = Holders::default();
        let other = Installation::parse("a/b").unwrap();
        let version = |version: u32| {
            let mut lease = renewed(Some(0));
            lease.metadata.resource_version = Some(version.to_string());
            Some(lease)
        };
        for renewal in 0..10 {
            let seen = holders.record(&other, version(renewal), at(100_000));
            assert_eq!(seen, Holder::Silent);
            tokio::time::advance(10 * SECOND).await;
        }
        assert_eq!(
            holders.record(&other, version(9), at(100_000)),
            Holder::Silent
        );
        tokio::time::advance(10 * SECOND).await;
        assert_eq!(
            holders.record(&other, version(9), at(100_000)),
            Holder::Lapsed
        );
        assert_eq!(
            holders.record(&other, version(10), at(100_000)),
            Holder::Silent
        );
    }
}
