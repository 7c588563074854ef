//! The admin API.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::server::{LOOPBACK, NOTES, TestServer, notes, text};

const RESOURCE: &str = "/admin/v1/resources/default.files";
const CLIENT: &str = "/admin/v1/clients/default_robot";

fn files() -> Value {
    json!({
        "resource": "http://localhost:9003/mcp", "name": "files",
        "scopes": [{ "name": "files:read", "description": "Read files", "implies": [] }],
        "introspectors": ["system:serviceaccount:default:files"],
        "allowedClients": { "allNamespaces": false, "namespaces": ["default"], "selfRegistered": true },
    })
}

fn robot() -> Value {
    json!({
        "clientName": "Robot", "clientUri": null, "logoUri": null,
        "tokenEndpointAuthMethod": "client_secret_basic", "clientSecret": crate::server::SECRET, "jwks": null,
        "redirectUris": [], "grantTypes": ["client_credentials"],
        "namespace": "default", "resources": [notes(&["notes:read"])],
    })
}

#[tokio::test]
async fn a_put_says_what_it_did() {
    let server = TestServer::start().await;
    for (path, mut body, field) in [(RESOURCE, files(), "name"), (CLIENT, robot(), "clientName")] {
        let put = async |body: &Value| server.admin(Method::PUT, path, body).await.ok();
        assert_eq!(put(&body).await, json!({ "outcome": "created" }));
        assert_eq!(put(&body).await, json!({ "outcome": "unchanged" }));
        body[field] = "Other".into();
        assert_eq!(put(&body).await, json!({ "outcome": "updated" }));
        let found = server.admin(Method::GET, path, &Value::Null).await.ok();
        body.as_object_mut().unwrap().remove("clientSecret");
        assert_eq!(found, body);
        for _ in 0..2 {
            let deleted = server.admin(Method::DELETE, path, &Value::Null).await;
            assert_eq!(deleted.status, StatusCode::NO_CONTENT);
        }
        let gone = server.admin(Method::GET, path, &Value::Null).await;
        assert_eq!(gone.status, 404);
    }
}

#[tokio::test]
async fn a_resource_that_another_id_has_is_a_conflict() {
    let server = TestServer::start().await;
    let mut taken = files();
    for spelling in [
        NOTES.to_owned(),
        format!("{NOTES}/"),
        NOTES.replace("http://localhost", "HTTP://LOCALHOST"),
    ] {
        taken["resource"] = spelling.as_str().into();
        let answer = server.admin(Method::PUT, RESOURCE, &taken).await;
        answer.is_error(409, "conflict");
        assert!(answer.body.contains(&spelling), "{answer:?}");
    }
}

#[tokio::test]
async fn a_resource_keeps_the_spelling_in_which_it_is_declared() {
    let server = TestServer::start().await;
    let mut resource = files();
    for (spelling, outcome) in [
        ("HTTP://Localhost:9003/mcp", "created"),
        ("HTTP://Localhost:9003/mcp", "unchanged"),
        ("http://localhost:9003/mcp/", "updated"),
    ] {
        resource["resource"] = spelling.into();
        let answer = server.admin(Method::PUT, RESOURCE, &resource).await.ok();
        assert_eq!(answer, json!({ "outcome": outcome }), "{spelling}");
        let found = server.admin(Method::GET, RESOURCE, &Value::Null).await.ok();
        assert_eq!(found["resource"], spelling);
    }
}

#[tokio::test]
async fn no_resource_is_the_authorization_server_itself() {
    let server = TestServer::start().await;
    let mut resource = files();
    let other_spelling = server
        .issuer()
        .replace("http://localhost", "HTTP://LOCALHOST");
    resource["resource"] = format!("{other_spelling}/").into();
    let answer = server.admin(Method::PUT, RESOURCE, &resource).await;
    answer.is_error(409, "conflict");
}

