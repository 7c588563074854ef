//! For which resource, with which scopes.

use http::Method;
use serde_json::{Value, json};

use crate::server::{LOOPBACK, MAIL, NOTES, SECRET, TestServer, notes, text};

async fn error_of(changes: &[(&str, &str)]) -> Option<String> {
    let server = TestServer::start().await;
    server.authorize(changes).await.location_param("error")
}

#[tokio::test]
async fn unknown_resource_is_invalid_target() {
    let error = error_of(&[("resource", "https://other.example/mcp")]).await;
    assert_eq!(error.as_deref(), Some("invalid_target"));
}

#[tokio::test]
async fn fragment_in_the_resource() {
    let error = error_of(&[("resource", &format!("{NOTES}#x"))]).await;
    assert_eq!(error.as_deref(), Some("invalid_target"));
}

#[tokio::test]
async fn relative_resource() {
    for relative in ["/mcp", "mcp", "//localhost:9001/mcp"] {
        let error = error_of(&[("resource", relative)]).await;
        assert_eq!(error.as_deref(), Some("invalid_target"), "{relative}");
    }
}

#[tokio::test]
async fn mcp_is_not_a_prefix_of_mcp_x() {
    for other in ["-x", "/x", "//", "?x", "%2fx"] {
        let error = error_of(&[("resource", &format!("{NOTES}{other}"))]).await;
        assert_eq!(error.as_deref(), Some("invalid_target"), "{other}");
    }
}

#[tokio::test]
async fn a_resource_at_the_token_endpoint_that_was_not_granted() {
    let server = TestServer::start().await;
    let code = server.code(&[]).await;
    let mut form = vec![
        ("grant_type", "authorization_code"),
        ("client_id", "app"),
        ("code", code.as_str()),
        ("code_verifier", crate::server::VERIFIER),
        ("resource", MAIL),
    ];
    server.token(&form).await.is_error(400, "invalid_target");
    form[4] = ("resource", "https://other.example");
    server.token(&form).await.is_error(400, "invalid_target");
    form[4] = ("resource", NOTES);
    let tokens = server.token(&form).await.ok();
    let refresh = text(&tokens["refresh_token"]);
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", "app"),
        ("refresh_token", refresh.as_str()),
        ("resource", MAIL),
    ];
    server.token(&form).await.is_error(400, "invalid_target");
}

#[tokio::test]
async fn omitted_where_several_are_possible_is_invalid_target() {
    assert_eq!(
        error_of(&[("resource", "")]).await.as_deref(),
        Some("invalid_target")
    );
}

#[tokio::test]
async fn omitted_where_one_is_possible_is_that_one() {
    let server = TestServer::start().await;
    server
        .put_client("app", json!({ "resources": [notes(&["notes:read"])] }))
        .await;
    let tokens = server.tokens(&[("resource", "")]).await;
    assert!(server.is_active(&text(&tokens["access_token"])).await);
}

#[tokio::test]
async fn a_resource_that_the_client_may_not_have() {
    let server = TestServer::start().await;
    server
        .put_client("app", json!({ "resources": [notes(&["notes:read"])] }))
        .await;
    let answer = server.authorize(&[("resource", MAIL), ("scope", "")]).await;
    assert_eq!(
        answer.location_param("error").as_deref(),
        Some("invalid_target")
    );
}

/// A3, A24: scheme and host in any case, the default port and one slash more name the same resource; `aud`
/// is the declared spelling.
#[tokio::test]
async fn every_spelling_of_a_resource_is_accepted_everywhere() {
    let server = TestServer::start().await;
    let upper = NOTES.replace("http://localhost", "HTTP://LocalHost");
    let slash = format!("{NOTES}/");
    let mail_slash = format!("{MAIL}/");
    for (spelling, scope, declared, proxy) in [
        (upper.as_str(), "notes:read", NOTES, "notes-proxy"),
        (slash.as_str(), "notes:read", NOTES, "notes-proxy"),
        (mail_slash.as_str(), "mail:send", MAIL, "mail-proxy"),
    ] {
        let code = server
            .code(&[("resource", spelling), ("scope", scope)])
            .await;
        let form = [
            ("grant_type", "authorization_code"),
            ("client_id", "app"),
            ("code", code.as_str()),
            ("code_verifier", crate::server::VERIFIER),
            ("resource", spelling),
        ];
        let tokens = server.token(&form).await.ok();
        let refresh = text(&tokens["refresh_token"]);
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", "app"),
            ("refresh_token", refresh.as_str()),
            ("resource", spelling),
        ];
        let tokens = server.token(&form).await.ok();
        let token = text(&tokens["access_token"]);
        let answer = server.introspect_as(proxy, &token).await.ok();
        assert_eq!(answer["aud"], declared, "{spelling}");
    }
}

