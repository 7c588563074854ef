//! What is logged: the fields that people search for, and no secret, whatever goes wrong. The audit has none, either.

use std::sync::Arc;

use http::{Method, header};
use http_body_util::Full;
use mcp_authserver::store::PostgresStore;
use mcpauth_service::trace::subject_hash;
use mcpauth_test_support::logs::{self, Logs};
use serde_json::{Value, json};
use sqlx::Executor as _;

use crate::browser::{Browser, ticket};
use crate::server::{
    CHALLENGE, FORM, PASSWORD, SECRET, Setup, TRACE, TestServer, VERIFIER, authorize_path, basic,
    query, text,
};
use mcpauth_test_support::postgres::Postgres;

const WRONG_VERIFIER: &str = "wrong-verifier-dBjftJeZ4CVP-mB92K27uhbUJU1p1r";

/// What was sent or made, and must not be in the log.
struct Secrets(Vec<String>);

impl Secrets {
    /// Those of the configuration.
    fn configured() -> Self {
        let mut secrets = Self(Vec::new());
        for id in ["operator", "notes-proxy", "mail-proxy"] {
            let secret = format!("secret-of-{id}");
            secrets.add(basic(id, &secret));
            secrets.add(secret);
        }
        for known in [
            SECRET,
            PASSWORD,
            VERIFIER,
            "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE",
            "$argon2id$v=19$m=8",
        ] {
            secrets.add(known);
        }
        secrets
    }

    fn add(&mut self, secret: impl Into<String>) -> String {
        let secret = secret.into();
        assert!(secret.len() > 3, "{secret:?} would be found anywhere");
        self.0.push(secret.clone());
        secret
    }

    fn add_tokens(&mut self, answer: &Value) {
        for name in [
            "access_token",
            "refresh_token",
            "id_token",
            "client_secret",
            "registration_access_token",
        ] {
            if let Some(token) = answer[name].as_str() {
                self.add(token);
            }
        }
    }

    fn assert_none_in(&self, logs: &Logs, server: &TestServer) {
        let secrets: Vec<_> = self.0.iter().map(String::as_str).collect();
        logs.assert_free_of(&secrets);
        let audited = server.audited();
        assert!(audited.len() > 2, "{audited:?}");
        for line in audited.iter().map(Value::to_string) {
            let found = secrets.iter().find(|secret| line.contains(**secret));
            assert_eq!(found, None, "{line}");
        }
    }
}

/// The one line about the refusal of a request with this error and these fields.
fn refused(logs: &Logs, error: &str, fields: &[&str]) {
    let lines = logs.containing("request refused");
    let error = format!("error={error} ");
    let matches =
        |line: &&String| line.contains(&error) && fields.iter().all(|field| line.contains(field));
    let found = lines.iter().filter(matches).count();
    assert!(found > 0, "{error}{fields:?}: {lines:#?}");
    assert!(lines.iter().all(|line| line.starts_with("INFO ")));
}

#[tokio::test]
async fn a_refusal_is_one_line_with_what_people_search_for() {
    let server = TestServer::start().await;
    let logs = logs::capture();
    let traceparent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", "app"),
        ("refresh_token", "mrt_x"),
    ];
    let name = header::HeaderName::from_static("traceparent");
    let answer = server
        .post_with("/token", &[(name, &traceparent)], &form)
        .await;
    answer.is_error(400, "invalid_grant");
    let trace = format!("trace_id={TRACE}");
    let fields = [
        "endpoint=/token",
        &trace,
        "client=app",
        "grant_type=refresh_token",
        "outcome=400",
        "reason=the code or refresh token is unknown, expired or revoked",
    ];
    refused(&logs, "invalid_grant", &fields);
    assert_eq!(logs.containing("request refused").len(), 1);
}

