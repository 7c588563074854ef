//! Leader election with a `coordination.k8s.io/v1` Lease.
//!
//! Every write has the `resourceVersion` of the Lease that was read, so if two replicas decide at the same time, only one
//! write succeeds. A holder is considered dead when *we* have seen its Lease unchanged for long enough; its clock is not
//! compared with ours.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, ResourceExt};
use mcpauth_service::clock::Clock;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::random::{self, NoRandomness};
use crate::text::hex;
use crate::time;

/// How long a Lease is valid after its last renewal.
pub const LEASE_DURATION: Duration = Duration::from_secs(15);
/// A leader that could not renew the Lease for this long steps down, before another replica may take over.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Time between attempts.
pub const RETRY_PERIOD: Duration = Duration::from_secs(2);

/// What a replica does next with the Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is free, or its holder has not renewed it in time: take it.
    Acquire,
    /// We hold it: renew it.
    Renew,
    /// Another replica holds it.
    Wait,
}

/// Decides for `identity`, given the Lease that was read and how long it has been unchanged.
pub fn decide(lease: Option<&Lease>, identity: &str, unchanged_for: Duration) -> Decision {
    let Some(spec) = lease.and_then(|l| l.spec.as_ref()) else {
        return Decision::Acquire;
    };
    match spec.holder_identity.as_deref() {
        None | Some("") => Decision::Acquire,
        Some(holder) if holder == identity => Decision::Renew,
        Some(_) => {
            let seconds = spec
                .lease_duration_seconds
                .and_then(|s| u64::try_from(s).ok());
            let duration = seconds.map_or(LEASE_DURATION, Duration::from_secs);
            if unchanged_for > duration {
                Decision::Acquire
            } else {
                Decision::Wait
            }
        }
    }
}

/// The Lease that `identity` writes for `decision` at `now`. The metadata that was read is kept, including
/// `resourceVersion`.
fn desired(lease: Option<Lease>, name: &str, identity: &str, now: Timestamp) -> Lease {
    let mut lease = lease.unwrap_or_else(|| Lease {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        spec: None,
    });
    let before = lease.spec.take().unwrap_or_default();
    let ours = before.holder_identity.as_deref() == Some(identity);
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
        acquire_time: if ours {
            before.acquire_time
        } else {
            Some(MicroTime(now))
        },
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(before.lease_transitions.unwrap_or(0) + i32::from(!ours)),
        ..LeaseSpec::default()
    });
    lease
}

/// A replica's participation in the election.
pub struct Elector {
    api: Api<Lease>,
    name: String,
    identity: String,
    clock: Clock,
    /// The last version seen, and since when.
    observed: Option<(String, Instant)>,
    /// When the last successful attempt began: other replicas count from its write, which may be long before its
    /// response.
    renewed: Instant,
}

/// Why a replica is no longer the leader.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// Another replica holds the Lease.
    #[error("the Lease is held by {0}")]
    Taken(String),
    /// The Lease could not be renewed in time.
    #[error("the Lease could not be renewed in time: {0}")]
    Deadline(String),
}

impl Elector {
    /// `name` tells people which process it is: the pod's name. It need not be unique, because a random part is added:
    /// two processes of the same name never lead together.
    ///
    /// # Errors
    /// The system's random number generator fails.
    pub fn new(
        api: Api<Lease>,
        lease: String,
        name: &str,
        clock: Clock,
    ) -> Result<Self, NoRandomness> {
        Ok(Self {
            api,
            name: lease,
            identity: format!("{name}_{}", hex(&random::bytes()?[..8])),
            clock,
            observed: None,
            renewed: Instant::now(),
        })
    }

