//! Rate limits.

use std::num::NonZeroU32;
use std::time::Duration;

use futures::future::join_all;
use mcp_authserver::oauth::rate_limit::{Decision, RateLimit};
use mcp_authserver::store::{MemoryStore, Store as _};
use mcpauth_service::clock::UnixTime;

use crate::families::Lcg;
use crate::fixture::{Fixture, NOW};

fn limit(count: u32) -> RateLimit {
    RateLimit::per_minute(NonZeroU32::new(count).unwrap())
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
            f.store.remove_expired(now, now).await.unwrap();
        }
    }
    assert!((100..500).contains(&refused), "{refused} of 600 refused");
}

#[tokio::test]
async fn memory_for_rates_is_bounded_and_new_callers_wait_while_it_is_full() {
    let store = MemoryStore::default();
    let hit = |subject: String, now| {
        let store = &store;
        async move { store.hit("test", &subject, limit(1), now).await.unwrap() }
    };
    for caller in 0..100_000 {
        assert_eq!(hit(caller.to_string(), NOW).await, Decision::Allowed);
    }
    assert_ne!(hit("new".into(), NOW).await, Decision::Allowed);
    assert_ne!(
        hit("0".into(), NOW).await,
        Decision::Allowed,
        "not forgiven"
    );
    let later = NOW.plus(Duration::from_secs(120));
    assert_eq!(hit("new".into(), later).await, Decision::Allowed);
}
