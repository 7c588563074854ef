//! `/introspect` for resource servers outside the cluster.

use std::time::Duration;

use http::{Method, Request, header};
use mcp_authserver::config::Config;
use serde_json::json;

use crate::server::{
    Answer, FORM, MAIL, REMOTE, Setup, TestServer, basic, configuration, query, text,
};

const OPEN: &str = "introspection: { public: true, callers: [{ id: remote-notes, secretFile: '{FILES}/remote-notes' }] }
rateLimit: { addressFailuresPerMinute: 5 }";
const INACTIVE: &str = r#"{"active":false}"#;

async fn open() -> TestServer {
    let setup = Setup {
        more: OPEN,
        ..Setup::default()
    };
    TestServer::with(setup).await
}

async fn introspect(server: &TestServer, (id, secret): (&str, &str), token: &str) -> Answer {
    let headers = [(header::AUTHORIZATION, &*basic(id, secret))];
    let form = [("token", token)];
    server.post_with("/introspect", &headers, &form).await
}

#[tokio::test]
async fn a_caller_learns_about_tokens_for_its_own_resource_on_both_ports() {
    let server = open().await;
    let token = text(&server.tokens(&[]).await["access_token"]);
    let answer = introspect(&server, REMOTE, &token).await;
    assert_eq!(answer.header(header::CACHE_CONTROL), "no-store");
    let answer = answer.ok();
    assert_eq!(
        (&answer["active"], &answer["sub"]),
        (&json!(true), &json!("developer"))
    );
    // The other callers stay as they are, and this one is known there too.
    assert!(server.is_active(&token).await);
    let inside = Request::post(format!("http://{}/introspect", server.internal))
        .header(header::CONTENT_TYPE, FORM)
        .header(header::AUTHORIZATION, basic(REMOTE.0, REMOTE.1));
    let inside = server.send(inside.body(query(&[("token", &token)]).into()).unwrap());
    assert_eq!(inside.await.ok(), answer);

    let changes = [("resource", MAIL), ("scope", "mail:send")];
    let foreign = text(&server.tokens(&changes).await["access_token"]);
    assert_eq!(introspect(&server, REMOTE, &foreign).await.body, INACTIVE);
    assert_eq!(introspect(&server, REMOTE, "noise").await.body, INACTIVE);

    // Revoked: at once.
    let form = [("token", &*token), ("client_id", "app")];
    assert_eq!(server.post("/revoke", &form).await.status, 200);
    assert_eq!(introspect(&server, REMOTE, &token).await.body, INACTIVE);
}

#[tokio::test]
async fn a_caller_whose_resource_is_gone_learns_nothing() {
    let server = open().await;
    let token = text(&server.tokens(&[]).await["access_token"]);
    let path = "/admin/v1/resources/notes";
    let mut resource = server.admin(Method::GET, path, &json!({})).await.ok();
    // Another one takes the name, and does not name the caller.
    resource["introspectors"] = json!(["credential:notes-proxy"]);
    server.admin(Method::PUT, path, &resource).await.ok();
    assert_eq!(introspect(&server, REMOTE, &token).await.body, INACTIVE);
    assert!(server.is_active(&token).await);
    server.admin(Method::DELETE, path, &json!({})).await;
    assert_eq!(introspect(&server, REMOTE, &token).await.body, INACTIVE);
}

#[tokio::test]
async fn nobody_else_may_ask_and_guessing_ends() {
    let server = open().await;
    let token = text(&server.tokens(&[]).await["access_token"]);
    let (id, secret) = REMOTE;
    // Who may use the internal port alone, a client of OAuth, and whoever guesses.
    for credentials in [
        ("notes-proxy", "secret-of-notes-proxy"),
        ("operator", "secret-of-operator"),
        ("app", ""),
        (id, &secret[1..]),
        ("", ""),
    ] {
        let answer = introspect(&server, credentials, &token).await;
        answer.is_error(401, "invalid_client");
        assert!(answer.header(header::WWW_AUTHENTICATE).starts_with("Basic"));
    }
    let guess = async || introspect(&server, (id, "wrong"), &token).await;
    while guess().await.status == 401 {}
    for credentials in [(id, "wrong"), REMOTE] {
        let answer = introspect(&server, credentials, &token).await;
        answer.is_error(429, "temporarily_unavailable");
        assert!(answer.header(header::RETRY_AFTER).parse::<u32>().unwrap() > 0);
    }
    server.clock.advance(Duration::from_secs(120));
    introspect(&server, REMOTE, &token).await.ok();
    // The right secret came from here: guessing no longer locks anybody out.
    for _ in 0..50 {
        guess().await.is_error(401, "invalid_client");
    }
    introspect(&server, REMOTE, &token).await.ok();
    let bearer = [(header::AUTHORIZATION, "Bearer some.service.account")];
    let form = [("token", &*token)];
    let answer = server.post_with("/introspect", &bearer, &form).await;
    answer.is_error(401, "invalid_client");
    let answer = server.post("/introspect", &form).await;
    answer.is_error(401, "invalid_client");
    let missing = [(header::AUTHORIZATION, &*basic(id, secret))];
    let answer = server.post_with("/introspect", &missing, &[]).await;
    answer.is_error(400, "invalid_request");
}

#[tokio::test]
async fn the_metadata_names_the_endpoint_only_where_it_is() {
    let path = "/.well-known/oauth-authorization-server";
    let server = open().await;
    let metadata = server.get(path).await.ok();
    let url = format!("{}/introspect", server.issuer());
    assert_eq!(metadata["introspection_endpoint"], url);
    assert_eq!(
        metadata["introspection_endpoint_auth_methods_supported"],
        json!(["client_secret_basic"])
    );
    // Without `public` the caller is one of the internal port.
    let server = TestServer::with(Setup {
        more: "introspection: { callers: [{ id: remote-notes, secretFile: '{FILES}/remote-notes' }] }",
        ..Setup::default()
    })
    .await;
    let metadata = server.get(path).await.ok();
    let named = metadata.as_object().unwrap().keys();
    assert_eq!(
        named.filter(|name| name.contains("introspection")).count(),
        0
    );
    assert_eq!(introspect(&server, REMOTE, "x").await.status, 404);
}

#[test]
fn a_weak_secret_does_not_start() {
    let files = tempfile::tempdir().unwrap();
    let more = OPEN.replace("{FILES}", &files.path().display().to_string());
    let text = configuration(&files, "http://localhost:9000", false, &more);
    assert!(Config::parse(&text).is_ok());
    for weak in ["hunter2", "changemechangemechangeme", ""] {
        std::fs::write(files.path().join(REMOTE.0), weak).unwrap();
        let error = Config::parse(&text).unwrap_err().to_string();
        assert!(
            error.starts_with("introspection.callers[0].secretFile: "),
            "{error}"
        );
        assert!(weak.is_empty() || !error.contains(weak), "{error}");
    }
}