#[tokio::test]
async fn faults_name_the_field() {
    let server = TestServer::start().await;
    let mut resource = files();
    resource["scopes"][0]["name"] = "a b".into();
    let answer = server.admin(Method::PUT, RESOURCE, &resource).await;
    answer.is_error(400, "invalid_resource");
    assert!(answer.body.contains("scopes[0].name"), "{answer:?}");
    resource["scopes"] = json!([{ "nam": "x" }]);
    let answer = server.admin(Method::PUT, RESOURCE, &resource).await;
    answer.is_error(400, "invalid_resource");
    assert!(
        answer.body.contains("scopes[0]") && answer.body.contains("`nam`"),
        "{answer:?}"
    );
    let mut client = robot();
    client["tokenEndpointAuthMethod"] = "none".into();
    let answer = server.admin(Method::PUT, CLIENT, &client).await;
    answer.is_error(400, "invalid_client_metadata");
    assert!(answer.body.contains("clientSecret"), "{answer:?}");
    let answer = server
        .admin(Method::PUT, "/admin/v1/clients/a%20b", &robot())
        .await;
    answer.is_error(400, "invalid_client_metadata");
}

#[tokio::test]
async fn only_admins() {
    let server = TestServer::start().await;
    for (method, path) in [
        (Method::GET, RESOURCE),
        (Method::PUT, CLIENT),
        (Method::DELETE, CLIENT),
    ] {
        let request = server.internal(method.clone(), path, "notes-proxy");
        let answer = server.send(request.body(Default::default()).unwrap()).await;
        answer.is_error(403, "access_denied");
        let request = server.internal(method, path, "nobody");
        let answer = server.send(request.body(Default::default()).unwrap()).await;
        assert_eq!(answer.status, 401);
    }
    let public = server.public(Method::GET, RESOURCE);
    assert_eq!(
        server
            .send(public.body(Default::default()).unwrap())
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn deleting_a_client_revokes_its_tokens() {
    let server = TestServer::start().await;
    let tokens = server.tokens(&[]).await;
    server
        .admin(Method::DELETE, "/admin/v1/clients/app", &Value::Null)
        .await;
    assert!(!server.is_active(&text(&tokens["access_token"])).await);
    let refreshed = server.refresh(&text(&tokens["refresh_token"])).await;
    refreshed.is_error(401, "invalid_client");
}

#[tokio::test]
async fn a_removed_redirect_uri_is_refused_at_once() {
    let server = TestServer::start().await;
    server
        .put_client("one", json!({ "redirectUris": ["https://one.example/cb"] }))
        .await;
    let answer = server
        .authorize(&[("client_id", "one"), ("redirect_uri", LOOPBACK)])
        .await;
    assert_eq!(answer.status, 400);
}

#[tokio::test]
async fn a_users_grants_are_ended() {
    let server = TestServer::start().await;
    let tokens = server.tokens(&[]).await;
    let path = |subject: &str| format!("/admin/v1/users/{subject}/grants");
    for nobody in ["bob", "%00", "a%2Fb"] {
        let answer = server
            .admin(Method::DELETE, &path(nobody), &Value::Null)
            .await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{nobody}");
    }
    assert!(server.is_active(&text(&tokens["access_token"])).await);
    let answer = server
        .admin(Method::DELETE, &path("developer"), &Value::Null)
        .await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    assert!(!server.is_active(&text(&tokens["access_token"])).await);
    let refused = server.refresh(&text(&tokens["refresh_token"])).await;
    refused.is_error(400, "invalid_grant");
}

#[tokio::test]
async fn a_path_that_is_not_utf8_is_told_like_any_other_error() {
    let server = TestServer::start().await;
    for path in [
        "/admin/v1/resources/%FF",
        "/admin/v1/clients/%C3",
        "/admin/v1/users/local:%80/grants",
    ] {
        let answer = server.admin(Method::DELETE, path, &Value::Null).await;
        answer.is_error(400, "invalid_request");
    }
    let answer = server.get("/register/%FF").await;
    answer.is_error(400, "invalid_request");
}
