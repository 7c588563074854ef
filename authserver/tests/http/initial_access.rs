//! `/register` with an initial access token (RFC 7591, section 3), and the grant types that clients may register.

use std::net::SocketAddr;
use std::sync::Arc;

use http::header;
use mcp_authserver::store::MemoryStore;
use serde_json::json;
use tower::ServiceExt as _;

use crate::server::{Answer, INITIAL_ACCESS_TOKEN, LOOPBACK, Setup, TestServer, VERIFIER, text};

async fn gated() -> TestServer {
    TestServer::with(Setup {
        more:
            "registration: { dynamic: { initialAccessTokenFile: '{FILES}/initial-access-token' } }
rateLimit: { addressFailuresPerMinute: 3 }",
        ..Setup::default()
    })
    .await
}

/// Registers from an address, with this value of the `Authorization` header.
async fn register(server: &TestServer, address: &str, authorization: Option<&str>) -> Answer {
    let peer = SocketAddr::new(address.parse().unwrap(), 1);
    let mut request = http::Request::post("/register").extension(axum::extract::ConnectInfo(peer));
    if let Some(value) = authorization {
        request = request.header(header::AUTHORIZATION, value);
    }
    let body = json!({
        "redirect_uris": [LOOPBACK], "token_endpoint_auth_method": "none",
        "grant_types": ["authorization_code", "refresh_token"],
    });
    let request = request.body(axum::body::Body::from(body.to_string()));
    let router = mcp_authserver::http::public::router(server.app.public.clone());
    Answer::of(router.oneshot(request.unwrap()).await.unwrap()).await
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

const HERE: &str = "192.0.2.1";

#[tokio::test]
async fn nobody_registers_without_the_initial_access_token() {
    let server = gated().await;
    let answer = register(&server, HERE, None).await;
    answer.is_error(401, "invalid_token");
    // No error code in the challenge: the client did not know (RFC 6750, section 3.1).
    let challenge = answer.header(header::WWW_AUTHENTICATE);
    assert_eq!(challenge, r#"Bearer realm="registration""#);
    assert!(answer.body.contains("initial access token"), "{answer:?}");

    let short = &INITIAL_ACCESS_TOKEN[1..];
    for wrong in [bearer("wrong"), bearer(short), bearer("")] {
        let answer = register(&server, HERE, Some(&wrong)).await;
        answer.is_error(401, "invalid_token");
        let challenge = answer.header(header::WWW_AUTHENTICATE);
        assert!(
            challenge.contains(r#"error="invalid_token""#),
            "{challenge}"
        );
    }
    let basic = format!("Basic {INITIAL_ACCESS_TOKEN}");
    let answer = register(&server, HERE, Some(&basic)).await;
    answer.is_error(401, "invalid_token");

    for right in [
        bearer(INITIAL_ACCESS_TOKEN),
        bearer(INITIAL_ACCESS_TOKEN).replace("Bear", "bear"),
    ] {
        let answer = register(&server, "198.51.100.1", Some(&right)).await;
        assert_eq!(answer.status, 201, "{answer:?}");
    }
}

#[tokio::test]
async fn guessing_the_initial_access_token_ends_for_the_network_that_guesses() {
    let server = gated().await;
    let right = bearer(INITIAL_ACCESS_TOKEN);
    let known = "198.51.100.1";
    assert_eq!(register(&server, known, Some(&right)).await.status, 201);
    for network in [HERE, known] {
        for n in 0..3 {
            let guess = bearer(&format!("guess-{n}"));
            let answer = register(&server, network, Some(&guess)).await;
            answer.is_error(401, "invalid_token");
        }
    }
    let answer = register(&server, HERE, Some(&right)).await;
    answer.is_error(429, "temporarily_unavailable");
    assert!(answer.header(header::RETRY_AFTER).parse::<u32>().unwrap() > 0);
    // Neither elsewhere, nor where the right one came from: behind a gateway that is everybody's network.
    for network in ["203.0.113.1", known] {
        assert_eq!(register(&server, network, Some(&right)).await.status, 201);
    }
}

#[tokio::test]
async fn a_new_initial_access_token_needs_no_restart() {
    let server = gated().await;
    let file = server.file("initial-access-token");
    // As Kubernetes updates a Secret: another file takes its place.
    let write = |text: &str| {
        let new = server.file("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &file).unwrap();
    };
    let status = async |token: &str| {
        register(&server, HERE, Some(&bearer(token)))
            .await
            .status
            .as_u16()
    };
    let next = INITIAL_ACCESS_TOKEN.replace('d', "e");
    assert_eq!(status(INITIAL_ACCESS_TOKEN).await, 201);
    write(&format!("{next}\n"));
    assert_eq!(status(INITIAL_ACCESS_TOKEN).await, 401);
    assert_eq!(status(&next).await, 201);
    // A weak one is not taken; the last one stays.
    write("changeme");
    assert_eq!(status("changeme").await, 401);
    assert_eq!(status(&next).await, 201);
    std::fs::remove_file(&file).unwrap();
    let answer = register(&server, HERE, Some(&bearer(&next))).await;
    answer.is_error(503, "temporarily_unavailable");
}

/// A narrower configuration holds for clients that registered before.
#[tokio::test]
async fn self_registered_clients_have_the_configured_grant_types() {
    let store: Arc<MemoryStore> = Arc::default();
    let before = TestServer::with(Setup {
        store: store.clone(),
        ..Setup::default()
    })
    .await;
    let client = register(&before, HERE, None).await.json();
    let id = text(&client["client_id"]);
    let redeem = async |server: &TestServer, id: &str| {
        let code = server.code(&[("client_id", id)]).await;
        let form = [
            ("grant_type", "authorization_code"),
            ("client_id", id),
            ("code", &code),
            ("code_verifier", VERIFIER),
        ];
        server.token(&form).await.ok()
    };
    let tokens = redeem(&before, &id).await;

    let server = TestServer::with(Setup {
        more: "registration: { dynamic: { grantTypes: [authorization_code] } }",
        store,
        ..Setup::default()
    })
    .await;
    let registered = register(&server, HERE, None).await.json();
    assert_eq!(registered["grant_types"], json!(["authorization_code"]));
    let refresh = text(&tokens["refresh_token"]);
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", &id),
        ("refresh_token", &refresh),
    ];
    let answer = server.token(&form).await;
    answer.is_error(400, "unauthorized_client");
    assert_eq!(redeem(&server, &id).await.get("refresh_token"), None);
    // Declared clients have what is declared.
    assert!(server.tokens(&[]).await["refresh_token"].is_string());
}
