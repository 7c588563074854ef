//! Sessions and who they belong to.

use http::{Method, StatusCode};
use serde_json::json;

use crate::common::upstream::SESSION;
use crate::common::{Answer, World, tool_call};

async fn world() -> World {
    let world = World::new().await;
    world.introspection.grant_to("alice", "client", "alice");
    world
        .introspection
        .grant_to("alice-again", "client", "alice");
    world.introspection.grant_to("bob", "client", "bob");
    world
        .introspection
        .grant_to("alice-elsewhere", "other", "alice");
    world
}

async fn open(world: &World, token: &str) -> String {
    let answer = world
        .post(token, &json!({"id": 1, "method": "initialize"}))
        .await;
    answer.header("mcp-session-id").to_owned()
}

async fn in_session(world: &World, method: Method, token: &str, session: &str) -> Answer {
    let body = match method {
        Method::POST => tool_call("read").to_string(),
        _ => String::new(),
    };
    let request = world
        .request(method, Some(token))
        .header("mcp-session-id", session);
    world.send(request, body).await
}

#[tokio::test]
async fn the_server_gets_its_own_id_back() {
    let world = world().await;
    let session = open(&world, "alice").await;
    assert_ne!(session, SESSION);
    for token in ["alice", "alice-again"] {
        let answer = in_session(&world, Method::POST, token, &session).await;
        assert_eq!(answer.status, StatusCode::OK, "{token}");
    }
    assert_eq!(
        in_session(&world, Method::DELETE, "alice", &session)
            .await
            .status,
        StatusCode::NO_CONTENT
    );
    for received in &world.mcp.received()[1..] {
        assert_eq!(received.headers["mcp-session-id"], SESSION);
    }
    assert_eq!(world.mcp.received().len(), 4);
}

#[tokio::test]
async fn session_id_of_another_subject() {
    let world = world().await;
    let session = open(&world, "alice").await;
    for token in ["bob", "alice-elsewhere"] {
        for method in [Method::POST, Method::GET, Method::DELETE] {
            let answer = in_session(&world, method, token, &session).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{token}");
        }
    }
    assert_eq!(world.mcp.received().len(), 1);
}

#[tokio::test]
async fn a_session_that_nobody_opened_here() {
    let world = world().await;
    let stolen = open(&world, "alice").await;
    for session in [SESSION, "made-up", &format!("{stolen}x"), ""] {
        let answer = in_session(&world, Method::POST, "alice", session).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{session}");
        assert_eq!(answer.json()["error"]["code"], -32001);
    }
    let twice = world.request(Method::POST, Some("alice"));
    let twice = twice
        .header("mcp-session-id", &stolen)
        .header("mcp-session-id", "x");
    let answer = world.send(twice, tool_call("read").to_string()).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(world.mcp.received().len(), 1);
}

#[tokio::test]
async fn a_client_of_the_revision_without_sessions_has_its_header_ignored() {
    let world = world().await;
    let request = world
        .request(Method::POST, Some("alice"))
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-session-id", SESSION);
    let answer = world.send(request, tool_call("read").to_string()).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(!world.mcp.only().headers.contains_key("mcp-session-id"));
}
