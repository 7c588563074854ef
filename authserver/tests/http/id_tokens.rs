//! ID tokens (OpenID Connect Core), and the keys that sign them.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, header};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, TokenData, Validation, decode, decode_header};
use mcp_authserver::metrics::Metrics;
use mcp_authserver::store::PostgresStore;
use mcpauth_test_support::postgres::Postgres;
use serde_json::{Value, json};

use crate::browser::{Browser, ticket};
use crate::server::{LOOPBACK, PASSWORD, Setup, TestServer, VERIFIER, authorize_path, text};

const OPENID: &[(&str, &str)] = &[("scope", "notes:read openid"), ("nonce", "n-1")];
const DAY: Duration = Duration::from_hours(24);

async fn with_all_algorithms() -> TestServer {
    TestServer::with(Setup {
        more: "registration: { dynamic: {} }\nsigningKeys: {}",
        ..Setup::default()
    })
    .await
}

/// An ID token verified by the published keys, whatever its time.
async fn verified(server: &TestServer, id_token: &str) -> Option<TokenData<Value>> {
    let jwks: JwkSet = serde_json::from_value(server.get("/jwks").await.ok()).unwrap();
    let header = decode_header(id_token).unwrap();
    let key = DecodingKey::from_jwk(jwks.find(&header.kid.unwrap())?).unwrap();
    let mut validation = Validation::new(header.alg);
    validation.validate_aud = false;
    validation.validate_exp = false;
    validation.set_issuer(&[server.issuer()]);
    Some(decode(id_token, &key, &validation).unwrap())
}

async fn id_token(server: &TestServer) -> String {
    text(&server.tokens(OPENID).await["id_token"])
}

#[tokio::test]
async fn they_are_signed_by_a_published_key_with_rs256() {
    let server = with_all_algorithms().await;
    let data = verified(&server, &id_token(&server).await).await.unwrap();
    assert_eq!(data.header.alg, jsonwebtoken::Algorithm::RS256);
    assert_eq!(data.claims["aud"], "app");
    assert_eq!(data.claims["sub"], "developer");
    assert_eq!(data.claims["nonce"], "n-1");
    assert_eq!(data.claims["auth_time"], data.claims["iat"]);
    let without = server.tokens(&[]).await;
    assert_eq!(without.get("id_token"), None);
    let metadata = server.get("/.well-known/openid-configuration").await.ok();
    assert_eq!(
        metadata["id_token_signing_alg_values_supported"],
        json!(["ES256", "RS256"])
    );
    assert_eq!(metadata["claims_parameter_supported"], false);
    assert_eq!(metadata["request_parameter_supported"], false);
    let keys = server.get("/jwks").await;
    assert_eq!(keys.header(header::CACHE_CONTROL), "public, max-age=300");
}

#[tokio::test]
async fn a_client_chooses_the_algorithm_when_it_registers() {
    let server = with_all_algorithms().await;
    let register = async |algorithm: &str| {
        let body = json!({
            "redirect_uris": [LOOPBACK], "token_endpoint_auth_method": "none",
            "id_token_signed_response_alg": algorithm,
        });
        let request = server
            .public(Method::POST, "/register")
            .header(header::CONTENT_TYPE, "application/json");
        let request = request.body(body.to_string().into()).unwrap();
        server.send(request).await
    };
    register("HS256")
        .await
        .is_error(400, "invalid_client_metadata");
    let client = register("ES256").await.json();
    assert_eq!(client["id_token_signed_response_alg"], "ES256");
    let id = text(&client["client_id"]);
    let changes = [&[("client_id", id.as_str())], OPENID].concat();
    let code = server.code(&changes).await;
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", id.as_str()),
        ("code", code.as_str()),
        ("code_verifier", VERIFIER),
    ];
    let tokens = server.token(&form).await.ok();
    let data = verified(&server, &text(&tokens["id_token"])).await.unwrap();
    assert_eq!(data.header.alg, jsonwebtoken::Algorithm::ES256);
}

