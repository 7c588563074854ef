//! Friction on real calls. Its law has tests of its own; these are about the wiring.

use std::time::Duration;

use http::{Method, StatusCode};
use mcp_resource_proxy::limits::friction::{Caller, Counted, Friction, FrictionConfig, Per, Rate};
use mcpauth_service::clock::Clock;
use serde_json::{Value, json};

use crate::common::upstream::STATE;
use crate::common::{Answer, World, tool_call};

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
async fn what_any_token_may_call_is_never_slowed() {
    let world = world_with(FRICTION).await;
    calls(&world, "alice", "read", 60).await;
    let began = world.clock.monotonic();
    for method in ["tools/list", "ping", "notifications/progress"] {
        for _ in 0..60 {
            let message = json!({"id": 1, "method": method});
            world.post("alice", &message).await;
        }
    }
    assert_eq!(world.clock.monotonic(), began);
}

#[tokio::test]
async fn guarded_methods_besides_tool_calls_are_slowed_too() {
    let world = world_with(FRICTION).await;
    for (method, params) in [
        ("resources/read", json!({"uri": "notes://1"})),
        ("prompts/get", json!({"name": "p"})),
        ("acme/export", json!({})),
    ] {
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        for _ in 0..60 {
            world.post("alice", &message).await;
        }
        let began = world.clock.monotonic();
        for _ in 0..20 {
            let answer = world.post("alice", &message).await;
            assert_eq!(answer.status, StatusCode::OK, "{method}");
        }
        let took = (world.clock.monotonic() - began).as_secs_f64();
        assert!((18.0..=22.0).contains(&took), "{method}: {took}");
    }
}

#[tokio::test]
async fn more_client_ids_are_no_way_out() {
    let world = world_with(FRICTION).await;
    for n in 0..64 {
        world
            .introspection
            .grant_to(&format!("token-{n}"), &format!("client-{n}"), "alice");
    }
    for n in 0..64 {
        calls(&world, &format!("token-{n}"), "read", 1).await;
    }
    let began = world.clock.monotonic();
    for n in 0..32 {
        calls(&world, &format!("token-{n}"), "read", 1).await;
    }
    let took = (world.clock.monotonic() - began).as_secs_f64();
    assert!((28.0..=36.0).contains(&took), "{took}");
}

#[tokio::test]
async fn invented_tool_names_are_no_way_out() {
    let world = world_with(FRICTION).await;
    let invented = async |from: usize| {
        let began = world.clock.monotonic();
        for n in from..from + 60 {
            calls(&world, "alice", &format!("fails-{n}"), 1).await;
        }
        (world.clock.monotonic() - began).as_secs_f64()
    };
    invented(0).await;
    let took = invented(60).await;
    assert!((54.0..=66.0).contains(&took), "{took}");
    // No content is no success.
    let began = world.clock.monotonic();
    for n in 0..60 {
        world.call("alice", &format!("nothing-{n}")).await;
    }
    let took = (world.clock.monotonic() - began).as_secs_f64();
    assert!((54.0..=66.0).contains(&took), "{took}");
    // What a batch has beside them does not prove that they exist.
    let began = world.clock.monotonic();
    for n in 0..60 {
        let call = tool_call(&format!("fails-batch-{n}"));
        let ping = json!({"jsonrpc": "2.0", "id": 2, "method": "ping"});
        world.post("alice", &json!([call, ping])).await;
    }
    let took = (world.clock.monotonic() - began).as_secs_f64();
    assert!((54.0..=66.0).contains(&took), "{took}");
    // Tools that exist do not wait for them.
    calls(&world, "bob", "read", 1).await;
    assert_eq!(calls(&world, "alice", "read", 2).await, Duration::ZERO);
}

const SHARE: &str = "friction: { rate: { calls: 1, periodSeconds: 1 }, share: 0.5, subjectRate: { calls: 100, periodSeconds: 1 } }";

