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

/// A client that a newer version has stored, beside this one: its requests are to be repeated, and not given up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_only_a_newer_version_knows() {
    let postgres = Postgres::shared();
    let url = postgres.create_database().await;
    let server = replica(&url).await;
    let tokens = server.tokens(&[]).await;
    let [access, refresh] = ["access_token", "refresh_token"].map(|name| text(&tokens[name]));
    let mut session = postgres
        .connect(url.split(['/', '?']).nth(3).unwrap())
        .await;
    let newer = "UPDATE clients SET origin = 'metadata-document' WHERE client_id = 'app'";
    session.execute(newer).await.unwrap();
    let refused = server.refresh(&refresh).await;
    let introspected = server.introspect_as("notes-proxy", &access).await;
    for answer in [&refused, &introspected] {
        answer.is_error(503, "temporarily_unavailable");
        assert_eq!(answer.header(http::header::RETRY_AFTER), "1");
    }
    assert!(refused.body.contains("is being updated"), "{refused:?}");
    let page = server.authorize(&[]).await;
    assert_eq!(page.status, 503);
    assert_eq!(page.header(http::header::RETRY_AFTER), "1");
    let back = "UPDATE clients SET origin = 'config' WHERE client_id = 'app'";
    session.execute(back).await.unwrap();
    server.refresh(&refresh).await.ok();
    assert!(server.is_active(&access).await);
}

/// The statements that this server's database has executed.
fn statements(postgres: &Postgres) -> Vec<String> {
    let log = postgres.log();
    let executed = log.lines().filter_map(|line| {
        let (_, statement) = line.split_once("LOG:  execute ")?;
        Some(statement.split_once(": ")?.1.to_owned())
    });
    executed.collect()
}

/// Time cannot be asserted; what is asked of the database can. The work on the secret itself: `client_auth`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_client_and_a_wrong_secret_cost_the_same_lookups() {
    let postgres = Postgres::with_options("-c listen_addresses= -c fsync=off -c log_statement=all");
    let server = replica(&postgres.create_database().await).await;
    let lookups = async |client_id: &str| {
        let before = statements(&postgres).len();
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", client_id),
            ("client_secret", "wrong"),
        ];
        server.token(&form).await.is_error(401, "invalid_client");
        statements(&postgres).split_off(before)
    };
    let (unknown, wrong) = (lookups("nobody").await, lookups("poster").await);
    assert!(!unknown.is_empty());
    assert_eq!(unknown, wrong);
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