#[tokio::test]
async fn a_client_may_name_its_resources_in_any_spelling() {
    let server = TestServer::start().await;
    let other = format!("{}/", NOTES.replace("localhost", "LOCALHOST"));
    server
        .put_client(
            "app",
            json!({ "resources": [{ "uri": other, "scopes": ["notes:read"] }] }),
        )
        .await;
    let tokens = server.tokens(&[("resource", "")]).await;
    assert!(server.is_active(&text(&tokens["access_token"])).await);
}

/// A22: unknown scopes are left out, unless nothing else is asked for.
#[tokio::test]
async fn unknown_scope() {
    for unknown in ["notes:delete", "openid notes:delete", "a\"b"] {
        let error = error_of(&[("scope", unknown)]).await;
        assert_eq!(error.as_deref(), Some("invalid_scope"), "{unknown}");
    }
    let server = TestServer::start().await;
    let tokens = server.tokens(&[("scope", "notes:read root")]).await;
    assert_eq!(tokens["scope"], "notes:read");
}

/// A25: there is no empty `scope` (RFC 6749, section 3.3).
#[tokio::test]
async fn a_token_without_scopes_has_no_scope_member() {
    let server = TestServer::start().await;
    let path = "/admin/v1/resources/notes";
    let found = server.admin(Method::GET, path, &json!(null)).await;
    let mut resource = found.ok();
    resource["scopes"] = json!([]);
    server.admin(Method::PUT, path, &resource).await.ok();
    let tokens = server.tokens(&[("scope", "")]).await;
    let refreshed = server.refresh(&text(&tokens["refresh_token"])).await.ok();
    for answer in [&tokens, &refreshed] {
        assert_eq!(answer.get("scope"), None, "{answer}");
        let token = text(&answer["access_token"]);
        let answer = server.introspect_as("notes-proxy", &token).await.ok();
        assert_eq!(answer["active"], true);
        assert_eq!(answer.get("scope"), None, "{answer}");
    }
}

#[tokio::test]
async fn no_scope_means_all_of_the_resource() {
    let server = TestServer::start().await;
    let tokens = server.tokens(&[("scope", "")]).await;
    assert_eq!(tokens["scope"], "notes:read notes:write");
}

#[tokio::test]
async fn scopes_of_other_resources_are_left_out() {
    let server = TestServer::start().await;
    let all = "mail:send notes:read notes:write offline_access openid";
    let tokens = server.tokens(&[("scope", all)]).await;
    assert_eq!(
        tokens["scope"],
        "notes:read notes:write offline_access openid"
    );
    let answer = server.authorize(&[("scope", "mail:send")]).await;
    assert_eq!(
        answer.location_param("error").as_deref(),
        Some("invalid_scope")
    );
}

#[tokio::test]
async fn a_client_gets_no_more_than_its_scopes_and_what_they_imply() {
    let server = TestServer::start().await;
    server
        .put_client("app", json!({ "resources": [notes(&["notes:write"])] }))
        .await;
    let tokens = server.tokens(&[("scope", "notes:read")]).await;
    assert_eq!(tokens["scope"], "notes:read");
    server
        .put_client("app", json!({ "resources": [notes(&["notes:read"])] }))
        .await;
    let tokens = server.tokens(&[("scope", "notes:read notes:write")]).await;
    assert_eq!(tokens["scope"], "notes:read");
    let answer = server.authorize(&[("scope", "notes:write")]).await;
    assert_eq!(
        answer.location_param("error").as_deref(),
        Some("invalid_scope")
    );
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", "poster"),
        ("client_secret", SECRET),
        ("scope", "notes:write"),
    ];
    server.token(&form).await.is_error(400, "invalid_scope");
}

