//! Rate limits.

use std::time::Duration;

use futures::future::join_all;
use mcp_authserver::oauth::rate_limit::{Decision, RateLimit};
use mcp_authserver::store::{MemoryStore, Store as _};
use mcpauth_service::clock::UnixTime;

use crate::families::Lcg;
use crate::fixture::{Fixture, NOW};

fn limit(count: u32) -> RateLimit {
    RateLimit::per_minute(count)
}

async fn hit(f: &Fixture, subject: &str, limit: RateLimit, now: UnixTime) -> Decision {
    f.store.hit("test", subject, limit, now).await.unwrap()
}

pub async fn sixteen_way_race_on_the_last_hits(f: &Fixture) {
    let hits = join_all((0..16).map(|_| hit(f, "raced", limit(5), NOW))).await;
    let allowed = hits.iter().filter(|hit| **hit == Decision::Allowed).count();
    assert_eq!(allowed, 5);
    assert_eq!(hit(f, "another", limit(5), NOW).await, Decision::Allowed);
    let other_rule = f.store.hit("other", "raced", limit(5), NOW).await.unwrap();
    assert_eq!(other_rule, Decision::Allowed);
}

pub async fn a_refused_hit_does_not_count(f: &Fixture) {
    assert_eq!(hit(f, "x", limit(1), NOW).await, Decision::Allowed);
    let mut waits = vec![];
    for _ in 0..10 {
        match hit(f, "x", limit(1), NOW).await {
            Decision::Allowed => panic!("over the limit"),
            Decision::Refused { retry_after } => waits.push(retry_after),
        }
    }
    waits.dedup();
    let [retry_after] = waits[..] else {
        panic!("{waits:?}");
    };
    let just_before = NOW.plus(retry_after - Duration::from_millis(1));
    assert_ne!(hit(f, "x", limit(1), just_before).await, Decision::Allowed);
    let then = NOW.plus(retry_after);
    assert_eq!(hit(f, "x", limit(1), then).await, Decision::Allowed);
}

/// Random hits, the clock going forth and sometimes back, are answered as the memory store answers them,
/// which asks the rule itself.
pub async fn the_rule_is_the_same_everywhere(f: &Fixture) {
    let reference = MemoryStore::default();
    let mut random = Lcg(7);
    let mut now = NOW;
    let mut refused = 0;
    for step in 0..600 {
        now = match random.below(20) {
            0 => now.minus(Duration::from_millis(random.below(70_000))),
            1 => now.plus(Duration::from_millis(random.below(200_000))),
            _ => now.plus(Duration::from_millis(random.below(4_000))),
        };
        let expected = reference.hit("test", "x", limit(9), now).await.unwrap();
        assert_eq!(hit(f, "x", limit(9), now).await, expected, "step {step}");
        refused += usize::from(expected != Decision::Allowed);
        if random.below(50) == 0 {
            f.remove_expired(now).await;
        }
    }
    assert!((100..500).contains(&refused), "{refused} of 600 refused");
}

pub async fn hits_are_remembered_for_the_limits_window(f: &Fixture) {
    let known =
        async |rule: &str, subject: &str, now| f.store.has_hits(rule, subject, now).await.unwrap();
    assert!(!known("test", "x", NOW).await);
    hit(f, "x", limit(1), NOW).await;
    assert!(known("test", "x", NOW).await);
    assert!(known("test", "x", NOW.plus(Duration::from_secs(59))).await);
    assert!(!known("test", "x", NOW.plus(Duration::from_secs(120))).await);
    assert!(!known("other", "x", NOW).await);
    assert!(!known("test", "y", NOW).await);
}

#[tokio::test]
async fn memory_for_rates_is_bounded_and_newcomers_are_never_refused() {
    let store = MemoryStore::default();
    let hit =
        async |rule: &str, subject: &str| store.hit(rule, subject, limit(1), NOW).await.unwrap();
    assert_eq!(hit("other", "kept").await, Decision::Allowed);
    for caller in 0..100_000 {
        assert_eq!(hit("test", &caller.to_string()).await, Decision::Allowed);
        // Whoever is limited all the time is not forgotten.
        if caller > 0 {
            assert_ne!(hit("test", "0").await, Decision::Allowed, "{caller}");
        }
    }
    assert_eq!(hit("test", "1").await, Decision::Allowed, "forgotten");
    assert_ne!(hit("other", "kept").await, Decision::Allowed);
}