#[tokio::test]
async fn a_share_is_of_what_came_back_without_an_error() {
    let target = "mcpauth_proxy_friction_target_calls_per_second{tool=\"read\"}";
    for (tool, least, most) in [("other", 4.0, 20.0), ("fails", 1.0, 1.0)] {
        let world = world_with(SHARE).await;
        for _ in 0..40 {
            for n in 0..20 {
                calls(&world, "alice", &format!("{tool}-{n}"), 1).await;
            }
            world.clock.advance(Duration::from_secs(1));
        }
        calls(&world, "alice", "read", 100).await;
        let target = world.metric(target);
        assert!((least..=most).contains(&target), "{tool}: {target}");
    }
}

const LIMIT: &str = "friction: { rate: { calls: 100, periodSeconds: 1 }, hardLimit: { calls: 3, periodSeconds: 60 } }";

#[tokio::test]
async fn beyond_the_hard_limit_a_tool_error_says_when_to_try_again() {
    let world = world_with(LIMIT).await;
    calls(&world, "alice", "read", 3).await;
    world.clock.advance(Duration::from_millis(19_500));
    let answer = world.call("alice", "read").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("retry-after"), "41");
    let text = "Too many calls: at most 3 in 60 seconds are allowed. Try again in 41 seconds.";
    let wanted = json!({"jsonrpc": "2.0", "id": 1, "result":
        {"content": [{"type": "text", "text": text}], "isError": true}});
    assert_eq!(answer.json(), wanted);
    assert_eq!(world.mcp.received().len(), 3);
    assert_eq!(
        world.metric("mcpauth_proxy_requests_total{outcome=\"hard_limit\"}"),
        1.0
    );
    // Others, and what does not count, are not concerned.
    calls(&world, "bob", "read", 3).await;
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    assert!(world.post("alice", &list).await.json()["result"].is_object());
    let read = json!({"jsonrpc": "2.0", "id": "a", "method": "resources/read", "params": {"uri": "notes://1"}});
    let error = world.post("alice", &read).await.json();
    assert_eq!(
        (&error["id"], &error["error"]["code"]),
        (&json!("a"), &json!(-32000))
    );
    let batch = world
        .post("alice", &json!([tool_call("read"), read]))
        .await
        .json();
    assert_eq!(batch.as_array().unwrap().len(), 2);
    let silent = json!({"jsonrpc": "2.0", "method": "tools/call", "params": {"name": "read"}});
    assert_eq!(
        world.post("alice", &silent).await.status,
        StatusCode::ACCEPTED
    );
    world.clock.advance(Duration::from_secs(41));
    let again = world.call("alice", "read").await;
    assert_eq!(again.json()["result"]["isError"], Value::Null);
}

#[tokio::test]
async fn a_batch_beyond_the_hard_limit_is_not_told_to_try_again() {
    let world = world_with(LIMIT).await;
    let answer = world
        .post("alice", &json!(vec![tool_call("read"); 4]))
        .await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(!answer.headers.contains_key("retry-after"));
    let text = "Too many calls: at most 3 in 60 seconds are allowed. \
        This batch has more, so it will never be accepted. Send fewer calls at once.";
    for one in answer.json().as_array().unwrap() {
        assert_eq!(one["result"]["isError"], true);
        assert_eq!(one["result"]["content"][0]["text"], text);
    }
    // Nothing of it was counted.
    calls(&world, "alice", "read", 3).await;
}

#[tokio::test]
async fn retries_are_no_way_around_the_hard_limit() {
    let world = world_with(LIMIT).await;
    let retry = json!({"requestState": STATE, "inputResponses": {"again": true}});
    ask(&world, "alice", json!({})).await;
    for _ in 0..5 {
        ask(&world, "alice", retry.clone()).await;
    }
    assert_eq!(world.mcp.received().len(), 3);
    world.clock.advance(Duration::from_secs(60));
    // The state is still known, so that the retry counts for nothing else.
    let counted = || world.metric("mcpauth_proxy_friction_delay_seconds_count{tool=\"other\"}");
    let before = counted();
    assert_eq!(
        ask(&world, "alice", retry).await.json()["result"]["requestState"],
        STATE
    );
    assert_eq!(counted(), before);
}

