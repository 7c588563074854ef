//! Sessions and who they belong to.

use std::sync::Arc;

use http::{Method, StatusCode};
use mcp_resource_proxy::keys::read;
use mcp_resource_proxy::reload::Outcome;
use mcp_resource_proxy::reload_keys::KeysReloader;
use mcpauth_wire::proxy_keys::ProxyKeys;
use serde_json::json;

use crate::common::upstream::SESSION;
use crate::common::{Answer, World, tool_call};

async fn world() -> World {
    let world = World::new().await;
    world.introspection.grant_to_alice_and_bob();
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

/// O18: `replicas > 1` broke sessions.
#[tokio::test]
async fn replicas_with_one_keys_file_accept_each_others_sessions() {
    let (one, other) = (world().await, world().await);
    let path = one.directory.path().join("keys");
    let key = |byte| ProxyKeys::new([byte; 32]).to_text();
    // Not the key that the tests' proxies begin with.
    std::fs::write(&path, key(1)).unwrap();
    let keys = read(&path).unwrap();
    let reloader = |world: &World| {
        world.proxy.replace_keys(&keys);
        KeysReloader::new(path.clone(), keys.clone(), Arc::clone(&world.proxy))
    };
    let (mut first, mut second) = (reloader(&one), reloader(&other));
    let call = async |world: &World, session: &str| {
        in_session(world, Method::POST, "alice", session)
            .await
            .status
    };
    let old = open(&one, "alice").await;
    assert_eq!(call(&other, &old).await, StatusCode::OK);

    // The new key on top; the other replica reads the file later.
    std::fs::write(&path, key(2) + &key(1)).unwrap();
    assert_eq!(first.look(), Outcome::Applied);
    assert_eq!(first.look(), Outcome::Unchanged);
    let new = open(&one, "alice").await;
    assert_ne!(new, old);
    assert_eq!(call(&one, &old).await, StatusCode::OK);
    assert_eq!(call(&other, &new).await, StatusCode::NOT_FOUND);
    assert_eq!(second.look(), Outcome::Applied);
    assert_eq!(call(&other, &new).await, StatusCode::OK);

    // What cannot be used leaves the keys as they are.
    std::fs::write(&path, "nonsense").unwrap();
    assert_eq!(first.look(), Outcome::Refused);
    assert_eq!(first.look(), Outcome::Unchanged);
    assert_eq!(call(&one, &old).await, StatusCode::OK);

    std::fs::write(&path, key(2)).unwrap();
    assert_eq!(first.look(), Outcome::Applied);
    assert_eq!(call(&one, &old).await, StatusCode::NOT_FOUND);
    assert_eq!(call(&one, &new).await, StatusCode::OK);
}