#[tokio::test]
async fn a_users_requests_have_the_hash_and_not_the_name() {
    let server = TestServer::with_users().await;
    let logs = logs::capture();
    let mut browser = Browser::of(&server, "alice").await;
    let page = browser.get(&server, &authorize_path(&[])).await;
    let answer = browser.decide(&server, &ticket(&page), "allow").await;
    let code = answer.location_param("code").unwrap();
    let tokens = server.redeem(&code).await.ok();
    assert!(server.is_active(&text(&tokens["access_token"])).await);
    let subject = format!("subject={}", subject_hash("alice"));
    for place in [
        "request{endpoint=/login",
        "request{endpoint=/token",
        "introspect{",
    ] {
        let lines = logs.containing(place);
        let found = lines.iter().any(|line| line.contains(&subject));
        assert!(found, "{place}: {lines:#?}");
    }
    logs.assert_free_of(&["alice", &code]);
}

#[tokio::test]
async fn no_secret_is_logged_whatever_fails_at_the_token_endpoint() {
    let server = TestServer::start().await;
    let logs = logs::capture();
    let mut secrets = Secrets::configured();

    let wrong = secrets.add("wrong-client-secret");
    let header = secrets.add(basic("robot", &wrong));
    let grant = [("grant_type", "client_credentials")];
    let answer = server
        .post_with("/token", &[(header::AUTHORIZATION, &header)], &grant)
        .await;
    answer.is_error(401, "invalid_client");
    let posted = [
        ("grant_type", "client_credentials"),
        ("client_id", "poster"),
        ("client_secret", &wrong),
    ];
    server.token(&posted).await.is_error(401, "invalid_client");
    assert_eq!(
        logs.containing("reason=the client secret is wrong").len(),
        2
    );
    let both = server
        .post_with("/token", &[(header::AUTHORIZATION, &header)], &posted)
        .await;
    both.is_error(400, "invalid_request");
    for broken in ["Basic !!wrong-base64", "Bearer wrong-bearer"] {
        let broken = secrets.add(broken);
        let answer = server
            .post_with("/token", &[(header::AUTHORIZATION, &broken)], &grant)
            .await;
        answer.is_error(401, "invalid_client");
    }

    let code = secrets.add(server.code(&[("scope", "notes:read openid")]).await);
    let verifier = secrets.add(WRONG_VERIFIER);
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", "app"),
        ("code", &code),
        ("code_verifier", &verifier),
    ];
    server.token(&form).await.is_error(400, "invalid_grant");
    let tokens = server.redeem(&code).await.ok();
    secrets.add_tokens(&tokens);
    let next = server.refresh(&text(&tokens["refresh_token"])).await.ok();
    secrets.add_tokens(&next);
    server.redeem(&code).await.is_error(400, "invalid_grant");
    let gone = server.refresh(&text(&next["refresh_token"])).await;
    gone.is_error(400, "invalid_grant");
    let unknown = secrets.add("mac_wrong-code");
    server.redeem(&unknown).await.is_error(400, "invalid_grant");
    refused(
        &logs,
        "invalid_grant",
        &["code_verifier does not match", "client=app"],
    );
    refused(&logs, "invalid_grant", &["was used before"]);

    // A secret where it does not belong.
    let in_url = format!("/token?client_secret={SECRET}");
    server
        .post(&in_url, &posted)
        .await
        .is_error(400, "invalid_request");
    let jwt = secrets.add("eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJyb2JvdCJ9.c2lnbmF0dXJl");
    let assertion = [
        ("grant_type", "client_credentials"),
        ("client_assertion", jwt.as_str()),
        (
            "client_assertion_type",
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        ),
    ];
    server
        .token(&assertion)
        .await
        .is_error(401, "invalid_client");
    let token = text(&next["access_token"]);
    let form = [("client_id", "nobody"), ("token", token.as_str())];
    server
        .post("/revoke", &form)
        .await
        .is_error(401, "invalid_client");
    refused(
        &logs,
        "invalid_client",
        &["endpoint=/revoke", "client=nobody"],
    );
    secrets.assert_none_in(&logs, &server);
}

