//! Requests as clients of the last two years send them, beside `docs/reference/equality.md`.

use http::Method;
use mcp_authserver::keys::signing_key::SigningKey;
use mcpauth_wire::authserver_config::SigningAlgorithm;
use serde_json::{Value, json};

use crate::assertion;
use crate::server::{CHALLENGE, LOOPBACK, NOTES, TestServer, VERIFIER, query, text};

/// A client that registers itself with this document.
async fn register(server: &TestServer, document: &Value) -> String {
    let request = server
        .public(Method::POST, "/register")
        .header(http::header::CONTENT_TYPE, "application/json");
    let answer = server
        .send(request.body(document.to_string().into()).unwrap())
        .await;
    assert_eq!(answer.status, 201, "{answer:?}");
    text(&answer.json()["client_id"])
}

/// Authorizes and redeems with these parameters, in this order; the tokens.
async fn tokens(server: &TestServer, asked: &[(&str, &str)], redeemed: &[(&str, &str)]) -> Value {
    let answer = server.get(&format!("/authorize?{}", query(asked))).await;
    let code = answer.location_param("code");
    let code = code.unwrap_or_else(|| panic!("no code: {answer:?}"));
    let form = [redeemed, &[("code", code.as_str())]].concat();
    server.token(&form).await.ok()
}

/// As `oauth-client` of the TypeScript SDK builds it, which mcp-remote and Inspector use.
#[tokio::test]
async fn mcp_remote_asks_for_openid_email_profile() {
    let server = TestServer::start().await;
    let redirect_uri = "http://localhost:3334/oauth/callback";
    let scope = "openid email profile";
    let id = register(
        &server,
        &json!({
            "redirect_uris": [redirect_uri], "token_endpoint_auth_method": "none",
            "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"],
            "client_name": "MCP CLI Proxy", "client_uri": "https://github.com/modelcontextprotocol/mcp-cli",
            "software_id": "2e6dc280-f3c3-4e01-99a7-8181dbd1d23d", "software_version": "0.1.31",
            "scope": scope,
        }),
    )
    .await;
    let asked = [
        ("response_type", "code"),
        ("client_id", &id),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
        ("redirect_uri", redirect_uri),
        ("state", "9b1f6a5e"),
        ("scope", scope),
        ("resource", NOTES),
    ];
    let redeemed = [
        ("grant_type", "authorization_code"),
        ("client_id", &id),
        ("code_verifier", VERIFIER),
        ("redirect_uri", redirect_uri),
        ("resource", NOTES),
    ];
    let first = tokens(&server, &asked, &redeemed).await;
    assert_eq!(first["scope"], "notes:read notes:write openid");
    assert!(first["id_token"].is_string(), "{first}");
    assert!(server.is_active(&text(&first["access_token"])).await);
    let refresh = text(&first["refresh_token"]);
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", &id),
        ("refresh_token", &refresh),
        ("resource", NOTES),
    ];
    let refreshed = server.token(&form).await.ok();
    assert_eq!(refreshed["scope"], first["scope"]);
}

/// Once by its OAuth library, once by hand.
#[tokio::test]
async fn codex_sends_resource_twice() {
    let server = TestServer::start().await;
    let redirect_uri = "http://127.0.0.1:49152/callback";
    let id = register(
        &server,
        &json!({
            "client_name": "Codex", "redirect_uris": [redirect_uri],
            "grant_types": ["authorization_code", "refresh_token"],
            "token_endpoint_auth_method": "none", "response_types": ["code"],
        }),
    )
    .await;
    let asked = [
        ("response_type", "code"),
        ("client_id", &id),
        ("state", "9b1f6a5e"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
        ("redirect_uri", redirect_uri),
        ("resource", NOTES),
        ("resource", NOTES),
    ];
    let redeemed = [
        ("grant_type", "authorization_code"),
        ("code_verifier", VERIFIER),
        ("client_id", &id),
        ("redirect_uri", redirect_uri),
        ("resource", NOTES),
        ("resource", NOTES),
    ];
    let tokens = tokens(&server, &asked, &redeemed).await;
    assert_eq!(tokens["scope"], "notes:read notes:write");
    assert!(server.is_active(&text(&tokens["access_token"])).await);
}

/// Its URL type writes an issuer without a path as `https://host/`.
#[tokio::test]
async fn the_python_sdk_ends_the_audience_with_a_slash() {
    let key = SigningKey::generate(SigningAlgorithm::Es256).unwrap();
    let server = assertion::with_client(&key).await;
    let mut claims = assertion::claims(&server);
    claims["aud"] = format!("{}/", server.issuer()).into();
    let assertion = assertion::signed(&key, &claims);
    let form = [
        ("grant_type", "client_credentials"),
        ("client_assertion", assertion.as_str()),
        ("client_assertion_type", assertion::TYPE),
        ("resource", NOTES),
        ("scope", "notes:read"),
    ];
    let tokens = server.token(&form).await.ok();
    assert_eq!(tokens["scope"], "notes:read");
}

#[tokio::test]
async fn vs_code_asks_for_all_scopes_of_the_resource() {
    let server = TestServer::start().await;
    let client = json!({ "resources": [crate::server::notes(&["notes:read"])] });
    server.put_client("vs-code", client).await;
    let asked = [
        ("client_id", "vs-code"),
        ("response_type", "code"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
        ("scope", "notes:read notes:write"),
        ("resource", NOTES),
        ("redirect_uri", LOOPBACK),
        ("state", "9b1f6a5e"),
    ];
    let redeemed = [
        ("client_id", "vs-code"),
        ("grant_type", "authorization_code"),
        ("redirect_uri", LOOPBACK),
        ("code_verifier", VERIFIER),
    ];
    let tokens = tokens(&server, &asked, &redeemed).await;
    assert_eq!(tokens["scope"], "notes:read");
}

#[tokio::test]
async fn claude_ai_asks_for_all_scopes_of_the_server() {
    let server = TestServer::start().await;
    let path = "/.well-known/oauth-authorization-server";
    let metadata = server.get(path).await.ok();
    let names = metadata["scopes_supported"].as_array().unwrap().iter();
    let scope = names.map(text).collect::<Vec<_>>().join(" ");
    let tokens = server.tokens(&[("scope", &scope)]).await;
    assert_eq!(
        tokens["scope"],
        "notes:read notes:write offline_access openid"
    );
    assert!(server.is_active(&text(&tokens["access_token"])).await);
}