/// Two replicas over one database, whose keys are looked after at the same moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_rotate_at_once_make_one_key_and_old_tokens_verify() {
    let url = Postgres::shared().create_database().await;
    let replica = async || {
        let store = PostgresStore::new(&url, 4).unwrap();
        store.migrate().await.unwrap();
        TestServer::with(Setup {
            issuer: "http://localhost:9000",
            store: Arc::new(store),
            more: "signingKeys: { algorithms: [ES256], rotationDays: 10 }",
            ..Setup::default()
        })
        .await
    };
    let (one, other) = tokio::join!(replica(), replica());
    let tend = async |server: &TestServer| {
        let core = &server.app.core;
        let (store, now) = (core.store.as_ref(), core.clock.now());
        server
            .app
            .signing
            .tend(store, &core.pepper, now)
            .await
            .unwrap();
    };
    let pass = async |time: Duration| {
        for server in [&one, &other] {
            server.clock.advance(time);
        }
        tokio::join!(tend(&one), tend(&other));
    };
    let states = async |server: &TestServer| {
        let path = "/admin/v1/signing-keys";
        let answer = server.admin(Method::GET, path, &json!(null)).await.ok();
        let keys = answer["keys"].as_array().unwrap().clone();
        keys.iter()
            .map(|key| text(&key["state"]))
            .collect::<Vec<_>>()
    };
    tend(&one).await;
    assert_eq!(states(&one).await, ["Active"]);
    let first = id_token(&one).await;

    pass(DAY * 9).await;
    for server in [&one, &other] {
        assert_eq!(states(server).await, ["Active", "Next"]);
        let kid = |token: &str| decode_header(token).unwrap().kid;
        assert_eq!(
            kid(&id_token(server).await),
            kid(&first),
            "it is not used yet"
        );
    }
    assert_eq!(one.get("/jwks").await.ok(), other.get("/jwks").await.ok());
    let last = id_token(&other).await;

    pass(DAY).await;
    assert_eq!(states(&one).await, ["Retired", "Active"]);
    let second = id_token(&one).await;
    assert_ne!(
        decode_header(&second).unwrap().kid,
        decode_header(&first).unwrap().kid
    );
    for token in [&last, &second] {
        assert!(verified(&one, token).await.is_some());
        assert!(verified(&other, token).await.is_some());
    }
    let metrics = Metrics::default();
    one.app.signing.count(&metrics, one.clock.now());
    let page = metrics.encode();
    for (state, count) in [("Next", 0), ("Active", 1), ("Retired", 1)] {
        let line = format!(
            "mcpauth_authserver_signing_keys{{algorithm=\"ES256\",state=\"{state}\"}} {count}\n"
        );
        assert!(page.contains(&line), "{line}{page}");
    }

    pass(DAY + Duration::from_hours(1)).await;
    assert_eq!(states(&other).await, ["Active"]);
    assert!(verified(&other, &last).await.is_none());
}

/// `max_age` and `auth_time` (OpenID Connect Core, sections 2 and 3.1.2.1).
#[tokio::test]
async fn an_old_login_is_repeated_when_the_client_asks_for_that() {
    let server = TestServer::with_users().await;
    let mut browser = Browser::default();
    let page = browser.get(&server, &authorize_path(OPENID)).await;
    let answer = browser.log_in(&server, &page, "alice", PASSWORD).await;
    let consent = browser.get(&server, answer.header(header::LOCATION)).await;
    let began = server.clock.now().as_seconds();
    server.clock.advance(Duration::from_secs(100));
    let answer = browser.decide(&server, &ticket(&consent), "allow").await;
    let code = answer.location_param("code").unwrap();
    let tokens = server.redeem(&code).await.ok();
    let claims = verified(&server, &text(&tokens["id_token"]))
        .await
        .unwrap()
        .claims;
    assert_eq!(claims["auth_time"], began);
    let refreshed = server.refresh(&text(&tokens["refresh_token"])).await.ok();
    let claims = verified(&server, &text(&refreshed["id_token"]))
        .await
        .unwrap()
        .claims;
    assert_eq!(claims["auth_time"], began, "a refresh is no login");

    let visit = async |browser: &mut Browser, changes: &[(&str, &str)]| {
        let changes = [OPENID, changes].concat();
        browser.get(&server, &authorize_path(&changes)).await
    };
    let page = visit(&mut browser, &[("max_age", "100")]).await;
    assert!(page.body.contains("/consent"), "{page:?}");
    let page = visit(&mut browser, &[("max_age", "99")]).await;
    assert!(page.body.contains("/login"), "{page:?}");
    let silent = visit(&mut browser, &[("max_age", "99"), ("prompt", "none")]).await;
    assert_eq!(
        silent.location_param("error").as_deref(),
        Some("login_required")
    );
    for bad in ["-1", "x", "1.5", "+1"] {
        let answer = visit(&mut browser, &[("max_age", bad)]).await;
        let error = answer.location_param("error");
        assert_eq!(error.as_deref(), Some("invalid_request"), "{bad}");
    }

    // The login ends it, however short the age.
    let page = visit(&mut browser, &[("max_age", "0")]).await;
    let answer = browser.log_in(&server, &page, "alice", PASSWORD).await;
    server.clock.advance(Duration::from_secs(5));
    let consent = browser.get(&server, answer.header(header::LOCATION)).await;
    let answer = browser.decide(&server, &ticket(&consent), "allow").await;
    assert!(answer.location_param("code").is_some(), "{answer:?}");
}
