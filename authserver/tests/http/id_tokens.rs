//! ID tokens (OpenID Connect Core), and the keys that sign them.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, header};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, TokenData, Validation, decode, decode_header};
use mcp_authserver::keys::signing_key::SigningKey;
use mcp_authserver::metrics::Metrics;
use mcp_authserver::store::PostgresStore;
use mcpauth_test_support::postgres::Postgres;
use mcpauth_wire::authserver_config::SigningAlgorithm;
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

/// The user signs in, allows access, and the client gets an ID token.
async fn id_token_of(server: &TestServer, browser: &mut Browser, user: &str) -> String {
    let page = browser.get(server, &authorize_path(OPENID)).await;
    let answer = browser.log_in(server, &page, user, PASSWORD).await;
    let consent = browser.get(server, answer.header(header::LOCATION)).await;
    let answer = browser.decide(server, &ticket(&consent), "allow").await;
    let code = answer.location_param("code").unwrap();
    text(&server.redeem(&code).await.ok()["id_token"])
}

/// `id_token_hint` (OpenID Connect Core, section 3.1.2.1).
#[tokio::test]
async fn a_client_that_expects_one_user_gets_no_code_of_another() {
    let server = TestServer::with_users().await;
    let mut browser = Browser::default();
    let of_bob = id_token_of(&server, &mut Browser::default(), "bob").await;
    let of_alice = id_token_of(&server, &mut browser, "alice").await;
    // Of a login long ago.
    server.clock.advance(Duration::from_hours(2));
    let visit = async |browser: &mut Browser, changes: &[(&str, &str)]| {
        let changes = [OPENID, changes].concat();
        browser.get(&server, &authorize_path(&changes)).await
    };

    let page = visit(&mut browser, &[("id_token_hint", &of_alice)]).await;
    assert!(page.body.contains("/consent"), "{page:?}");
    let silent = [("id_token_hint", of_alice.as_str()), ("prompt", "none")];
    let answer = visit(&mut browser, &silent).await;
    assert_eq!(
        answer.location_param("error").as_deref(),
        Some("consent_required"),
        "alice is signed in"
    );

    let silent = [("id_token_hint", of_bob.as_str()), ("prompt", "none")];
    for browser in [&mut browser, &mut Browser::default()] {
        let answer = visit(browser, &silent).await;
        let error = answer.location_param("error");
        assert_eq!(error.as_deref(), Some("login_required"), "{answer:?}");
    }
    let page = visit(&mut browser, &[("id_token_hint", &of_bob)]).await;
    assert!(page.body.contains("/login"), "{page:?}");
    assert!(page.body.contains(r#"value="bob""#), "{page:?}");
    // Whoever signs in instead is asked again.
    let answer = browser.log_in(&server, &page, "alice", PASSWORD).await;
    let page = browser.get(&server, answer.header(header::LOCATION)).await;
    assert!(page.body.contains("/login"), "{page:?}");
    assert!(page.body.contains("another user"), "{page:?}");
    let answer = browser.log_in(&server, &page, "bob", PASSWORD).await;
    let page = browser.get(&server, answer.header(header::LOCATION)).await;
    let answer = browser.decide(&server, &ticket(&page), "allow").await;
    assert!(answer.location_param("code").is_some(), "{answer:?}");
}

#[tokio::test]
async fn a_hint_is_an_id_token_of_this_server_for_this_client() {
    let server = TestServer::with_users().await;
    let mut browser = Browser::default();
    let own = id_token_of(&server, &mut browser, "alice").await;
    let signer = server.app.signing.signer(None, server.clock.now()).unwrap();
    let claims = |name: &str, value: Value| {
        let mut claims = json!({ "iss": server.issuer(), "sub": "alice", "aud": "app" });
        claims[name] = value;
        claims
    };
    let signed = |name: &str, value: Value| signer.sign("JWT", &claims(name, value)).unwrap();
    let foreign = SigningKey::generate(SigningAlgorithm::Es256).unwrap();
    let forged = foreign.sign("JWT", &claims("sub", json!("alice"))).unwrap();
    let (message, _) = own.rsplit_once('.').unwrap();
    let mut visit = async |hint: &str| {
        let changes = [OPENID, &[("id_token_hint", hint), ("prompt", "none")]].concat();
        let answer = browser.get(&server, &authorize_path(&changes)).await;
        answer.location_param("error")
    };
    for ours in [own.clone(), signed("sub", json!("alice"))] {
        assert_eq!(visit(&ours).await.as_deref(), Some("consent_required"));
    }
    for other in [
        "x",
        &format!("{message}."),
        &forged,
        &signed("iss", json!("https://other.example")),
        &signed("aud", json!("other")),
        &signed("sub", Value::Null),
    ] {
        let error = visit(other).await;
        assert_eq!(error.as_deref(), Some("invalid_request"), "{other}");
    }
}

/// A key that signs no more is known until what it has signed has expired.
#[tokio::test]
async fn a_hint_may_be_signed_by_a_retired_key() {
    let server = TestServer::with(Setup {
        issuer: "https://auth.example",
        local_users: true,
        more: "signingKeys: { algorithms: [ES256], rotationDays: 10 }",
        ..Setup::default()
    })
    .await;
    let pass = async |time: Duration| {
        server.clock.advance(time);
        let core = &server.app.core;
        let (store, now) = (core.store.as_ref(), core.clock.now());
        let tended = server.app.signing.tend(store, &core.pepper, now).await;
        tended.unwrap();
    };
    pass(DAY * 9).await;
    pass(DAY - Duration::from_secs(1)).await;
    let mut browser = Browser::default();
    let old = id_token_of(&server, &mut browser, "alice").await;
    pass(Duration::from_secs(1)).await;
    let new = id_token_of(&server, &mut Browser::default(), "bob").await;
    let kid = |token: &str| decode_header(token).unwrap().kid;
    assert_ne!(kid(&old), kid(&new));
    let mut visit = async |hint: &str| {
        let changes = [OPENID, &[("id_token_hint", hint), ("prompt", "none")]].concat();
        let answer = browser.get(&server, &authorize_path(&changes)).await;
        answer.location_param("error")
    };
    assert_eq!(visit(&old).await.as_deref(), Some("consent_required"));
    assert_eq!(visit(&new).await.as_deref(), Some("login_required"));
}

/// Where the user is always the same, nobody else can sign in.
#[tokio::test]
async fn a_hint_at_someone_else_is_refused_where_the_user_is_always_known() {
    let server = TestServer::start().await;
    let signer = server.app.signing.signer(None, server.clock.now()).unwrap();
    let hint = |subject: &str| {
        let claims = json!({ "iss": server.issuer(), "sub": subject, "aud": "app" });
        signer.sign("JWT", &claims).unwrap()
    };
    let answer = server
        .authorize(&[("id_token_hint", &hint("developer"))])
        .await;
    assert!(answer.location_param("code").is_some(), "{answer:?}");
    let answer = server.authorize(&[("id_token_hint", &hint("other"))]).await;
    let error = answer.location_param("error");
    assert_eq!(error.as_deref(), Some("login_required"), "{answer:?}");
}
