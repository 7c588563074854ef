//! The main flow on PostgreSQL, with two replicas.

use std::sync::Arc;

use http::Method;
use mcp_authserver::store::PostgresStore;
use serde_json::json;
use sqlx::Executor as _;

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

/// The database goes away while it commits: nobody can tell whether the code was redeemed. A 503 would invite the client
/// to present the code again, which ends the family when it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redemption_in_doubt_is_not_to_be_repeated() {
    let postgres = Postgres::shared();
    let url = postgres.create_database().await;
    let server = replica(&url).await;
    let code = server.code(&[]).await;
    let database = url.split(['/', '?']).nth(3).unwrap();
    let mut session = postgres.connect(database).await;
    let dies_at_commit = "
        CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER die AFTER INSERT ON access_tokens
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION die()";
    session.execute(dies_at_commit).await.unwrap();
    let answer = server.redeem(&code).await;
    answer.is_error(400, "invalid_grant");
    assert!(answer.body.contains("authorize again"), "{answer:?}");

    // Before the commit nothing is in doubt.
    session
        .execute("DROP TRIGGER die ON access_tokens")
        .await
        .unwrap();
    let dies_before =
        "CREATE TRIGGER die BEFORE INSERT ON access_tokens FOR EACH ROW EXECUTE FUNCTION die()";
    session.execute(dies_before).await.unwrap();
    let code = server.code(&[]).await;
    let answer = server.redeem(&code).await;
    answer.is_error(503, "temporarily_unavailable");
    session
        .execute("DROP TRIGGER die ON access_tokens")
        .await
        .unwrap();
    server.redeem(&code).await.ok();
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