    /// What stands in the Lease while this process leads.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// One attempt: reads the Lease, and acquires or renews it if possible. Returns the holder.
    async fn attempt(&mut self) -> Result<String, kube::Error> {
        let lease = self.api.get_opt(&self.name).await?;
        let seen = lease
            .as_ref()
            .and_then(ResourceExt::resource_version)
            .unwrap_or_default();
        let since = match &self.observed {
            Some((version, since)) if *version == seen => *since,
            _ => {
                let now = Instant::now();
                self.observed = Some((seen, now));
                now
            }
        };
        if decide(lease.as_ref(), &self.identity, since.elapsed()) == Decision::Wait {
            return Ok(holder(lease.as_ref()));
        }
        let exists = lease.is_some();
        let next = desired(lease, &self.name, &self.identity, time::now(&self.clock));
        let written = if exists {
            self.api
                .replace(&self.name, &PostParams::default(), &next)
                .await?
        } else {
            self.api.create(&PostParams::default(), &next).await?
        };
        Ok(holder(Some(&written)))
    }

    /// Waits until this replica is the leader. Returns `false` when `stop` came first.
    pub async fn acquire(&mut self, stop: &CancellationToken) -> bool {
        loop {
            let attempted = Instant::now();
            // Cancelling an attempt is safe: if it acquired the Lease, that will expire.
            let attempt = tokio::select! {
                () = stop.cancelled() => return false,
                attempt = tokio::time::timeout(RENEW_DEADLINE, self.attempt()) => attempt,
            };
            match attempt {
                Ok(Ok(holder)) if holder == self.identity => {
                    self.renewed = attempted;
                    return true;
                }
                Ok(Ok(holder)) => {
                    tracing::debug!(holder, "standing by; another replica is the leader");
                }
                Ok(Err(error)) => tracing::warn!(%error, "cannot read or acquire the leader Lease"),
                Err(_) => tracing::warn!("timed out acquiring the leader Lease"),
            }
            tokio::select! {
                () = stop.cancelled() => return false,
                () = tokio::time::sleep(RETRY_PERIOD) => {}
            }
        }
    }

    /// Renews the Lease until it is lost, and returns why. The caller must then stop writing at once, because another
    /// replica may already be the leader.
    pub async fn hold(&mut self) -> Lost {
        let mut problem = String::from("no renewal was attempted");
        loop {
            tokio::time::sleep(RETRY_PERIOD).await;
            let deadline = self.renewed + RENEW_DEADLINE;
            let attempted = Instant::now();
            match tokio::time::timeout_at(deadline, self.attempt()).await {
                Ok(Ok(holder)) if holder == self.identity => self.renewed = attempted,
                Ok(Ok(holder)) => return Lost::Taken(holder),
                Ok(Err(error)) => problem = error.to_string(),
                Err(_) => return Lost::Deadline(problem),
            }
        }
    }

    /// Releases the Lease, so that another replica does not have to wait for it to expire. Call it after the last write
    /// of this process.
    pub async fn release(&mut self) -> Result<(), kube::Error> {
        let Some(mut lease) = self.api.get_opt(&self.name).await? else {
            return Ok(());
        };
        if holder(Some(&lease)) != self.identity {
            return Ok(());
        }
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = None;
        spec.renew_time = Some(MicroTime(time::now(&self.clock)));
        self.api
            .replace(&self.name, &PostParams::default(), &lease)
            .await
            .map(|_| ())
    }
}

