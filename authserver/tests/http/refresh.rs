//! Refreshing. Races, siblings and crashes are in the store's suite, on both stores.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::browser::{Browser, ticket};
use crate::server::{MAIL, TestServer, authorize_path, notes, text};

#[tokio::test]
async fn a_refresh_rotates() {
    let server = TestServer::start().await;
    let first = server.tokens(&[]).await;
    let second = server.refresh(&text(&first["refresh_token"])).await.ok();
    assert_ne!(first["refresh_token"], second["refresh_token"]);
    assert!(server.is_active(&text(&second["access_token"])).await);
    server.refresh(&text(&second["refresh_token"])).await.ok();
}

#[tokio::test]
async fn a_refresh_can_narrow_and_the_next_one_has_all_again() {
    let server = TestServer::start().await;
    let tokens = server.tokens(&[("scope", "notes:read notes:write")]).await;
    let refresh = text(&tokens["refresh_token"]);
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", "app"),
        ("refresh_token", refresh.as_str()),
        ("scope", "notes:read"),
    ];
    let narrowed = server.token(&form).await.ok();
    assert_eq!(narrowed["scope"], "notes:read");
    let next = server.refresh(&text(&narrowed["refresh_token"])).await.ok();
    assert_eq!(next["scope"], "notes:read notes:write");
}

#[tokio::test]
async fn reuse_after_the_grace_window_kills_the_family_and_its_access_tokens() {
    let server = TestServer::start().await;
    let first = server.tokens(&[]).await;
    let second = server.refresh(&text(&first["refresh_token"])).await.ok();
    // The response to the first one has arrived.
    let third = server.refresh(&text(&second["refresh_token"])).await.ok();
    server.clock.advance(Duration::from_secs(61));
    let reused = server.refresh(&text(&first["refresh_token"])).await;
    reused.is_error(400, "invalid_grant");
    for tokens in [&first, &second, &third] {
        assert!(!server.is_active(&text(&tokens["access_token"])).await);
    }
    let current = server.refresh(&text(&third["refresh_token"])).await;
    current.is_error(400, "invalid_grant");
}

#[tokio::test]
async fn reuse_inside_it_gives_a_sibling() {
    let server = TestServer::start().await;
    let first = server.tokens(&[]).await;
    let second = server.refresh(&text(&first["refresh_token"])).await.ok();
    server.clock.advance(Duration::from_secs(59));
    let sibling = server.refresh(&text(&first["refresh_token"])).await.ok();
    for tokens in [second, sibling] {
        assert!(server.is_active(&text(&tokens["access_token"])).await);
    }
}

#[tokio::test]
async fn another_clients_refresh_token() {
    let server = TestServer::start().await;
    server.put_client("other", serde_json::json!({})).await;
    let tokens = server.tokens(&[]).await;
    let refresh = text(&tokens["refresh_token"]);
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", "other"),
        ("refresh_token", refresh.as_str()),
    ];
    server.token(&form).await.is_error(400, "invalid_grant");
    server.refresh(&refresh).await.ok();
}

#[tokio::test]
async fn the_user_is_disabled() {
    let server = TestServer::with_users().await;
    let mut browser = Browser::of(&server, "alice").await;
    let page = browser.get(&server, &authorize_path(&[])).await;
    let allowed = browser.decide(&server, &ticket(&page), "allow").await;
    let code = allowed.location_param("code").unwrap();
    let tokens = server.redeem(&code).await.ok();
    std::fs::write(server.users_file(), "users: []").unwrap();
    let refreshed = server.refresh(&text(&tokens["refresh_token"])).await;
    refreshed.is_error(400, "invalid_grant");
    assert!(!server.is_active(&text(&tokens["access_token"])).await);
    // The session has ended with the user, too.
    let page = browser.get(&server, &authorize_path(&[])).await;
    assert!(page.body.contains("Sign in"), "{page:?}");
}

#[tokio::test]
async fn the_clients_resource_is_deleted() {
    let server = TestServer::start().await;
    let tokens = server.tokens(&[]).await;
    let path = "/admin/v1/resources/notes";
    assert_eq!(
        server
            .admin(Method::DELETE, path, &Value::Null)
            .await
            .status,
        204
    );
    let refreshed = server.refresh(&text(&tokens["refresh_token"])).await;
    refreshed.is_error(400, "invalid_grant");
    assert!(!server.is_active(&text(&tokens["access_token"])).await);
}

#[tokio::test]
async fn the_client_may_use_the_resource_no_more() {
    let server = TestServer::start().await;
    let tokens = server.tokens(&[]).await;
    let refresh = text(&tokens["refresh_token"]);
    server
        .put_client(
            "app",
            json!({ "resources": [{ "uri": MAIL, "scopes": ["mail:send"] }] }),
        )
        .await;
    server
        .refresh(&refresh)
        .await
        .is_error(400, "invalid_grant");
    // Taken back, what it had does not come back.
    server.put_client("app", json!({})).await;
    let refreshed = server.refresh(&refresh).await;
    refreshed.is_error(400, "invalid_grant");
    assert!(!server.is_active(&text(&tokens["access_token"])).await);
}

#[tokio::test]
async fn the_client_may_have_a_scope_no_more() {
    let server = TestServer::start().await;
    let all = "notes:read notes:write offline_access";
    let tokens = server.tokens(&[("scope", all)]).await;
    let narrow = async |scopes: &[&str]| {
        let changes = json!({ "resources": [notes(scopes)] });
        server.put_client("app", changes).await;
    };
    narrow(&["notes:read"]).await;
    let tokens = server.refresh(&text(&tokens["refresh_token"])).await.ok();
    assert_eq!(tokens["scope"], "notes:read offline_access");
    let refresh = text(&tokens["refresh_token"]);
    // Asked for by name, it is as if it had never been granted.
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", "app"),
        ("refresh_token", refresh.as_str()),
        ("scope", "notes:write"),
    ];
    server.token(&form).await.is_error(400, "invalid_scope");
    narrow(&["mail:send"]).await;
    server
        .refresh(&refresh)
        .await
        .is_error(400, "invalid_scope");
    narrow(&["notes:write"]).await;
    let tokens = server.refresh(&refresh).await.ok();
    assert_eq!(tokens["scope"], all);
}

#[tokio::test]
async fn absolute_expiry() {
    let server = TestServer::start().await;
    let mut tokens = server.tokens(&[]).await;
    // 29 days are within the idle lifetime; the fourth such step passes the family's 90 days.
    for _ in 0..3 {
        server.clock.advance(Duration::from_secs(29 * 24 * 3600));
        tokens = server.refresh(&text(&tokens["refresh_token"])).await.ok();
    }
    server.clock.advance(Duration::from_secs(29 * 24 * 3600));
    let refreshed = server.refresh(&text(&tokens["refresh_token"])).await;
    refreshed.is_error(400, "invalid_grant");
}

#[tokio::test]
async fn no_access_token_outlives_its_family() {
    let server = TestServer::start().await;
    let mut tokens = server.tokens(&[]).await;
    for _ in 0..3 {
        server.clock.advance(Duration::from_secs(2_591_900));
        tokens = server.refresh(&text(&tokens["refresh_token"])).await.ok();
    }
    assert_eq!(tokens["expires_in"], 300);
}
