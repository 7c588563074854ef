//! A request that is killed at any await point, with its pod or its connection, has done everything or nothing, and its
//! client goes on.

use std::time::Duration;

use mcp_authserver::oauth::grant::Refusal;
use mcp_authserver::oauth::token::Token;
use mcpauth_service::clock::UnixTime;
use mcpauth_test_support::postgres::Postgres;

use crate::families::killed_at;
use crate::fixture::{Fixture, GRACE, NOW};

/// More than a refresh has. How many it stops at differs: an answer may have arrived before it is waited for.
const AWAIT_POINTS: usize = 16;
/// So many kills there must be at least: a test without any proves nothing.
const KILLS: usize = 3;

/// The await points, and again until there were enough kills: on a busy machine an answer is often there before it is
/// waited for.
fn next(tried: &mut usize, kills: usize) -> Option<usize> {
    let await_point = *tried % AWAIT_POINTS;
    let more = *tried < AWAIT_POINTS || (kills < KILLS && *tried < 20 * AWAIT_POINTS);
    *tried += 1;
    more.then_some(await_point)
}
const LATER: UnixTime = UnixTime::from_millis(NOW.as_millis() + 1_000_000);

async fn replicas() -> [Fixture; 2] {
    let url = Postgres::shared().create_database().await;
    [Fixture::at(&url).await, Fixture::at(&url).await]
}

/// A token that has been used, its response lost.
async fn used(f: &Fixture) -> Token {
    let first = f.family(NOW).await;
    f.refresh(&first.refresh, NOW).await.unwrap();
    first.refresh
}

async fn unused(f: &Fixture) -> Token {
    f.family(NOW).await.refresh
}

/// Kills a refresh at each await point; the client tries again at the other replica after this time.
async fn survives(prepare: impl AsyncFn(&Fixture) -> Token, retry_after: Duration) {
    let [one, other] = replicas().await;
    let (mut tried, mut kills) = (0, 0);
    while let Some(await_point) = next(&mut tried, kills) {
        let token = prepare(&one).await;
        let killed = killed_at(one.refresh(&token, NOW), await_point).await;
        let retry = NOW.plus(retry_after);
        let tokens = other.refresh(&token, retry).await;
        let tokens = tokens.unwrap_or_else(|error| panic!("killed at {await_point}: {error}"));
        other.refresh(&tokens.refresh, retry).await.unwrap();
        assert!(one.is_active(&tokens.access, retry).await);
        kills += usize::from(killed.is_none());
    }
    assert!(kills >= KILLS, "{kills}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_is_killed_and_repeated_at_once() {
    survives(unused, Duration::from_secs(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_is_killed_and_repeated_after_the_grace_period() {
    survives(unused, GRACE * 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_siblings_refresh_is_killed_and_repeated_after_the_grace_period() {
    survives(used, GRACE * 2).await;
}

/// A response is forgiven once: when that is committed and lost again, the family ends as a whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forgiven_refresh_is_killed() {
    let [one, other] = replicas().await;
    let (mut tried, mut kills) = (0, 0);
    while let Some(await_point) = next(&mut tried, kills) {
        let token = used(&one).await;
        let killed = killed_at(one.refresh(&token, LATER), await_point).await;
        match other.refresh(&token, LATER).await {
            Ok(tokens) => assert!(other.refresh(&tokens.refresh, LATER).await.is_ok()),
            Err(refusal) => assert_eq!(refusal, Refusal::Reused),
        }
        kills += usize::from(killed.is_none());
    }
    assert!(kills >= KILLS, "{kills}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reuse_is_killed_and_found_again() {
    let [one, other] = replicas().await;
    let (mut tried, mut kills) = (0, 0);
    while let Some(await_point) = next(&mut tried, kills) {
        let first = one.family(NOW).await;
        let second = one.refresh(&first.refresh, NOW).await.unwrap();
        let third = one.refresh(&second.refresh, NOW).await.unwrap();
        let killed = killed_at(one.refresh(&first.refresh, LATER), await_point).await;
        let refusal = other.refresh(&first.refresh, LATER).await.unwrap_err();
        assert!(matches!(refusal, Refusal::Reused | Refusal::Unknown));
        assert!(!other.is_active(&third.access, NOW).await);
        kills += usize::from(killed.is_none());
    }
    assert!(kills >= KILLS, "{kills}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redemption_is_killed() {
    let [one, other] = replicas().await;
    let (mut tried, mut kills) = (0, 0);
    while let Some(await_point) = next(&mut tried, kills) {
        let code = one.authorize(NOW).await;
        let killed = killed_at(one.redeem(&code, NOW), await_point).await;
        match other.redeem(&code, NOW).await {
            Ok(tokens) => assert!(other.refresh(&tokens.refresh, NOW).await.is_ok()),
            Err(refusal) => assert_eq!(refusal, Refusal::Reused, "killed at {await_point}"),
        }
        kills += usize::from(killed.is_none());
    }
    assert!(kills >= KILLS, "{kills}");
}