fn holder(lease: Option<&Lease>) -> String {
    lease
        .and_then(|l| l.spec.as_ref()?.holder_identity.clone())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use kube::client::Body;
    use serde_json::json;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn lease(holder: Option<&str>) -> Lease {
        Lease {
            metadata: ObjectMeta {
                name: Some("l".into()),
                resource_version: Some("7".into()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: holder.map(str::to_owned),
                lease_duration_seconds: Some(15),
                lease_transitions: Some(3),
                acquire_time: Some(MicroTime(Timestamp::UNIX_EPOCH)),
                ..LeaseSpec::default()
            }),
        }
    }

    #[test]
    fn takes_what_nobody_holds() {
        assert_eq!(decide(None, "a", Duration::ZERO), Decision::Acquire);
        assert_eq!(
            decide(Some(&lease(None)), "a", Duration::ZERO),
            Decision::Acquire
        );
        assert_eq!(
            decide(Some(&lease(Some(""))), "a", Duration::ZERO),
            Decision::Acquire
        );
        let empty = Lease {
            spec: None,
            ..lease(None)
        };
        assert_eq!(decide(Some(&empty), "a", Duration::ZERO), Decision::Acquire);
    }

    #[test]
    fn renews_its_own_however_old() {
        assert_eq!(
            decide(Some(&lease(Some("a"))), "a", 100 * SECOND),
            Decision::Renew
        );
    }

    #[test]
    fn waits_for_a_holder_until_it_was_silent_for_the_leases_duration() {
        let held = lease(Some("b"));
        assert_eq!(decide(Some(&held), "a", Duration::ZERO), Decision::Wait);
        assert_eq!(decide(Some(&held), "a", 15 * SECOND), Decision::Wait);
        assert_eq!(decide(Some(&held), "a", 16 * SECOND), Decision::Acquire);
    }

    #[test]
    fn a_holder_without_a_sane_duration_gets_the_default() {
        let mut held = lease(Some("b"));
        for odd in [None, Some(-1)] {
            held.spec.get_or_insert_default().lease_duration_seconds = odd;
            assert_eq!(decide(Some(&held), "a", 14 * SECOND), Decision::Wait);
            assert_eq!(decide(Some(&held), "a", 16 * SECOND), Decision::Acquire);
        }
    }

    #[test]
    fn every_write_carries_the_resource_version_it_read() {
        let taken = desired(Some(lease(Some("b"))), "l", "a", Timestamp::UNIX_EPOCH);
        assert_eq!(taken.metadata.resource_version.as_deref(), Some("7"));
    }

    #[test]
    fn taking_over_counts_a_transition_and_renewing_does_not() {
        let now = Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(60);
        let taken = desired(Some(lease(Some("b"))), "l", "a", now).spec.unwrap();
        assert_eq!(taken.lease_transitions, Some(4));
        assert_eq!(taken.acquire_time, Some(MicroTime(now)));

        let kept = desired(Some(lease(Some("a"))), "l", "a", now).spec.unwrap();
        assert_eq!(kept.lease_transitions, Some(3));
        assert_eq!(kept.acquire_time, Some(MicroTime(Timestamp::UNIX_EPOCH)));
        assert_eq!(kept.renew_time, Some(MicroTime(now)));
    }

    /// The others count from the write, however late we hear of it.
    #[tokio::test(start_paused = true)]
    async fn who_hears_late_that_it_leads_steps_down_before_its_lease_ends() {
        let requests = AtomicUsize::new(0);
        let api = tower::service_fn(move |_: http::Request<Body>| {
            let number = requests.fetch_add(1, Ordering::SeqCst);
            async move {
                let (code, body) = match number {
                    0 => (
                        404,
                        json!({ "code": 404, "status": "Failure", "reason": "NotFound" }),
                    ),
                    1 => {
                        tokio::time::sleep(9 * SECOND).await;
                        (201, serde_json::to_value(lease(Some("a"))).unwrap())
                    }
                    _ => std::future::pending().await,
                };
                let body = Body::from(body.to_string().into_bytes());
                Ok::<_, Infallible>(http::Response::builder().status(code).body(body).unwrap())
            }
        });
        let leases = Api::namespaced(kube::Client::new(api, "n"), "n");
        let mut elector = Elector::new(leases, "l".into(), "a", Clock::system()).unwrap();
        elector.identity = "a".into();
        let began = Instant::now();
        assert!(elector.acquire(&CancellationToken::new()).await);
        elector.hold().await;
        assert!(began.elapsed() < LEASE_DURATION, "{:?}", began.elapsed());
    }
}
