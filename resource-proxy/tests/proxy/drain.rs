//! The end of a pod, before the MCP server in it stops.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use mcp_resource_proxy::drain::{Drain, ELSEWHERE};
use mcpauth_service::clock::Clock;
use serde_json::json;

use crate::common::introspection::active;
use crate::common::{World, tool_call};

fn drain(world: &World) -> Arc<Drain> {
    Arc::clone(&world.proxy.runtime().drain)
}

#[tokio::test]
async fn what_is_in_progress_keeps_the_server() {
    let world = World::new().await;
    world.introspection.grant("good", "notes:read");
    let request = world.request(Method::POST, Some("good"));
    let (response, stream) = tokio::join!(
        world.begin(request, tool_call("stream").to_string()),
        world.mcp.stream()
    );
    let drain = drain(&world);
    let mut drained = Box::pin(drain.drained());
    assert!(drained.as_mut().now_or_never().is_none());
    world.shutdown.drain();
    assert!(drained.as_mut().now_or_never().is_none());
    // New requests are still served, which Kubernetes has not sent elsewhere yet.
    let served = world.call("good", "read").await;
    assert_eq!(served.status, StatusCode::OK);
    // And the client connects anew for its next one.
    assert_eq!(served.header("connection"), "close");
    world.clock.advance(ELSEWHERE);
    assert!(drained.as_mut().now_or_never().is_none());
    let last = Frame::data(Bytes::from_static(b"data: last\n\n"));
    stream.send(Ok(last)).await.unwrap();
    drop(stream);
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(body.to_bytes(), "data: last\n\n");
    drained.await;
}

#[tokio::test]
async fn without_requests_it_is_drained_when_none_come_any_more() {
    let world = World::new().await;
    let drain = drain(&world);
    assert!(drain.drained().now_or_never().is_none());
    let begun = world.clock.monotonic();
    world.shutdown.drain();
    // The wait moves the clock.
    drain.drained().await;
    assert_eq!(world.clock.monotonic(), begun + ELSEWHERE);
}

#[tokio::test]
async fn who_only_listens_is_sent_elsewhere() {
    let world = World::new().await;
    world.introspection.grant("good", "notes:read");
    let listen = json!({"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen"});
    for (method, body) in [
        (Method::GET, String::new()),
        (Method::POST, listen.to_string()),
    ] {
        let world = &world;
        let request = world.request(method, Some("good"));
        let (response, stream) = tokio::join!(world.begin(request, body), world.mcp.stream());
        assert_eq!(response.status(), StatusCode::OK);
        let shutdown = world.shutdown.clone();
        let reading = tokio::spawn(response.into_body().collect());
        tokio::task::yield_now().await;
        shutdown.drain();
        world.clock.advance(ELSEWHERE);
        assert!(reading.await.unwrap().is_ok());
        drop(stream);
    }
    drain(&world).drained().await;
}

#[tokio::test]
async fn a_call_that_waits_for_friction_goes_up_at_once() {
    let friction = "friction: { rate: { calls: 1, periodSeconds: 60 }, warmupCalls: 0, maxDelayMilliseconds: 300000 }";
    let world = World::at(Clock::shifted(), friction).await;
    let mut good = active("notes:read");
    good["exp"] = json!(null);
    world.introspection.set("good", &good);
    // Without a drain the second would wait for a minute.
    assert_eq!(world.call("good", "read").await.status, StatusCode::OK);
    let mut second = Box::pin(world.call("good", "read"));
    while world.metric("mcpauth_proxy_friction_waiting_requests") < 1.0 {
        assert!(second.as_mut().now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    world.shutdown.drain();
    assert_eq!(second.await.status, StatusCode::OK);
    // It went to the server, so it counts: the third is told to wait for longer still.
    assert_eq!(world.call("good", "read").await.status, StatusCode::OK);
    let sum = "mcpauth_proxy_friction_delay_seconds_sum{tool=\"read\"}";
    assert!(world.metric(sum) > 120.0, "{}", world.metric(sum));
}

#[tokio::test]
async fn the_hook_does_not_wait_for_a_drain_that_never_begins() {
    let world = World::new().await;
    let drain = drain(&world);
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    let bound = std::time::Duration::from_secs(60);
    let said = tokio::time::timeout(bound, drain.hook()).await.unwrap();
    assert!(said.starts_with("not draining"), "{said}");
    assert!(
        begun.elapsed() >= ELSEWHERE,
        "the proxy's own hook may come later"
    );
}

#[tokio::test]
async fn only_some_requests_may_wait_for_the_drain() {
    let world = World::new().await;
    let drain = drain(&world);
    let mut waiting: Vec<_> = (0..16).map(|_| Box::pin(drain.hook())).collect();
    for hook in &mut waiting {
        assert!(hook.as_mut().now_or_never().is_none());
    }
    let refused = drain.hook().now_or_never();
    assert_eq!(refused, Some("too many requests wait for the drain"));
    waiting.pop();
    assert_eq!(drain.hook().now_or_never(), None);
    world.shutdown.drain();
    assert_eq!(waiting.remove(0).await, "drained");
}
