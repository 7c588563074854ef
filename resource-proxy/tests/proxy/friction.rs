//! Friction on real calls. Its law has tests of its own; these are about the wiring.

use std::time::Duration;

use http::{Method, StatusCode};
use mcpauth_service::clock::Clock;
use serde_json::json;

use crate::common::{World, tool_call};

const FRICTION: &str = "friction: { rate: { calls: 1, periodSeconds: 1 }, warmupCalls: 2, maxDelayMilliseconds: 5000, groups: [{ name: writes, tools: ['create_*'], rate: { calls: 1, periodSeconds: 1 } }] }";

async fn world_with(more: &str) -> World {
    let world = World::with(more).await;
    world.introspection.grant_to("alice", "client", "alice");
    world.introspection.grant_to("bob", "client", "bob");
    world
}

/// Calls again and again; the time that it took.
async fn calls(world: &World, token: &str, tool: &str, number: usize) -> Duration {
    let began = world.clock.monotonic();
    for _ in 0..number {
        assert_eq!(world.call(token, tool).await.status, StatusCode::OK);
    }
    world.clock.monotonic() - began
}

#[tokio::test]
async fn a_tight_loop_is_slowed_to_its_target_and_nothing_is_refused() {
    let world = world_with(FRICTION).await;
    calls(&world, "alice", "read", 60).await;
    let took = calls(&world, "alice", "read", 60).await.as_secs_f64();
    assert!((54.0..=66.0).contains(&took), "{took}");
    assert_eq!(calls(&world, "bob", "read", 2).await, Duration::ZERO);
}

#[tokio::test]
async fn what_calls_no_tool_is_never_slowed() {
    let world = world_with(FRICTION).await;
    calls(&world, "alice", "read", 60).await;
    let began = world.clock.monotonic();
    for _ in 0..10 {
        world
            .post("alice", &json!({"id": 1, "method": "tools/list"}))
            .await;
    }
    assert_eq!(world.clock.monotonic(), began);
}

#[tokio::test]
async fn every_call_of_a_batch_counts() {
    let world = world_with(FRICTION).await;
    let batch = json!(vec![tool_call("read"); 100]);
    assert_eq!(world.post("alice", &batch).await.status, StatusCode::OK);
    assert_eq!(
        world.clock.monotonic(),
        Duration::from_secs(5),
        "the longest delay"
    );
}

#[tokio::test]
async fn a_refused_call_does_not_count() {
    let world = world_with(FRICTION).await;
    world.introspection.grant("reader", "notes:read");
    for _ in 0..100 {
        assert_eq!(
            world.call("reader", "create_note").await.status,
            StatusCode::FORBIDDEN
        );
    }
    assert_eq!(world.clock.monotonic(), Duration::ZERO);
}

#[tokio::test]
async fn a_token_that_is_revoked_while_its_call_waits() {
    let world = world_with(FRICTION).await;
    let batch = json!(vec![tool_call("read"); 100]);
    world.introspection.close();
    let answer = world.post("alice", &batch);
    let revoke = async {
        world.introspection.arrived(1).await;
        world.introspection.open(1);
        world.introspection.arrived(1).await;
        world.introspection.set("alice", &json!({"active": false}));
        world.introspection.open(1);
    };
    let (answer, ()) = tokio::join!(answer, revoke);
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(world.mcp.received().is_empty());
}

#[tokio::test]
async fn a_token_that_is_revoked_before_a_short_wait() {
    let short = FRICTION.replace("5000", "500");
    let world = world_with(&short).await;
    calls(&world, "alice", "read", 1).await;
    world.introspection.set("alice", &json!({"active": false}));
    world.clock.advance(Duration::from_millis(800));
    let batch = json!(vec![tool_call("read"); 100]);
    let answer = world.post("alice", &batch).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(world.mcp.received().len(), 1);
}

#[tokio::test]
async fn what_was_observed_outlives_a_reload() {
    let world = world_with(FRICTION).await;
    calls(&world, "alice", "read", 60).await;
    world.reconfigure(&format!("{FRICTION}\nresourceName: other"));
    assert!(calls(&world, "alice", "read", 5).await > Duration::from_secs(3));
    world.reconfigure("");
    assert_eq!(calls(&world, "alice", "read", 5).await, Duration::ZERO);
}

#[tokio::test]
async fn decisions_are_shown_under_names_of_the_configuration() {
    let world = world_with(FRICTION).await;
    calls(&world, "alice", "create_note", 1).await;
    calls(&world, "alice", "made-up-by-the-client", 1).await;
    let count = |tool| {
        let name = "mcpauth_proxy_friction_delay_seconds_count";
        world.metric(&format!("{name}{{tool=\"{tool}\"}}"))
    };
    assert_eq!((count("writes"), count("other")), (1.0, 1.0));
    let text = world.proxy.runtime().metrics.encode();
    assert!(!text.contains("made-up"), "{text}");
    let target = "mcpauth_proxy_friction_target_calls_per_second{tool=\"writes\"}";
    assert_eq!(world.metric(target), 1.0);
}

#[tokio::test]
async fn a_cancelled_call_releases_its_slot() {
    let world = World::at(Clock::system(), FRICTION).await;
    let mut answer = crate::common::introspection::active("notes:read");
    answer["exp"] = json!(null);
    world.introspection.set("alice", &answer);
    let waiting = || world.metric("mcpauth_proxy_friction_waiting_requests");
    let delays = || world.metric("mcpauth_proxy_friction_delay_seconds_sum{tool=\"read\"}");
    let batch = json!(vec![tool_call("read"); 100]).to_string();
    tokio::select! {
        response = world.begin(world.request(Method::POST, Some("alice")), batch) => panic!("{response:?}"),
        () = async { while waiting() < 1.0 { tokio::task::yield_now().await } } => {}
    }
    while waiting() > 0.0 {
        tokio::task::yield_now().await;
    }
    let before = delays();
    assert!(before > 100.0, "{before}");
    assert_eq!(world.call("alice", "read").await.status, StatusCode::OK);
    assert!(delays() - before < 3.0, "{before} {}", delays());
    assert_eq!(world.mcp.received().len(), 1);
}
