//! `/register` (RFC 7591). What may be registered is tested beside the rules.

use std::net::SocketAddr;
use std::time::Duration;

use http::{Method, header};
use mcp_authserver::keys::signing_key::SigningKey;
use mcpauth_wire::authserver_config::SigningAlgorithm;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::browser::Browser;
use crate::server::{Answer, LOOPBACK, Setup, TestServer, VERIFIER, authorize_path, basic, text};

async fn register(server: &TestServer, body: &Value) -> Answer {
    let request = server
        .public(Method::POST, "/register")
        .header(header::CONTENT_TYPE, "application/json");
    server
        .send(request.body(body.to_string().into()).unwrap())
        .await
}

/// From this address.
async fn register_from(server: &TestServer, address: &str, body: &Value) -> Answer {
    let peer = SocketAddr::new(address.parse().unwrap(), 1);
    let request = http::Request::post("/register")
        .extension(axum::extract::ConnectInfo(peer))
        .body(axum::body::Body::from(body.to_string()));
    let router = mcp_authserver::http::public::router(server.app.public.clone());
    let response = router.oneshot(request.unwrap()).await.unwrap();
    Answer::of(response).await
}

fn public_client() -> Value {
    json!({
        "redirect_uris": [LOOPBACK], "token_endpoint_auth_method": "none",
        "grant_types": ["authorization_code", "refresh_token"],
    })
}

impl TestServer {
    /// The first tokens of a public client.
    async fn redeem_as(&self, id: &str) -> Value {
        let code = self.code(&[("client_id", id)]).await;
        let form = [
            ("grant_type", "authorization_code"),
            ("client_id", id),
            ("code", &code),
            ("code_verifier", VERIFIER),
        ];
        self.token(&form).await.ok()
    }

    /// Whether a client stays when the unused ones are removed.
    async fn keeps(&self, id: &str) -> bool {
        self.remove_expired(self.clock.now()).await;
        self.app.core.store.client(id).await.unwrap().is_some()
    }
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
    // As large as may be, and one byte more.
    let limit = 8 * 1024;
    let mut body = json!({ "redirect_uris": [LOOPBACK], "software_id": "" });
    body["software_id"] = "x".repeat(limit - body.to_string().len()).into();
    assert_eq!(register(&server, &body).await.status, 201);
    body["software_id"] = format!("{}x", text(&body["software_id"])).into();
    assert_eq!(register(&server, &body).await.status, 413);
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
    let client = register(&server, &public_client()).await;
    let id = text(&client.json()["client_id"]);
    let mut tokens = server.redeem_as(&id).await;
    let days = |days: u64| Duration::from_secs(days * 86_400);
    let refresh = async |tokens: &Value| {
        let refresh = text(&tokens["refresh_token"]);
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", id.as_str()),
            ("refresh_token", &refresh),
        ];
        server.token(&form).await.ok()
    };
    for _ in 0..3 {
        server.clock.advance(days(20));
        tokens = refresh(&tokens).await;
    }
    // The family ends, and the client was last seen at /authorize 110 days ago.
    let revoke = text(&tokens["refresh_token"]);
    server
        .post("/revoke", &[("token", &revoke), ("client_id", &id)])
        .await;
    server.clock.advance(days(50));
    assert!(server.keeps(&id).await);
    server.clock.advance(days(41));
    assert!(!server.keeps(&id).await);
}

/// Anyone can open `/authorize` with any client.
#[tokio::test]
async fn a_client_that_nobody_signs_in_with_is_not_in_use() {
    let server = TestServer::with_users().await;
    let client = register(&server, &public_client()).await;
    let id = text(&client.json()["client_id"]);
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    server.clock.advance(hours(5));
    let page = server.authorize(&[("client_id", &id)]).await;
    assert_eq!(page.status, 200, "{page:?}");
    assert!(server.keeps(&id).await);
    server.clock.advance(hours(2));
    assert!(!server.keeps(&id).await);
}

/// A flood from one network displaces itself, and nobody else.
#[tokio::test]
async fn registration_flood_displaces_its_own_clients() {
    let server = TestServer::with(Setup {
        more: "registration: { dynamic: { maxClients: 20 } }",
        ..Setup::default()
    })
    .await;
    let from = async |address: &str| {
        server.clock.advance(Duration::from_secs(1));
        let answer = register_from(&server, address, &public_client()).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        text(&answer.json()["client_id"])
    };
    let honest = from("192.0.2.1").await;
    let used = from("198.51.100.1").await;
    server.redeem_as(&used).await;
    let first = from("198.51.100.2").await;
    for n in 0..50 {
        from(&format!("198.51.100.{n}")).await;
    }
    let last = from("2001:db8::1").await;
    let store = &server.app.core.store;
    for (id, stays) in [
        (&honest, true),
        (&used, true),
        (&last, true),
        (&first, false),
    ] {
        let client = store.client(id).await.unwrap();
        assert_eq!(client.is_some(), stays);
    }
}

#[tokio::test]
async fn where_all_clients_are_in_use_the_error_says_what_to_do() {
    let server = TestServer::with(Setup {
        more: "registration: { dynamic: { maxClients: 1 } }",
        ..Setup::default()
    })
    .await;
    let client = register(&server, &public_client()).await.json();
    server.redeem_as(&text(&client["client_id"])).await;
    let answer = register(&server, &public_client()).await;
    answer.is_error(503, "temporarily_unavailable");
    assert!(answer.body.contains("registration.dynamic.maxClients"));
}

/// What is stored of a document is no larger than the document, whatever the database makes of numbers.
#[tokio::test]
async fn only_what_verifies_a_signature_is_kept_of_keys() {
    let server = TestServer::start().await;
    let mut key = SigningKey::generate(SigningAlgorithm::Es256)
        .unwrap()
        .public_jwk();
    key["x5c"] = json!(["long"]);
    key["more"] = json!(1e300);
    let body = json!({
        "redirect_uris": [LOOPBACK], "token_endpoint_auth_method": "private_key_jwt", "jwks": { "keys": [key] },
    });
    let client = register(&server, &body).await.json();
    let kept = client["jwks"]["keys"][0].as_object().unwrap();
    assert_eq!(kept.get("x"), key.get("x"));
    assert!(!kept.contains_key("x5c") && !kept.contains_key("more"));
}
