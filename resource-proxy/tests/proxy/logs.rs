//! What the log says of requests, and what it never says.

use http::{Method, StatusCode};
use mcpauth_test_support::logs;
use serde_json::json;

use crate::common::introspection::{CREDENTIAL, active};
use crate::common::{World, tool_call};

const GOOD: &str = "mat_good-token-of-alice";
const BAD: &str = "mat_bad-token-that-is-revoked";
const SESSION: &str = "session-id-that-nobody-gave-out";
const SECRET: &str = "password-in-the-body";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[tokio::test]
async fn a_refusal_is_a_line_with_its_reason_and_what_one_searches_for() {
    let logs = logs::capture();
    let world = World::new().await;
    world.introspection.grant(GOOD, "notes:read");
    let request = world
        .request(Method::POST, Some(GOOD))
        .header("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01"));
    let answer = world
        .send(request, tool_call("create_note").to_string())
        .await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let lines = logs.containing("refused");
    let [line] = &lines[..] else {
        panic!("{lines:?}")
    };
    for part in [
        "insufficient_scope",
        "the rule for create_* requires the scopes notes:write; the token lacks notes:write",
        "POST",
        "tool=create_note",
        TRACE,
        "client",
        "2bd806c97f0e00af",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(!line.contains("alice"), "{line}");
}

#[tokio::test]
async fn a_denial_is_a_line_too_and_says_why() {
    let logs = logs::capture();
    let world = World::with("access: { unmatched: Deny }").await;
    world.introspection.grant(GOOD, "notes:read");
    let message = |method: &str| json!({"id": 1, "method": method, "params": {"taskId": "t"}});
    world.post(GOOD, &message("acme/export")).await;
    world.post(GOOD, &message("tasks/get")).await;
    let lines = logs.containing("refused outcome=denied");
    let [method, task] = &lines[..] else {
        panic!("{lines:?}")
    };
    assert!(method.contains("access.unmatched denies it"), "{method}");
    assert!(
        method.contains("operation=\"acme/export\"") || method.contains("operation=acme/export"),
        "{method}"
    );
    assert!(task.contains("no such task"), "{task}");
}

#[tokio::test]
async fn a_method_that_a_stranger_makes_up_is_not_in_the_log() {
    let logs = logs::capture();
    let world = World::new().await;
    let made_up = "MADE-UP-".repeat(1000);
    let method = Method::from_bytes(made_up.as_bytes()).unwrap();
    let answer = world.send(world.request(method, None), String::new()).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(logs.containing("refused outcome=no_token").len(), 1);
    logs.assert_free_of(&["MADE-UP-"]);
}

#[tokio::test]
async fn no_secret_on_any_failing_path() {
    let logs = logs::capture();
    let world = World::new().await;
    world.introspection.grant(GOOD, "notes:read");
    let mut elsewhere = active("notes:read");
    elsewhere["aud"] = json!("https://other.example");
    world.introspection.set(BAD, &json!({ "active": false }));
    world.introspection.set("mat_elsewhere", &elsewhere);
    world.introspection.respond(
        "mat_broken",
        StatusCode::OK,
        format!("{{\"active\": \"{GOOD}\"}}"),
    );
    world
        .introspection
        .respond("mat_down", StatusCode::INTERNAL_SERVER_ERROR, "");
    let secret_call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": "create_note", "arguments": {"password": SECRET}}});

    for token in [BAD, "mat_elsewhere", "mat_broken", "mat_down"] {
        let answer = world.call(token, "read").await;
        assert_ne!(answer.status, StatusCode::OK, "{token}");
    }
    let post = || world.request(Method::POST, Some(GOOD));
    for (request, body) in [
        (post(), secret_call.to_string()),
        (
            post(),
            format!("{{\"jsonrpc\": \"2.0\", \"method\": {SECRET}"),
        ),
        (post(), format!("{{\"method\": {{\"{SECRET}\": 1}}}}")),
        (post(), format!("[\"{SECRET}\"]")),
        (
            post().header("mcp-session-id", SESSION),
            secret_call.to_string(),
        ),
        (post().header("mcp-method", SECRET), secret_call.to_string()),
        (post().header("content-encoding", "gzip"), SECRET.to_owned()),
        (
            post().header("authorization", format!("Bearer {BAD}")),
            SECRET.to_owned(),
        ),
        (
            post().header("origin", "https://evil.example"),
            SECRET.to_owned(),
        ),
    ] {
        let answer = world.send(request, body).await;
        assert!(answer.status.is_client_error(), "{answer:?}");
    }
    let query = world
        .path(Method::GET, &format!("/mcp?access_token={GOOD}"), None)
        .await;
    assert!(query.status.is_client_error());
    // Behind it nobody answers any more, neither the server nor the authorization server.
    world.reconfigure("upstream: { url: http://127.0.0.1:1/mcp }");
    assert_eq!(
        world.call(GOOD, "read").await.status,
        StatusCode::BAD_GATEWAY
    );
    world.reconfigure(
        "introspection: { endpoint: http://127.0.0.1:1/introspect, tokenFile: TOKEN }",
    );
    assert_eq!(
        world.call(GOOD, "read").await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );

    assert!(logs.containing("refused").len() >= 14, "{:?}", logs.lines());
    logs.assert_free_of(&[
        GOOD,
        BAD,
        SESSION,
        SECRET,
        CREDENTIAL,
        "mat_elsewhere",
        "mat_broken",
        "mat_down",
    ]);
    let shown = format!("{:?} {:?}", world.proxy, world.proxy.compiled());
    for secret in [GOOD, BAD, CREDENTIAL] {
        assert!(!shown.contains(secret), "{secret} in Debug");
    }
}