/// Calls the tool that asks for input, as a client of 2026-07-28.
async fn ask(world: &World, token: &str, params: Value) -> Answer {
    let mut message = tool_call("asks");
    message["params"]["_meta"] = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28"});
    for (key, value) in params.as_object().unwrap() {
        message["params"][key] = value.clone();
    }
    let request = world
        .request(Method::POST, Some(token))
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", "tools/call")
        .header("mcp-name", "asks")
        .header("accept-encoding", "gzip");
    world.send(request, message.to_string()).await
}

#[tokio::test]
async fn a_retry_that_was_asked_for_counts_once() {
    let world = world_with(FRICTION).await;
    let counted = || world.metric("mcpauth_proxy_friction_delay_seconds_count{tool=\"other\"}");
    let answer = ask(&world, "alice", json!({})).await;
    assert_eq!(answer.json()["result"]["requestState"], STATE);
    assert_eq!(world.mcp.only().headers.get("accept-encoding"), None);
    assert_eq!(counted(), 1.0);
    // Another subject, another client, another state, another tool: calls of their own.
    world
        .introspection
        .grant_to("mallory", "other-client", "alice");
    let retry = json!({"requestState": STATE, "inputResponses": {"again": true}});
    ask(
        &world,
        "bob",
        json!({"requestState": STATE, "inputResponses": {"again": false}}),
    )
    .await;
    ask(
        &world,
        "mallory",
        json!({"requestState": STATE, "inputResponses": {"again": false}}),
    )
    .await;
    ask(
        &world,
        "alice",
        json!({"requestState": "state/2", "inputResponses": {"again": false}}),
    )
    .await;
    assert_eq!(counted(), 4.0);
    // The retry, which is asked for more.
    ask(&world, "alice", retry.clone()).await;
    ask(
        &world,
        "alice",
        json!({"requestState": STATE, "inputResponses": {"again": false}}),
    )
    .await;
    assert_eq!(counted(), 4.0);
    // The state was used.
    ask(
        &world,
        "alice",
        json!({"requestState": STATE, "inputResponses": {"again": false}}),
    )
    .await;
    assert_eq!(counted(), 5.0);
    // A server that asks for ever is no way out.
    for _ in 0..60 {
        ask(&world, "alice", retry.clone()).await;
    }
    assert!(counted() >= 8.0, "{}", counted());
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

/// Nanoseconds for a decision at every level, by the fastest of some rounds.
fn decision_takes(principals: usize) -> u128 {
    const DECISIONS: usize = 20_000;
    let rate = |calls| Rate {
        calls,
        period_seconds: 60,
    };
    let mut friction = Friction::new(&FrictionConfig {
        per: Per::Subject,
        rate: rate(60),
        share: Some(0.2),
        groups: vec![],
        subject_rate: Some(rate(600)),
        resource_rate: Some(rate(6000)),
        half_life_seconds: 30,
        max_delay_milliseconds: 30_000,
        warmup_calls: 10,
        hard_limit: Some(rate(1000)),
    });
    let subjects: Vec<String> = (0..principals).map(|n| format!("oidc:corp:{n}")).collect();
    let clock = Clock::system();
    let mut round = |n: usize| {
        let began = clock.monotonic();
        for call in n * DECISIONS..(n + 1) * DECISIONS {
            let caller = Caller {
                client_id: "client",
                subject: &subjects[call * 7919 % principals],
            };
            let now = Duration::from_micros(100 * call as u64);
            let _ = friction.limit(&caller, 1, now);
            let decision = friction.admit(&caller, Counted::Tool("read"), now);
            friction.succeeded(&decision.receipt, now);
        }
        (clock.monotonic() - began).as_nanos() / DECISIONS as u128
    };
    // The first rounds fill the tables.
    for n in 0..10 {
        round(n);
    }
    (10..15).map(round).min().unwrap()
}

#[test]
fn a_decision_takes_no_longer_with_a_hundred_thousand_principals() {
    let (few, many) = (decision_takes(10), decision_takes(100_000));
    let most = if cfg!(debug_assertions) { 20_000 } else { 1000 };
    println!("{few} ns with 10 principals, {many} ns with 100,000");
    assert!(many < most && many < 5 * few, "{few} ns, {many} ns");
}
