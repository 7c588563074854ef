//! `/introspect`.

use http::{Method, Request, header};

use serde_json::json;

use crate::server::{FORM, NOTES, TestServer, basic, text};

#[tokio::test]
async fn an_active_token_is_described() {
    let server = TestServer::start().await;
    let tokens = server.tokens(&[]).await;
    let answer = server
        .introspect_as("notes-proxy", &text(&tokens["access_token"]))
        .await;
    assert_eq!(answer.header(header::CACHE_CONTROL), "no-store");
    let answer = answer.ok();
    let now = server.clock.now().as_seconds();
    assert_eq!(answer["active"], true);
    assert_eq!(answer["scope"], "notes:read");
    assert_eq!(answer["client_id"], "app");
    assert_eq!(answer["sub"], "developer");
    assert_eq!(answer["aud"], NOTES);
    assert_eq!(answer["iss"], server.issuer());
    assert_eq!(answer["exp"], now + 900);
    assert_eq!(answer["iat"], now);
    assert_eq!(answer["token_type"], "Bearer");
    assert!(!text(&answer["jti"]).is_empty());
}

#[tokio::test]
async fn what_client_and_user_may_have_is_told_to_those_who_ask() {
    let server = TestServer::start().await;
    let tokens = server.tokens(&[]).await;
    let token = text(&tokens["access_token"]);
    let ask = async |id, more: &[(&str, &str)]| {
        let form = [&[("token", &*token)], more].concat();
        server.introspect_with(id, &form).await.ok()
    };
    let asked = ask("notes-proxy", &[("grantable_scope", "true")]).await;
    assert_eq!(asked["scope"], "notes:read");
    assert_eq!(asked["grantable_scope"], "notes:read notes:write");
    for more in [&[][..], &[("grantable_scope", "false")]] {
        let answer = ask("notes-proxy", more).await;
        assert_eq!(answer["active"], true);
        assert_eq!(answer.get("grantable_scope"), None, "{more:?}");
    }
    let foreign = ask("mail-proxy", &[("grantable_scope", "true")]).await;
    assert_eq!(foreign, json!({ "active": false }));
}

#[tokio::test]
async fn no_authentication_is_401() {
    let server = TestServer::start().await;
    let uri = server
        .internal(Method::POST, "/introspect", "x")
        .body(())
        .unwrap()
        .uri()
        .clone();
    for credentials in [
        None,
        Some(basic("notes-proxy", "wrong")),
        Some(basic("nobody", "secret-of-nobody")),
        Some(basic("notes-proxy", "")),
        Some("Bearer some.service.account".into()),
    ] {
        let mut request = Request::post(uri.clone()).header(header::CONTENT_TYPE, FORM);
        if let Some(credentials) = &credentials {
            request = request.header(header::AUTHORIZATION, credentials);
        }
        let answer = server.send(request.body("token=x".into()).unwrap()).await;
        assert_eq!(answer.status, 401, "{credentials:?}");
        assert!(answer.headers.contains_key(header::WWW_AUTHENTICATE));
    }
    // Whatever is asked for, and however badly.
    for path in ["/introspect?x=y", "/admin/v1/clients/app", "/nowhere"] {
        let request = server.internal(Method::GET, path, "nobody");
        let answer = server.send(request.body(Default::default()).unwrap()).await;
        assert_eq!(answer.status, 401, "{path}");
    }
    let request = server.internal(Method::GET, "/nowhere", "notes-proxy");
    let answer = server.send(request.body(Default::default()).unwrap()).await;
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn a_public_client_calls() {
    let server = TestServer::start().await;
    assert_eq!(
        server.post("/introspect", &[("token", "x")]).await.status,
        404
    );
    let uri = server
        .internal(Method::POST, "/introspect", "x")
        .body(())
        .unwrap()
        .uri()
        .clone();
    let request = Request::post(uri).header(header::CONTENT_TYPE, FORM);
    let answer = server
        .send(request.body("token=x&client_id=app".into()).unwrap())
        .await;
    assert_eq!(answer.status, 401);
}

#[tokio::test]
async fn wrong_audience_is_a_bare_inactive_whatever_accept_says() {
    let server = TestServer::start().await;
    let tokens = server.tokens(&[]).await;
    let token = text(&tokens["access_token"]);
    for accept in [
        "application/json",
        "application/token-introspection+jwt",
        "*/*",
    ] {
        let request = server
            .internal(Method::POST, "/introspect", "mail-proxy")
            .header(header::CONTENT_TYPE, FORM)
            .header(header::ACCEPT, accept);
        let answer = server
            .send(request.body(format!("token={token}").into()).unwrap())
            .await;
        assert_eq!(answer.body, r#"{"active":false}"#, "{accept}");
    }
    assert_eq!(
        server.introspect_as("operator", &token).await.body,
        r#"{"active":false}"#
    );
}

#[tokio::test]
async fn a_refresh_token_offered_as_an_access_token() {
    let server = TestServer::start().await;
    let tokens = server.tokens(&[]).await;
    assert!(!server.is_active(&text(&tokens["refresh_token"])).await);
    assert!(!server.is_active(&server.code(&[]).await).await);
    assert!(!server.is_active("noise").await);
}

#[tokio::test]
async fn an_expired_token_is_inactive() {
    let server = TestServer::start().await;
    let tokens = server.tokens(&[]).await;
    server.clock.advance(std::time::Duration::from_secs(900));
    assert!(!server.is_active(&text(&tokens["access_token"])).await);
}

#[tokio::test]
async fn bad_requests_get_oauth_errors() {
    let server = TestServer::start().await;
    let request = || server.internal(Method::POST, "/introspect", "notes-proxy");
    let form = || request().header(header::CONTENT_TYPE, FORM);
    let missing = server.send(form().body("x=y".into()).unwrap()).await;
    missing.is_error(400, "invalid_request");
    let twice = server
        .send(form().body("token=a&token=b".into()).unwrap())
        .await;
    twice.is_error(400, "invalid_request");
    let json = request().header(header::CONTENT_TYPE, "application/json");
    let json = server.send(json.body("{}".into()).unwrap()).await;
    json.is_error(400, "invalid_request");
}
