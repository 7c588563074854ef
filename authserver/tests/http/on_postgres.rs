//! The main flow on PostgreSQL, with two replicas.

use std::sync::Arc;

use http::Method;
use mcp_authserver::store::PostgresStore;
use serde_json::json;

use crate::server::{Setup, TestServer, text};
use mcpauth_test_support::postgres::Postgres;

async fn replica(url: &str) -> TestServer {
    let store = PostgresStore::new(url, 4).unwrap();
    store.migrate().await.unwrap();
    TestServer::with(Setup {
        store: Arc::new(store),
        ..Setup::default()
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_replica_issues_the_other_knows() {
    let url = Postgres::shared().create_database().await;
    let (one, other) = (replica(&url).await, replica(&url).await);
    let code = one.code(&[("scope", "notes:read openid")]).await;
    let tokens = other.redeem(&code).await.ok();
    assert!(one.is_active(&text(&tokens["access_token"])).await);
    let refreshed = one.refresh(&text(&tokens["refresh_token"])).await.ok();
    assert!(other.is_active(&text(&refreshed["access_token"])).await);
    let jwks = one.get("/jwks").await.ok();
    assert_eq!(jwks, other.get("/jwks").await.ok());
    other.redeem(&code).await.is_error(400, "invalid_grant");
    assert!(!one.is_active(&text(&refreshed["access_token"])).await);
}

/// PostgreSQL takes no NUL in a text: it must be refused before, and never be a server error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nul_characters_are_refused() {
    let url = Postgres::shared().create_database().await;
    let server = replica(&url).await;
    assert_eq!(
        server.authorize(&[("client_id", "app\0")]).await.status,
        400
    );
    let answer = server.authorize(&[("nonce", "\0")]).await;
    assert_eq!(
        answer.location_param("error").as_deref(),
        Some("invalid_request")
    );
    let answer = server.authorize(&[("state", "\0")]).await;
    assert!(answer.location_param("code").is_some(), "{answer:?}");
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", "a\0"),
        ("code", "\0"),
    ];
    server.token(&form).await.is_error(401, "invalid_client");
    for path in ["clients/a%00b", "resources/a%00b"] {
        let path = format!("/admin/v1/{path}");
        let answer = server.admin(Method::GET, &path, &json!(null)).await;
        assert_eq!(answer.status, 404);
        let answer = server.admin(Method::DELETE, &path, &json!(null)).await;
        assert_eq!(answer.status, 204);
    }
    let name = json!({
        "clientName": "a\0b", "tokenEndpointAuthMethod": "none", "redirectUris": ["http://localhost/"],
        "grantTypes": ["authorization_code"],
    });
    let answer = server
        .admin(Method::PUT, "/admin/v1/clients/a", &name)
        .await;
    answer.is_error(400, "invalid_client_metadata");
}
