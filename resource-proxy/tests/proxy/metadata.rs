//! What clients find without a token.

use http::{Method, StatusCode};
use serde_json::json;

use crate::common::{RESOURCE, World};

const PATHS: [&str; 2] = [
    "/.well-known/oauth-protected-resource/mcp",
    "/.well-known/oauth-protected-resource",
];

#[tokio::test]
async fn both_forms_are_the_same_document() {
    let world = World::new().await;
    for path in PATHS {
        let answer = world.path(Method::GET, path, None).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        assert_eq!(
            answer.json(),
            json!({
                "resource": RESOURCE,
                "authorization_servers": ["http://localhost:9000"],
                "scopes_supported": ["notes:read", "notes:write"],
                "bearer_methods_supported": ["header"],
                "resource_name": "notes",
            })
        );
    }
}

#[tokio::test]
async fn every_page_may_read_it() {
    let world = World::new().await;
    for path in PATHS {
        let request = world
            .request(Method::OPTIONS, None)
            .header("origin", "https://any.example");
        let request = request.uri(format!("http://{}{path}", world.address));
        let answer = world.send(request, "").await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT);
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        let request = world
            .request(Method::GET, None)
            .header("origin", "https://any.example");
        let request = request.uri(format!("http://{}{path}", world.address));
        assert_eq!(world.send(request, "").await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn old_clients_are_sent_to_the_authorization_server() {
    let world = World::new().await;
    for path in [
        "/.well-known/oauth-authorization-server",
        "/.well-known/oauth-authorization-server/mcp",
    ] {
        let answer = world.path(Method::GET, path, None).await;
        assert_eq!(answer.status, StatusCode::FOUND);
        let location = "http://localhost:9000/.well-known/oauth-authorization-server";
        assert_eq!(answer.header("location"), location);
        assert_eq!(answer.header("access-control-allow-origin"), "*");
    }
}

#[tokio::test]
async fn offline_access_is_in_neither_challenge_nor_metadata() {
    let world =
        World::with("scopes: [{ name: notes:read }, { name: offline_access }]\naccess: {}").await;
    world.introspection.grant("bare", "");
    let metadata = world.path(Method::GET, PATHS[0], None).await;
    assert_eq!(metadata.json()["scopes_supported"], json!(["notes:read"]));
    let no_token = world.path(Method::GET, "/mcp", None).await;
    assert!(
        no_token
            .header("www-authenticate")
            .contains("scope=\"notes:read\"")
    );
    let no_scope = world.call("bare", "x").await;
    assert_eq!(no_scope.status, StatusCode::FORBIDDEN);
    assert!(
        no_scope
            .header("www-authenticate")
            .contains("scope=\"notes:read\"")
    );
}
