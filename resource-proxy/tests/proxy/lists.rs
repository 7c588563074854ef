//! What lists show.

use std::io;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming};
use serde_json::{Value, json};

use crate::common::upstream::Stream;
use crate::common::{Answer, World};

const RULES: &str = "access: { rules: [{ tools: [create_*], scopes: [notes:write] }, { resources: ['notes://*'], scopes: [notes:read] }], unmatched: AnyToken }";

async fn world(more: &str) -> World {
    let world = World::with(&format!("{RULES}\n{more}")).await;
    world.introspection.grant("read", "notes:read");
    world.introspection.grant("write", "notes:write");
    world.introspection.grant("none", "");
    world
}

fn message(method: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": {}})
}

/// The name tells the server how to answer.
fn named(method: &str, name: &str) -> Value {
    let mut message = message(method);
    message["params"]["name"] = json!(name);
    message
}

fn names(answer: &Answer) -> Vec<String> {
    let tools = answer.json()["result"]["tools"].clone();
    let tools = tools.as_array().unwrap().iter();
    tools
        .map(|tool| tool["name"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_list_of_tools_shows_what_the_token_may_call() {
    let world = world("").await;
    let answer = world.post("read", &message("tools/list")).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(names(&answer), ["read"]);
    assert_eq!(answer.json()["result"]["nextCursor"], "c");
    assert_eq!(answer.json()["result"]["cacheScope"], "private");
    let answer = world.post("write", &message("tools/list")).await;
    assert_eq!(names(&answer), ["read", "create_note"]);
    // In a batch, too.
    let batch = json!([message("ping"), message("tools/list")]);
    assert_eq!(world.post("read", &batch).await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_list_changes_with_the_rules() {
    let world = world("").await;
    world.reconfigure(
        "access: { rules: [{ tools: [create_note], anyToken: true }], unmatched: Deny }",
    );
    let answer = world.post("none", &message("tools/list")).await;
    assert_eq!(names(&answer), ["create_note"]);
    world.reconfigure("access: { unmatched: Deny, lists: All }");
    let answer = world.post("none", &message("tools/list")).await;
    assert_eq!(names(&answer), ["read", "create_note"]);
    assert_eq!(answer.json()["result"]["cacheScope"], "public");
}

#[tokio::test]
async fn a_list_in_a_stream_is_filtered_and_nothing_else_of_it_is_held_back() {
    let world = world("").await;
    let request = world.request(Method::POST, Some("none"));
    let begun = world.begin(request, named("resources/list", "stream").to_string());
    let (response, stream) = tokio::join!(begun, world.mcp.stream());
    events(response.into_body(), &stream).await;
    assert!(!world.mcp.only().headers.contains_key("accept-encoding"));
}

#[tokio::test]
async fn a_stream_that_is_resumed_is_filtered_like_the_first() {
    let world = world("").await;
    let request = world
        .request(Method::GET, Some("none"))
        .header("accept-encoding", "gzip")
        .header("last-event-id", "1");
    let (response, stream) = tokio::join!(world.begin(request, ""), world.mcp.stream());
    events(response.into_body(), &stream).await;
    let received = world.mcp.only();
    assert_eq!(received.headers["last-event-id"], "1");
    assert!(!received.headers.contains_key("accept-encoding"));
}

/// A server finds where an answer goes by its id, which the client chooses.
#[tokio::test]
async fn a_list_that_comes_where_nobody_asked_for_it_is_filtered() {
    let world = world("").await;
    for method in ["ping", "tools/call"] {
        let answer = world.post("read", &named(method, "lists")).await;
        assert_eq!(names(&answer), ["read"], "{method}");
    }
    world.mcp.received().iter().for_each(|received| {
        assert!(!received.headers.contains_key("accept-encoding"));
    });
    let request = world.request(Method::POST, Some("none"));
    let begun = world.begin(request, named("tools/call", "stream").to_string());
    let (response, stream) = tokio::join!(begun, world.mcp.stream());
    events(response.into_body(), &stream).await;
}

/// No request of MCP 2026-07-28 shares anything with another.
#[tokio::test]
async fn an_answer_of_2026_07_28_to_what_is_no_list_passes_as_it_is() {
    let world = world("").await;
    let mut message = named("tools/call", "lists");
    message["params"]["_meta"] = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28"});
    let request = world
        .request(Method::POST, Some("read"))
        .header("accept-encoding", "gzip")
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", "tools/call")
        .header("mcp-name", "lists");
    let answer = world.send(request, message.to_string()).await;
    assert_eq!(names(&answer), ["read", "create_note"]);
    assert!(answer.headers.contains_key("content-length"));
    assert!(world.mcp.only().headers.contains_key("accept-encoding"));
}

#[tokio::test]
async fn a_long_result_passes_as_it_comes() {
    let world = world("").await;
    let request = world.request(Method::POST, Some("none"));
    let begun = world.begin(request, named("tools/call", "stream").to_string());
    let (response, stream) = tokio::join!(begun, world.mcp.stream());
    let mut body = response.into_body();
    let mut part = "data: {\"id\":1,\"result\":{\"content\":[\"".to_owned() + &"x".repeat(20_000);
    // Were it held back, the next part would wait here for ever.
    for next in ["x".repeat(3_000_000), "\"]}}\n\n".into(), String::new()] {
        let frame: io::Result<Frame<Bytes>> = Ok(Frame::data(part.clone().into()));
        stream.send(frame).await.unwrap();
        let mut passed = 0;
        while passed < part.len() {
            passed += body
                .frame()
                .await
                .unwrap()
                .unwrap()
                .data_ref()
                .unwrap()
                .len();
        }
        part = next;
    }
}

#[tokio::test]
async fn lists_that_are_held_are_bounded_for_each_subject() {
    let world = world("").await;
    let list = format!(
        "data: {{\"result\":{{\"resources\":[\"{}",
        "x".repeat(1_900_000)
    );
    let mut open = Vec::new();
    for _ in 0..5 {
        let request = world.request(Method::POST, Some("none"));
        let begun = world.begin(request, named("resources/list", "stream").to_string());
        let (response, stream) = tokio::join!(begun, world.mcp.stream());
        let frame: io::Result<Frame<Bytes>> = Ok(Frame::data(list.clone().into()));
        stream.send(frame).await.unwrap();
        open.push((response.into_body(), stream));
    }
    let first = open.iter_mut().map(|(body, _)| body.frame());
    let (frame, ..) = futures::future::select_all(first).await;
    let frame = frame.unwrap().unwrap().into_data().unwrap();
    let error = str::from_utf8(&frame).unwrap();
    assert!(
        error.contains("-32000") && error.contains("too many lists"),
        "{error}"
    );
}

/// Events as a caller without scopes sees them.
async fn events(mut body: Incoming, stream: &Stream) {
    let list = r#"{"id":1,"result":{"resources":[{"uri":"notes://a"},{"uri":"other://a"}]}}"#;
    let seen = r#"{"id":1,"result":{"resources":[{"uri":"other://a"}]}}"#;
    let updated = |uri: &str| {
        format!(
            "data: {{\"method\":\"notifications/resources/updated\",\"params\":{{\"uri\":\"{uri}\"}}}}\n\n"
        )
    };
    for (sent, passed) in [
        (": comment\n\n".to_owned(), ": comment\n\n".to_owned()),
        (
            format!("id: 2\ndata: {list}\n\n"),
            format!("id: 2\ndata: {seen}\n\n"),
        ),
        (
            updated("notes://a") + &updated("other://a"),
            updated("other://a"),
        ),
    ] {
        let frame: io::Result<Frame<Bytes>> = Ok(Frame::data(sent.into()));
        stream.send(frame).await.unwrap();
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.data_ref().unwrap(), passed.as_bytes());
    }
}

#[tokio::test]
async fn a_stream_that_is_open_follows_the_rules() {
    let world = world("").await;
    let request = world.request(Method::GET, Some("none"));
    let (response, stream) = tokio::join!(world.begin(request, ""), world.mcp.stream());
    let mut body = response.into_body();
    let list = "data: {\"result\":{\"tools\":[{\"name\":\"create_note\"}]}}\n\n";
    for (rules, is_seen) in [
        (RULES, false),
        ("access: { unmatched: AnyToken }", true),
        ("access: { unmatched: Deny }", false),
    ] {
        world.reconfigure(rules);
        let frame: io::Result<Frame<Bytes>> = Ok(Frame::data(list.into()));
        stream.send(frame).await.unwrap();
        let frame = body.frame().await.unwrap().unwrap();
        let passed = str::from_utf8(frame.data_ref().unwrap()).unwrap();
        assert_eq!(passed.contains("create_note"), is_seen, "{rules}: {passed}");
    }
}

#[tokio::test]
async fn a_list_that_the_server_compresses_is_not_passed_on() {
    let world = world("").await;
    let answer = world.post("read", &named("prompts/list", "gzip")).await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    assert_eq!(answer.json()["error"], "upstream_encoded");
    let answer = world.post("read", &named("prompts/list", "identity")).await;
    assert_eq!(answer.json()["result"]["prompts"], json!([]));
}
