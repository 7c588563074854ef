//! Who gets through.

use http::{Method, StatusCode};
use serde_json::json;

use crate::common::introspection::active;
use crate::common::{World, tool_call};

#[tokio::test]
async fn a_good_token_gets_through() {
    let world = World::new().await;
    world.introspection.grant("good", "notes:read");
    let answer = world.call("good", "read").await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.json()["result"]["content"], json!([]));
    let received = world.mcp.only();
    assert_eq!(received.body, tool_call("read").to_string());
    assert_eq!(received.uri, "/inner");
}

#[tokio::test]
async fn no_token() {
    let world = World::new().await;
    for method in [
        Method::POST,
        Method::GET,
        Method::DELETE,
        Method::PUT,
        Method::HEAD,
    ] {
        for path in [
            "/mcp",
            "/",
            "/unknown",
            "/.well-known/oauth-protected-resource/other",
        ] {
            let answer = world.path(method.clone(), path, None).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path}");
            assert_eq!(
                answer.header("www-authenticate"),
                "Bearer scope=\"notes:read notes:write\", resource_metadata=\
                 \"http://localhost:9001/.well-known/oauth-protected-resource/mcp\""
            );
        }
    }
    assert!(world.mcp.received().is_empty() && world.introspection.asked().is_empty());
}

#[tokio::test]
async fn two_tokens_and_a_token_in_the_query() {
    let world = World::new().await;
    world.introspection.grant("good", "notes:read");
    let twice = world
        .request(Method::POST, Some("good"))
        .header("authorization", "Bearer other");
    let answer = world.send(twice, tool_call("read").to_string()).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.json()["error"], "invalid_request");
    for token in [None, Some("good")] {
        let answer = world
            .path(Method::GET, "/mcp?access_token=good", token)
            .await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert!(
            answer
                .header("www-authenticate")
                .contains("error=\"invalid_request\"")
        );
    }
    assert!(world.mcp.received().is_empty() && world.introspection.asked().is_empty());
}

#[tokio::test]
async fn an_unknown_an_expired_and_a_revoked_token() {
    let world = World::new().await;
    let mut expired = active("notes:read");
    expired["exp"] = json!(crate::common::NOW);
    world.introspection.set("expired", &expired);
    for token in ["unknown", "expired"] {
        let answer = world.call(token, "read").await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{token}");
        let challenge = answer.header("www-authenticate");
        assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
        assert!(challenge.contains("resource_metadata=") && challenge.contains("scope="));
        assert_eq!(answer.json()["error"], "invalid_token");
    }
    assert!(world.mcp.received().is_empty());
}

#[tokio::test]
async fn a_token_for_another_server() {
    let world = World::new().await;
    for (token, aud) in [
        ("other", json!("http://localhost:9001/other")),
        ("prefix", json!("http://localhost:9001/mcp-x")),
        ("origin", json!("http://localhost:9001")),
        ("none", json!(null)),
    ] {
        let mut answer = active("notes:read");
        answer["aud"] = aud;
        world.introspection.set(token, &answer);
        assert_eq!(
            world.call(token, "read").await.status,
            StatusCode::UNAUTHORIZED,
            "{token}"
        );
    }
    assert!(world.mcp.received().is_empty());
}

#[tokio::test]
async fn an_unknown_path_or_method_is_told_only_to_who_has_a_token() {
    let world = World::new().await;
    world.introspection.grant("good", "notes:read");
    for path in ["/", "/mcp/x", "/MCP", "/%6dcp", "/inner", "/mcp//"] {
        let answer = world.path(Method::POST, path, Some("good")).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
    }
    for method in [Method::PUT, Method::PATCH, Method::HEAD] {
        let answer = world.path(method, "/mcp", Some("good")).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(answer.header("allow"), "GET, POST, DELETE, OPTIONS");
    }
    assert!(world.mcp.received().is_empty());
}

#[tokio::test]
async fn too_few_scopes() {
    let world = World::new().await;
    world.introspection.grant("reader", "notes:read");
    let answer = world.call("reader", "create_note").await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let challenge = answer.header("www-authenticate");
    assert!(
        challenge.contains("error=\"insufficient_scope\""),
        "{challenge}"
    );
    // What it has, and what it needs.
    let both = "scope=\"notes:read notes:write\"";
    assert!(challenge.contains(both), "{challenge}");
    assert!(challenge.contains("resource_metadata=\"http://localhost:9001/.well-known/"));
    assert_eq!(answer.json()["scope"], "notes:read notes:write");
    assert!(world.mcp.received().is_empty());
    assert_eq!(
        world.call("reader", "anything_else").await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_scope_that_implies_another_is_enough() {
    let world = World::new().await;
    world.introspection.grant("writer", "notes:write");
    for tool in ["read", "create_note"] {
        assert_eq!(
            world.call("writer", tool).await.status,
            StatusCode::OK,
            "{tool}"
        );
    }
}

#[tokio::test]
async fn what_is_not_guarded_needs_no_scope() {
    let world = World::with("access: { rules: [{ tools: [read], scopes: [notes:read] }] }").await;
    world.introspection.grant("bare", "");
    for method in [
        "initialize",
        "server/discover",
        "notifications/initialized",
        "tools/list",
        "ping",
    ] {
        let answer = world
            .post(
                "bare",
                &json!({"jsonrpc": "2.0", "id": 1, "method": method}),
            )
            .await;
        assert!(answer.status.is_success(), "{method} {answer:?}");
    }
    assert_eq!(
        world.call("bare", "anything").await.status,
        StatusCode::FORBIDDEN
    );
}
