//! `/revoke` (RFC 7009).

use mcp_authserver::oauth::token::{Token, TokenKind};
use serde_json::json;

use crate::server::{Answer, TestServer, text};

async fn revoke(server: &TestServer, client_id: &str, token: &str, hint: &str) -> Answer {
    let form = [
        ("client_id", client_id),
        ("token", token),
        ("token_type_hint", hint),
    ];
    server.post("/revoke", &form).await
}

#[tokio::test]
async fn a_refresh_token_takes_its_family_along() {
    let server = TestServer::start().await;
    let tokens = server.tokens(&[]).await;
    let refresh = text(&tokens["refresh_token"]);
    let answer = revoke(&server, "app", &refresh, "refresh_token").await;
    assert_eq!(answer.status, 200);
    assert!(!server.is_active(&text(&tokens["access_token"])).await);
    server
        .refresh(&refresh)
        .await
        .is_error(400, "invalid_grant");
}

#[tokio::test]
async fn an_access_token_goes_alone() {
    let server = TestServer::start().await;
    let tokens = server.tokens(&[]).await;
    let access = text(&tokens["access_token"]);
    revoke(&server, "app", &access, "access_token").await;
    assert!(!server.is_active(&access).await);
    server.refresh(&text(&tokens["refresh_token"])).await.ok();
}

#[tokio::test]
async fn revoking_another_clients_token_does_nothing() {
    let server = TestServer::start().await;
    server.put_client("other", json!({})).await;
    let tokens = server.tokens(&[]).await;
    for token in ["access_token", "refresh_token"] {
        let answer = revoke(&server, "other", &text(&tokens[token]), "").await;
        assert_eq!(answer.status, 200);
    }
    assert!(server.is_active(&text(&tokens["access_token"])).await);
    server.refresh(&text(&tokens["refresh_token"])).await.ok();
}

#[tokio::test]
async fn unknown_token_is_200() {
    let server = TestServer::start().await;
    let access = text(&server.tokens(&[]).await["access_token"]);
    // Well formed, as an expired and deleted one is.
    let unknown = Token::generate(TokenKind::Access, [1; 32]);
    let refresh = Token::generate(TokenKind::Refresh, [2; 32]);
    for token in [unknown.reveal(), refresh.reveal(), "noise"] {
        assert_eq!(revoke(&server, "app", token, "").await.status, 200);
    }
    assert!(server.is_active(&access).await);
}

#[tokio::test]
async fn wrong_hint_still_works() {
    let server = TestServer::start().await;
    let tokens = server.tokens(&[]).await;
    revoke(
        &server,
        "app",
        &text(&tokens["refresh_token"]),
        "access_token",
    )
    .await;
    assert!(!server.is_active(&text(&tokens["access_token"])).await);
}

#[tokio::test]
async fn a_client_that_is_not_authenticated() {
    let server = TestServer::start().await;
    revoke(&server, "nobody", "x", "")
        .await
        .is_error(401, "invalid_client");
    revoke(&server, "robot", "x", "")
        .await
        .is_error(401, "invalid_client");
    let answer = server.post("/revoke", &[("client_id", "app")]).await;
    answer.is_error(400, "invalid_request");
}