#[tokio::test]
async fn no_secret_is_logged_whatever_fails_in_the_browser() {
    let server = TestServer::with_users().await;
    let logs = logs::capture();
    let mut secrets = Secrets::configured();

    let mut browser = Browser::default();
    let page = browser.get(&server, &authorize_path(&[])).await;
    let wrong = secrets.add("wrong-password");
    let answer = browser.log_in(&server, &page, "alice", &wrong).await;
    assert_eq!(answer.status, 401);
    refused(&logs, "access_denied", &["endpoint=/login", "client=app"]);
    let answer = browser.log_in(&server, &page, "alice", PASSWORD).await;
    assert_eq!(answer.status, 303);
    for cookie in ["session", "form"] {
        secrets.add(browser.cookie(cookie));
    }
    let page = browser.get(&server, &authorize_path(&[])).await;
    let form_ticket = secrets.add(ticket(&page));
    let answer = browser
        .decide(&server, &format!("{form_ticket}x"), "allow")
        .await;
    assert_eq!(answer.status, 400);
    browser.decide(&server, &form_ticket, "deny").await;
    refused(
        &logs,
        "access_denied",
        &["endpoint=/consent", "resource=http://localhost:9001/mcp"],
    );
    for changes in [
        ("redirect_uri", "https://evil.example/"),
        ("code_challenge", ""),
        ("scope", "unknown:scope"),
        ("client_id", "nobody"),
    ] {
        browser.get(&server, &authorize_path(&[changes])).await;
    }
    refused(
        &logs,
        "invalid_request",
        &["endpoint=/authorize", "client=nobody"],
    );

    let registered = json!({ "redirect_uris": ["http://127.0.0.1/"], "client_name": "x" });
    for (body, status) in [
        (registered.to_string(), 201),
        (
            r#"{"redirect_uris":["javascript:hidden-text"]}"#.to_owned(),
            400,
        ),
        (r#"{"client_secret":"not-json-hidden"#.to_owned(), 400),
    ] {
        let request = server.public(Method::POST, "/register");
        let answer = server.send(request.body(Full::from(body)).unwrap()).await;
        assert_eq!(answer.status, status, "{answer:?}");
        secrets.add_tokens(&answer.json());
        if status == 201 {
            let token = text(&answer.json()["registration_access_token"]);
            let request = server.public(Method::GET, "/register/another");
            let request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
            let answer = server.send(request.body(Full::default()).unwrap()).await;
            answer.is_error(401, "invalid_token");
        }
    }
    refused(&logs, "invalid_token", &["endpoint=/register/{client_id}"]);
    secrets.add("not-json-hidden");
    refused(&logs, "invalid_client_metadata", &["endpoint=/register"]);

    // The users file breaks while somebody is logged in.
    let broken = secrets.add("hidden-in-the-users-file");
    let text = format!("users: [{{ name: alice, passwordHash: {broken} }}]");
    std::fs::write(server.users_file(), text).unwrap();
    for _ in 0..2 {
        let page = browser.get(&server, &authorize_path(&[])).await;
        assert_eq!(page.status, 200, "{page:?}");
    }
    assert_eq!(logs.containing("the file is malformed").len(), 1);
    std::fs::remove_file(server.users_file()).unwrap();
    browser.get(&server, &authorize_path(&[])).await;
    refused(&logs, "temporarily_unavailable", &["endpoint=/authorize"]);
    assert_eq!(logs.containing("ERROR ").len(), 2);
    secrets.assert_none_in(&logs, &server);
}

#[tokio::test]
async fn no_secret_is_logged_whatever_fails_on_the_internal_port() {
    let server = TestServer::start().await;
    let logs = logs::capture();
    let mut secrets = Secrets::configured();
    let tokens = server.tokens(&[]).await;
    secrets.add_tokens(&tokens);
    let token = text(&tokens["access_token"]);

    let bearer = secrets.add("Bearer wrong-service-account-token");
    let credential = secrets.add(basic("operator", "wrong-internal-secret"));
    for (name, value) in [("bearer", &bearer), ("credential", &credential)] {
        let uri = format!("http://{}/introspect", server.internal);
        let request = http::Request::post(uri)
            .header(header::AUTHORIZATION, value)
            .header(header::CONTENT_TYPE, FORM)
            .body(Full::from(query(&[("token", token.as_str())])));
        let answer = server.send(request.unwrap()).await;
        assert_eq!(answer.status, 401, "{name}");
    }
    refused(
        &logs,
        "invalid_token",
        &["port=internal", "its secret is wrong"],
    );
    server.introspect_as("mail-proxy", &token).await.ok();
    server.introspect_as("notes-proxy", &token).await.ok();
    server
        .introspect_as("notes-proxy", "")
        .await
        .is_error(400, "invalid_request");
    let path = "/admin/v1/clients/new";
    let request = server.internal(Method::PUT, path, "notes-proxy");
    let answer = server.send(request.body(Full::from("{}")).unwrap()).await;
    answer.is_error(403, "access_denied");
    refused(
        &logs,
        "access_denied",
        &["caller=credential:notes-proxy", "clients/{id}"],
    );
    let secret = secrets.add("hidden-declared-secret");
    for method in ["client_secret_basic", "none", "bogus"] {
        let client = json!({
            "tokenEndpointAuthMethod": method, "clientSecret": secret, "grantTypes": ["client_credentials"],
        });
        server.admin(Method::PUT, path, &client).await;
    }
    refused(
        &logs,
        "invalid_client_metadata",
        &["caller=credential:operator"],
    );
    secrets.assert_none_in(&logs, &server);
}

/// The database goes away under a server that runs.
#[tokio::test]
async fn no_secret_is_logged_when_the_store_fails() {
    let postgres = Postgres::shared();
    let url = postgres.create_database().await;
    let store = PostgresStore::new(&url, 4).unwrap();
    store.migrate().await.unwrap();
    let server = TestServer::with(Setup {
        store: Arc::new(store),
        ..Setup::default()
    })
    .await;
    let logs = logs::capture();
    let mut secrets = Secrets::configured();
    let code = secrets.add(server.code(&[]).await);
    let tokens = server.redeem(&code).await.ok();
    secrets.add_tokens(&tokens);

    let name = url.split(['/', '?']).nth(3).unwrap();
    let drop_database = format!("DROP DATABASE {name} WITH (FORCE)");
    let mut session = postgres.connect("postgres").await;
    session
        .execute(sqlx::AssertSqlSafe(drop_database))
        .await
        .unwrap();

    let answer = server.refresh(&text(&tokens["refresh_token"])).await;
    answer.is_error(503, "temporarily_unavailable");
    let answer = server
        .introspect_as("notes-proxy", &text(&tokens["access_token"]))
        .await;
    answer.is_error(503, "temporarily_unavailable");
    assert_eq!(server.authorize(&[]).await.status, 503);
    assert!(!logs.containing("ERROR ").is_empty());
    secrets.assert_none_in(&logs, &server);
}

#[tokio::test]
async fn debug_shows_no_secret() {
    let server = TestServer::with_users().await;
    let _ = server.get(&authorize_path(&[])).await;
    let store = PostgresStore::new("postgres://user:hunter2@localhost/name", 1).unwrap();
    let shown = format!("{:?} {store:?}", server.app);
    for secret in [
        "hunter2",
        "secret-of-",
        "AQEBAQEB",
        "$argon2id$v=19$m=8",
        SECRET,
        CHALLENGE,
    ] {
        assert!(!shown.contains(secret), "{secret}: {shown}");
    }
}
