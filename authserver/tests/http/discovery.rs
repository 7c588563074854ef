//! Metadata, keys, CORS.

use http::{Method, header};
use serde_json::json;

use crate::server::{Setup, TestServer};

#[tokio::test]
async fn both_documents_are_the_same_and_name_what_is_there() {
    let server = TestServer::start().await;
    let rfc8414 = server
        .get("/.well-known/oauth-authorization-server")
        .await
        .ok();
    let oidc = server.get("/.well-known/openid-configuration").await.ok();
    assert_eq!(rfc8414, oidc);
    assert_eq!(rfc8414["issuer"], server.issuer());
    assert_eq!(rfc8414["code_challenge_methods_supported"], json!(["S256"]));
    assert_eq!(
        rfc8414["authorization_response_iss_parameter_supported"],
        true
    );
    // A12: its own. Those of a resource are in the resource's metadata.
    let scopes = json!(["openid", "offline_access"]);
    assert_eq!(rfc8414["scopes_supported"], scopes);
    for endpoint in rfc8414.as_object().unwrap() {
        let (name, Some(url)) = (endpoint.0, endpoint.1.as_str()) else {
            continue;
        };
        if name == "issuer" {
            continue;
        }
        assert!(url.starts_with(server.issuer()), "{name}: {url}");
        let method = if name == "jwks_uri" || name == "authorization_endpoint" {
            Method::GET
        } else {
            Method::POST
        };
        let request = server.public(method, url).body(Default::default()).unwrap();
        let status = server.send(request).await.status;
        assert!(status != 404 && status != 405, "{name}: {status}");
    }
}

#[tokio::test]
async fn every_path_form_that_clients_try() {
    let server = TestServer::with(Setup {
        issuer: "https://auth.example/t1",
        local_users: true,
        ..Setup::default()
    })
    .await;
    for path in [
        "/.well-known/oauth-authorization-server/t1",
        "/.well-known/openid-configuration/t1",
        "/t1/.well-known/openid-configuration",
        "/t1/.well-known/oauth-authorization-server",
    ] {
        let document = server.get(path).await.ok();
        assert_eq!(document["issuer"], "https://auth.example/t1", "{path}");
        assert_eq!(document["token_endpoint"], "https://auth.example/t1/token");
    }
    assert_eq!(
        server.get("/.well-known/openid-configuration").await.status,
        404
    );
}

#[tokio::test]
async fn registration_is_not_advertised_when_it_is_off() {
    let server = TestServer::with(Setup {
        more: "",
        ..Setup::default()
    })
    .await;
    let document = server
        .get("/.well-known/oauth-authorization-server")
        .await
        .ok();
    assert_eq!(document.get("registration_endpoint"), None);
    assert_eq!(server.post("/register", &[]).await.status, 404);
}

#[tokio::test]
async fn host_header_injection() {
    let server = TestServer::start().await;
    let request = server
        .public(Method::GET, "/.well-known/oauth-authorization-server")
        .header(header::HOST, "evil.example")
        .header("x-forwarded-host", "evil.example")
        .header("x-forwarded-proto", "https")
        .header(header::FORWARDED, "host=evil.example");
    let answer = server.send(request.body(Default::default()).unwrap()).await;
    assert_eq!(answer.json()["issuer"], server.issuer());
    assert!(!answer.body.contains("evil"), "{answer:?}");
}

#[tokio::test]
async fn cors_never_with_credentials() {
    let server = TestServer::start().await;
    for path in [
        "/.well-known/oauth-authorization-server",
        "/token",
        "/register",
        "/revoke",
        "/jwks",
    ] {
        let request = server
            .public(Method::OPTIONS, path)
            .header(header::ORIGIN, "https://app.example")
            .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
            .header(
                header::ACCESS_CONTROL_REQUEST_HEADERS,
                "authorization,content-type,mcp-protocol-version",
            );
        let answer = server.send(request.body(Default::default()).unwrap()).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(
            answer.header(header::ACCESS_CONTROL_ALLOW_ORIGIN),
            "*",
            "{path}"
        );
        let allowed = answer.header(header::ACCESS_CONTROL_ALLOW_HEADERS);
        assert!(
            allowed.contains("authorization") && allowed.contains("mcp-protocol-version"),
            "{path}: {allowed}"
        );
        assert!(
            !answer
                .headers
                .contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS),
            "{path}"
        );
    }
    let request = server
        .public(Method::POST, "/token")
        .header(header::ORIGIN, "https://app.example");
    let answer = server.send(request.body(Default::default()).unwrap()).await;
    assert_eq!(answer.header(header::ACCESS_CONTROL_ALLOW_ORIGIN), "*");
    assert!(
        answer
            .header(header::ACCESS_CONTROL_EXPOSE_HEADERS)
            .contains("www-authenticate")
    );
}
