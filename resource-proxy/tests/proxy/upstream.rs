//! The server behind: streams, headers, and what happens when it fails.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response, StatusCode, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Frame, Incoming};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::json;

use crate::common::upstream::Stream;
use crate::common::{World, tool_call};

async fn world_with(more: &str) -> World {
    let world = World::with(more).await;
    world.introspection.grant("good", "notes:read");
    world
}

fn event(text: &'static str) -> io::Result<Frame<Bytes>> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

#[tokio::test]
async fn events_pass_one_by_one_as_they_come() {
    let world = world_with("").await;
    for (method, body) in [
        (Method::GET, String::new()),
        (Method::POST, tool_call("stream").to_string()),
    ] {
        let request = world.request(method, Some("good"));
        let (mut response, stream) = tokio::join!(world.begin(request, body), world.mcp.stream());
        assert_eq!(response.headers()["x-accel-buffering"], "no");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        // Nothing further is sent before what was sent has arrived: a buffer would hang here.
        for text in [": keep-alive\n\n", "data: 1\n\n", "id: 7\ndata: 2\n\n"] {
            stream.send(event(text)).await.unwrap();
            let frame = response.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), text);
        }
        drop(stream);
        assert!(response.frame().await.is_none());
    }
    let methods: Vec<Method> = world
        .mcp
        .received()
        .into_iter()
        .map(|one| one.method)
        .collect();
    assert_eq!(methods, [Method::GET, Method::POST]);
}

#[tokio::test]
async fn sse_cut_the_stream_ends_nothing_leaks() {
    let world = world_with("").await;
    let request = world.request(Method::GET, Some("good"));
    let (mut response, stream) = tokio::join!(world.begin(request, ""), world.mcp.stream());
    stream.send(event("data: 1\n\n")).await.unwrap();
    stream.send(Err(io::Error::other("cut"))).await.unwrap();
    let first = response.frame().await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "data: 1\n\n");
    assert!(response.frame().await.is_none_or(|frame| frame.is_err()));
    stream.closed().await;
}

async fn an_event_arrives(stream: &Stream, response: &mut Response<Incoming>) {
    stream.send(event("data: 1\n\n")).await.unwrap();
    let frame = response.frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "data: 1\n\n");
}

