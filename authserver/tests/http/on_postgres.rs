//! The main flow on PostgreSQL, with two replicas.

use mcp_authserver::store::{PostgresStore, Store};

use crate::postgres::Postgres;
use crate::server::{Setup, TestServer, text};

async fn replica(url: &str) -> TestServer {
    let store = PostgresStore::new(url, 4).unwrap();
    store.migrate().await.unwrap();
    TestServer::with(Setup {
        store: Store::Postgres(store),
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
