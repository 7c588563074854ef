//! `/register` (RFC 7591). What may be registered is tested beside the rules.

use std::time::Duration;

use http::{Method, header};
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::server::{Answer, LOOPBACK, TestServer, VERIFIER, authorize_path, basic, text};

async fn register(server: &TestServer, body: &Value) -> Answer {
    let request = server
        .public(Method::POST, "/register")
        .header(header::CONTENT_TYPE, "application/json");
    server
        .send(request.body(body.to_string().into()).unwrap())
        .await
}

#[tokio::test]
async fn a_public_client_registers_and_gets_tokens_for_any_resource() {
    let server = TestServer::start().await;
    let body = json!({
        "redirect_uris": [LOOPBACK], "token_endpoint_auth_method": "none",
        "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"],
        "client_name": "Claude Code", "scope": "notes:read", "application_type": "native",
        "software_id": "x", "contacts": ["a@b.example"],
    });
    let answer = register(&server, &body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.header(header::CACHE_CONTROL), "no-store");
    let client = answer.json();
    assert_eq!(client["token_endpoint_auth_method"], "none");
    assert_eq!(client.get("client_secret"), None);
    let id = client["client_id"].as_str().unwrap();
    let code = server
        .authorize(&[("client_id", id)])
        .await
        .location_param("code")
        .unwrap();
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", id),
        ("code", code.as_str()),
        ("code_verifier", VERIFIER),
    ];
    let tokens = server.token(&form).await.ok();
    assert!(tokens["refresh_token"].is_string());
}

#[tokio::test]
async fn method_omitted_is_client_secret_basic() {
    let server = TestServer::start().await;
    let client = register(&server, &json!({ "redirect_uris": [LOOPBACK] }))
        .await
        .json();
    assert_eq!(client["token_endpoint_auth_method"], "client_secret_basic");
    assert_eq!(client["client_secret_expires_at"], 0);
    let id = client["client_id"].as_str().unwrap();
    let code = server
        .authorize(&[("client_id", id)])
        .await
        .location_param("code")
        .unwrap();
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("code_verifier", VERIFIER),
    ];
    let credentials = basic(id, client["client_secret"].as_str().unwrap());
    let headers = [(header::AUTHORIZATION, credentials.as_str())];
    server.post_with("/token", &headers, &form).await.ok();
}

#[tokio::test]
async fn the_error_names_the_redirect_uri_that_is_not_allowed() {
    let server = TestServer::start().await;
    let allowed = json!({ "redirect_uris": [
        "http://localhost:8787/callback", "cursor://anysphere.cursor-mcp/oauth/callback",
        "https://www.cursor.com/agents/mcp/oauth/callback",
    ]});
    assert_eq!(register(&server, &allowed).await.status, 201);
    let other = json!({ "redirect_uris": [LOOPBACK, "windsurf://x/callback"] });
    let answer = register(&server, &other).await;
    answer.is_error(400, "invalid_redirect_uri");
    assert!(answer.body.contains("windsurf://x/callback"), "{answer:?}");
    assert!(answer.body.contains("allowedRedirectSchemes"), "{answer:?}");
}

#[tokio::test]
async fn registration_flood() {
    let server = TestServer::start().await;
    let body = json!({ "redirect_uris": [LOOPBACK], "token_endpoint_auth_method": "none" });
    for _ in 0..60 {
        assert_eq!(register(&server, &body).await.status, 201);
    }
    let answer = register(&server, &body).await;
    assert_eq!(answer.status, 429);
    assert!(answer.header(header::RETRY_AFTER).parse::<u32>().unwrap() > 0);
}

#[tokio::test]
async fn bad_bodies() {
    let server = TestServer::start().await;
    let request = server.public(Method::POST, "/register");
    let answer = server.send(request.body("not json".into()).unwrap()).await;
    answer.is_error(400, "invalid_client_metadata");
    let large = json!({ "redirect_uris": [LOOPBACK], "client_name": "x".repeat(65 * 1024) });
    assert_eq!(register(&server, &large).await.status, 413);
}

#[tokio::test]
async fn a_logo_is_never_shown_and_bidi_names_are_escaped() {
    let server = TestServer::with_users().await;
    let body = json!({
        "redirect_uris": [LOOPBACK], "token_endpoint_auth_method": "none",
        "client_name": "<img src=x>\u{202e}evil", "logo_uri": "https://evil.example/logo.png",
        "client_uri": "https://evil.example/",
    });
    let client = register(&server, &body).await.json();
    let id = client["client_id"].as_str().unwrap();
    let mut browser = Browser::of(&server, "alice").await;
    let page = browser
        .get(&server, &authorize_path(&[("client_id", id)]))
        .await;
    assert!(
        page.body.contains("evil") && page.body.contains("registered itself"),
        "{page:?}"
    );
    for hidden in ["<img", "\u{202e}", "evil.example"] {
        assert!(!page.body.contains(hidden), "{hidden:?}: {page:?}");
    }
}

/// Nobody signs in again for months, and the client is in use all the time.
#[tokio::test]
async fn a_client_that_refreshes_is_in_use() {
    let server = TestServer::start().await;
    let body = json!({
        "redirect_uris": [LOOPBACK], "token_endpoint_auth_method": "none",
        "grant_types": ["authorization_code", "refresh_token"],
    });
    let client = register(&server, &body).await;
    let id = text(&client.json()["client_id"]);
    let code = server.code(&[("client_id", &id)]).await;
    let redeem = [
        ("grant_type", "authorization_code"),
        ("client_id", id.as_str()),
        ("code", &code),
        ("code_verifier", VERIFIER),
    ];
    let mut tokens = server.token(&redeem).await.ok();
    let days = |days: u64| Duration::from_secs(days * 86_400);
    server.clock.advance(days(20));
    let refresh = text(&tokens["refresh_token"]);
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", id.as_str()),
        ("refresh_token", &refresh),
    ];
    tokens = server.token(&form).await.ok();
    // The family ends, and the client was last seen at /authorize 40 days ago.
    let revoke = text(&tokens["refresh_token"]);
    server
        .post("/revoke", &[("token", &revoke), ("client_id", &id)])
        .await;
    server.clock.advance(days(20));
    let (store, now) = (&server.app.core.store, server.clock.now());
    while store
        .remove_expired(now.minus(days(30)), now)
        .await
        .unwrap()
    {}
    assert!(store.client(&id).await.unwrap().is_some());
    server.clock.advance(days(11));
    let now = server.clock.now();
    while store
        .remove_expired(now.minus(days(30)), now)
        .await
        .unwrap()
    {}
    assert!(store.client(&id).await.unwrap().is_none());
}
