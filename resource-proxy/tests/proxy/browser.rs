//! Origins, preflights and hosts.

use http::{Method, StatusCode};

use crate::common::{World, tool_call};

async fn world() -> World {
    let world = World::with("allowedOrigins: ['https://app.example']").await;
    world.introspection.grant("good", "notes:read");
    world
}

#[tokio::test]
async fn a_preflight_needs_no_token() {
    let world = world().await;
    let request = world
        .request(Method::OPTIONS, None)
        .header("origin", "https://app.example")
        .header("access-control-request-method", "POST")
        .header(
            "access-control-request-headers",
            "authorization, mcp-param-region",
        );
    let answer = world.send(request, "").await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    assert_eq!(
        answer.header("access-control-allow-origin"),
        "https://app.example"
    );
    assert_eq!(
        answer.header("access-control-allow-methods"),
        "GET, POST, DELETE, OPTIONS"
    );
    let allowed = answer.header("access-control-allow-headers");
    assert_eq!(allowed, "authorization, mcp-param-region");
    assert_eq!(answer.header("access-control-allow-credentials"), "");
    assert!(world.mcp.received().is_empty());
}

#[tokio::test]
async fn a_listed_origin_can_read_challenges_and_sessions() {
    let world = world().await;
    for token in [None, Some("good")] {
        let request = world
            .request(Method::POST, token)
            .header("origin", "https://app.example");
        let answer = world.send(request, tool_call("read").to_string()).await;
        assert_eq!(
            answer.header("access-control-allow-origin"),
            "https://app.example"
        );
        assert_eq!(answer.header("vary"), "Origin");
        let exposed = answer.header("access-control-expose-headers");
        assert!(exposed.contains("WWW-Authenticate") && exposed.contains("Mcp-Session-Id"));
    }
}

#[tokio::test]
async fn an_unlisted_origin() {
    let world = world().await;
    for origin in [
        "https://evil.example",
        "null",
        "https://app.example.evil.example",
    ] {
        for method in [Method::POST, Method::OPTIONS, Method::GET] {
            let request = world.request(method, Some("good")).header("origin", origin);
            let answer = world.send(request, "").await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{origin}");
            assert_eq!(answer.header("access-control-allow-origin"), "");
        }
    }
    assert!(world.mcp.received().is_empty() && world.introspection.asked().is_empty());
}

#[tokio::test]
async fn a_page_of_the_resource_itself() {
    let world = world().await;
    let request = world
        .request(Method::POST, Some("good"))
        .header("origin", "http://localhost:9001");
    let answer = world.send(request, tool_call("read").to_string()).await;
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn another_host() {
    let world = world().await;
    let request = world
        .request(Method::POST, Some("good"))
        .header("host", "evil.example");
    let answer = world.send(request, tool_call("read").to_string()).await;
    assert_eq!(answer.status, StatusCode::MISDIRECTED_REQUEST);
    assert!(world.mcp.received().is_empty() && world.introspection.asked().is_empty());
}