#[tokio::test]
async fn refresh_cannot_widen() {
    let server = TestServer::start().await;
    let tokens = server.tokens(&[("scope", "notes:read")]).await;
    let refresh = text(&tokens["refresh_token"]);
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", "app"),
        ("refresh_token", refresh.as_str()),
        ("scope", "notes:read notes:write"),
    ];
    let tokens = server.token(&form).await.ok();
    assert_eq!(tokens["scope"], "notes:read");
    let refresh = text(&tokens["refresh_token"]);
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", "app"),
        ("refresh_token", refresh.as_str()),
        ("scope", "notes:write"),
    ];
    server.token(&form).await.is_error(400, "invalid_scope");
    // It was not used up by that.
    let tokens = server.refresh(&refresh).await.ok();
    assert_eq!(tokens["scope"], "notes:read");
}

/// O1: who may create a client is not who may get tokens. The owner of the resource admits, by namespace.
#[tokio::test]
async fn a_client_of_a_namespace_that_is_not_admitted_gets_nothing() {
    let server = TestServer::start().await;
    let intruder = json!({
        "tokenEndpointAuthMethod": "client_secret_post", "clientSecret": crate::server::SECRET, "redirectUris": [LOOPBACK],
        "grantTypes": ["authorization_code", "refresh_token", "client_credentials"],
        "namespace": "intruder",
    });
    server.put_client("intruder", intruder).await;
    let slash = format!("{NOTES}/");
    let upper = NOTES.replace("localhost", "LOCALHOST");
    for uri in [NOTES, slash.as_str(), upper.as_str()] {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", "intruder"),
            ("client_secret", crate::server::SECRET),
            ("resource", uri),
        ];
        let answer = server.token(&form).await;
        answer.is_error(400, "invalid_target");
        let answer = server
            .authorize(&[("client_id", "intruder"), ("resource", uri)])
            .await;
        assert_eq!(
            answer.location_param("error").as_deref(),
            Some("invalid_target")
        );
    }

    // Admitted, it has tokens; no longer admitted, it has none, at once.
    let mut resource = server
        .admin(Method::GET, "/admin/v1/resources/notes", &json!(null))
        .await
        .ok();
    resource["allowedClients"]["namespaces"] = json!(["team", "intruder"]);
    let put = async |document: &Value| {
        let path = "/admin/v1/resources/notes";
        server.admin(Method::PUT, path, document).await.ok();
    };
    put(&resource).await;
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", "intruder"),
        ("client_secret", crate::server::SECRET),
        ("resource", NOTES),
    ];
    let tokens = server.token(&form).await.ok();
    let of_the_team = server.tokens(&[]).await;
    assert!(server.is_active(&text(&tokens["access_token"])).await);
    resource["allowedClients"]["namespaces"] = json!(["team"]);
    put(&resource).await;
    assert!(!server.is_active(&text(&tokens["access_token"])).await);
    assert!(server.is_active(&text(&of_the_team["access_token"])).await);
    let answer = server.token(&form).await;
    answer.is_error(400, "invalid_target");
}

/// O19: an empty list is nothing, not everything.
#[tokio::test]
async fn a_client_that_names_nothing_gets_nothing() {
    let server = TestServer::start().await;
    for (resources, error) in [
        (json!([]), "invalid_target"),
        (json!([notes(&[])]), "invalid_scope"),
    ] {
        let changes = json!({ "resources": resources });
        server.put_client("app", changes).await;
        let answer = server.authorize(&[("scope", "")]).await;
        assert_eq!(answer.location_param("error").as_deref(), Some(error));
    }
}

#[tokio::test]
async fn a_client_that_registered_itself_needs_a_resource_that_takes_such() {
    let server = TestServer::start().await;
    let registration = json!({ "redirect_uris": [LOOPBACK], "token_endpoint_auth_method": "none" });
    let request = server.public(Method::POST, "/register");
    let request = request.body(registration.to_string().into()).unwrap();
    let id = text(&server.send(request).await.json()["client_id"]);
    let asked = server.authorize(&[("client_id", &id)]).await;
    assert!(asked.location_param("code").is_some(), "{asked:?}");
    let mut resource = server
        .admin(Method::GET, "/admin/v1/resources/notes", &json!(null))
        .await
        .ok();
    resource["allowedClients"]["selfRegistered"] = json!(false);
    let path = "/admin/v1/resources/notes";
    server.admin(Method::PUT, path, &resource).await.ok();
    let asked = server.authorize(&[("client_id", &id)]).await;
    assert_eq!(
        asked.location_param("error").as_deref(),
        Some("invalid_target")
    );
}