/// Lets the time pass after which a stream's token is checked again.
async fn a_minute_passes(world: &World) {
    world.clock.advance(Duration::from_secs(60));
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(61)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_stream_that_listens_ends_with_its_token() {
    let listen = json!({"id": 1, "method": "subscriptions/listen"});
    for (method, body) in [
        (Method::GET, String::new()),
        (Method::POST, listen.to_string()),
    ] {
        let world = world_with("").await;
        let request = world.request(method, Some("good"));
        let (mut response, stream) = tokio::join!(world.begin(request, body), world.mcp.stream());
        an_event_arrives(&stream, &mut response).await;
        for checks in [2.0, 3.0] {
            a_minute_passes(&world).await;
            while world.metric("mcpauth_proxy_introspections_total{result=\"active\"}") < checks {
                tokio::task::yield_now().await;
            }
            an_event_arrives(&stream, &mut response).await;
        }
        world.introspection.set("good", &json!({"active": false}));
        a_minute_passes(&world).await;
        assert!(response.frame().await.is_none());
        stream.closed().await;
    }
}

#[tokio::test]
async fn the_answer_to_a_call_may_outlive_its_token() {
    let world = world_with("").await;
    let request = world.request(Method::POST, Some("good"));
    let body = tool_call("stream").to_string();
    let (mut response, stream) = tokio::join!(world.begin(request, body), world.mcp.stream());
    an_event_arrives(&stream, &mut response).await;
    world.introspection.set("good", &json!({"active": false}));
    a_minute_passes(&world).await;
    let answer = world.call("good", "read").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    an_event_arrives(&stream, &mut response).await;
}

#[tokio::test]
async fn a_client_that_leaves_a_stream_leaves_the_server_too() {
    let world = world_with("").await;
    let request = world.request(Method::GET, Some("good"));
    let (response, stream) = tokio::join!(world.begin(request, ""), world.mcp.stream());
    drop(response);
    stream.closed().await;
}

#[tokio::test]
async fn a_client_that_does_not_wait_for_the_response_is_a_cancellation() {
    let world = world_with("upstream: { url: URL, responseHeaderSeconds: 3600 }").await;
    let request = world.request(Method::POST, Some("good"));
    let body = tool_call("hang").to_string();
    tokio::select! {
        response = world.begin(request, body) => panic!("{response:?}"),
        () = async { while world.mcp.received().is_empty() { tokio::task::yield_now().await } } => {}
    }
    world.mcp.abandoned().await;
}

#[tokio::test]
async fn upstream_away() {
    let world = world_with("upstream: { url: http://127.0.0.1:1/mcp }").await;
    let answer = world.call("good", "read").await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    assert_eq!(answer.json()["error"], "upstream_unavailable");
}

#[tokio::test]
async fn upstream_hangs() {
    let world = world_with("upstream: { url: URL, responseHeaderSeconds: 1 }").await;
    let answer = world.call("good", "hang").await;
    assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(answer.json()["error"], "upstream_timeout");
    world.mcp.abandoned().await;
}

#[tokio::test]
async fn the_servers_own_refusals_are_kept() {
    let world = world_with("").await;
    let answer = world
        .post("good", &json!({"id": 1, "method": "unknown"}))
        .await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.body, r#"{"error":"of the server"}"#);
    let accepted = world
        .post("good", &json!({"method": "notifications/initialized"}))
        .await;
    assert_eq!(accepted.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn the_clients_authorization_never_reaches_the_mcp_server() {
    let world = world_with("").await;
    world.call("good", "read").await;
    let request = world
        .request(Method::GET, Some("good"))
        .header("proxy-authorization", "Bearer good");
    let (_response, _stream) = tokio::join!(world.begin(request, ""), world.mcp.stream());
    for received in world.mcp.received() {
        assert!(!format!("{received:?}").contains("good"), "{received:?}");
        assert_eq!(received.headers["host"], world.mcp.address.to_string());
    }
}

#[tokio::test]
async fn identity_headers_sent_by_the_client_are_stripped() {
    for (more, subject) in [("", None), ("identity: { headers: {} }", Some("alice"))] {
        let world = world_with(more).await;
        let request = world
            .request(Method::POST, Some("good"))
            .header("x-mcp-subject", "root")
            .header("x-mcp-scopes", "all")
            .header("x_mcp_subject", "root")
            .header("mcp_session_id", "root");
        world.send(request, tool_call("read").to_string()).await;
        let received = world.mcp.only();
        let seen = received.headers.get("x-mcp-subject");
        assert_eq!(seen.map(|value| value.to_str().unwrap()), subject);
        assert!(!format!("{received:?}").contains("root"), "{received:?}");
    }
}

#[tokio::test]
async fn what_concerns_the_servers_connection_stays_there() {
    let world = world_with("allowedOrigins: ['https://app.example']").await;
    for origin in [None, Some("https://app.example")] {
        let mut request = world.request(Method::GET, Some("good"));
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        let (response, _stream) = tokio::join!(world.begin(request, ""), world.mcp.stream());
        let headers = response.headers();
        assert!(!headers.contains_key("x-internal") && !headers.contains_key("connection"));
        let allowed = headers.get("access-control-allow-origin");
        assert_eq!(allowed.map(|value| value.to_str().unwrap()), origin);
    }
}

#[tokio::test]
async fn the_query_goes_along_and_the_slash_behind_the_path_does_not_matter() {
    let world = world_with("").await;
    let request = world.request(Method::POST, Some("good"));
    let request = request.uri(format!("http://{}/mcp/?a=b%20c", world.address));
    let answer = world.send(request, tool_call("read").to_string()).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(world.mcp.only().uri, "/inner?a=b%20c");
}

#[tokio::test]
async fn clients_may_speak_http_2_without_tls() {
    let world = world_with("").await;
    let client = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http::<Full<Bytes>>();
    let body = Full::from(tool_call("read").to_string());
    let request = world
        .request(Method::POST, Some("good"))
        .body(body)
        .unwrap();
    let response = client.request(request).await.unwrap();
    assert_eq!(
        (response.status(), response.version()),
        (StatusCode::OK, Version::HTTP_2)
    );
    let received = world.mcp.only();
    assert_eq!(received.headers["host"], world.mcp.address.to_string());
    assert_eq!(received.body, tool_call("read").to_string());
}
