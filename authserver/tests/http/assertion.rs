//! `private_key_jwt` at the token endpoint. The rules alone are tested beside them.

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use mcp_authserver::keys::signing_key::SigningKey;
use mcpauth_wire::authserver_config::SigningAlgorithm;
use serde_json::{Value, json};

use crate::server::{Answer, TestServer};

pub const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

pub async fn with_client(key: &SigningKey) -> TestServer {
    let server = TestServer::start().await;
    let client = json!({
        "tokenEndpointAuthMethod": "private_key_jwt", "jwks": { "keys": [key.public_jwk()] },
        "grantTypes": ["client_credentials"], "redirectUris": [], "resources": [crate::server::notes(&["notes:read"])],
    });
    server.put_client("signer", client).await;
    server
}

pub fn claims(server: &TestServer) -> Value {
    let now = server.clock.now().as_seconds();
    json!({
        "iss": "signer", "sub": "signer", "aud": server.issuer(),
        "iat": now, "exp": now + 60, "jti": "one",
    })
}

pub fn signed(key: &SigningKey, claims: &Value) -> String {
    let key = EncodingKey::from_ec_der(key.pkcs8_der());
    encode(&Header::new(Algorithm::ES256), claims, &key).unwrap()
}

pub async fn present(server: &TestServer, jwt: &str) -> Answer {
    let form = [
        ("grant_type", "client_credentials"),
        ("client_assertion_type", TYPE),
        ("client_assertion", jwt),
    ];
    server.token(&form).await
}

#[tokio::test]
async fn a_signed_assertion_authenticates() {
    let key = SigningKey::generate(SigningAlgorithm::Es256).unwrap();
    let server = with_client(&key).await;
    let jwt = signed(&key, &claims(&server));
    let tokens = present(&server, &jwt).await.ok();
    assert!(
        server
            .is_active(tokens["access_token"].as_str().unwrap())
            .await
    );
}

#[tokio::test]
async fn jti_replay() {
    let key = SigningKey::generate(SigningAlgorithm::Es256).unwrap();
    let server = with_client(&key).await;
    let jwt = signed(&key, &claims(&server));
    present(&server, &jwt).await.ok();
    present(&server, &jwt).await.is_error(401, "invalid_client");
    let mut other = claims(&server);
    other["jti"] = "two".into();
    present(&server, &signed(&key, &other)).await.ok();
}

/// A replica whose clock is ahead must not forget what another one still accepts.
#[tokio::test]
async fn jti_replay_after_a_faster_replica_has_removed_what_has_expired() {
    let key = SigningKey::generate(SigningAlgorithm::Es256).unwrap();
    let server = with_client(&key).await;
    let jwt = signed(&key, &claims(&server));
    present(&server, &jwt).await.ok();
    server.clock.advance(Duration::from_secs(59));
    let faster = server.clock.now().plus(Duration::from_secs(2));
    server.remove_expired(faster).await;
    present(&server, &jwt).await.is_error(401, "invalid_client");
}

#[tokio::test]
async fn another_key_or_another_client() {
    let key = SigningKey::generate(SigningAlgorithm::Es256).unwrap();
    let server = with_client(&key).await;
    let stranger = SigningKey::generate(SigningAlgorithm::Es256).unwrap();
    let jwt = signed(&stranger, &claims(&server));
    present(&server, &jwt).await.is_error(401, "invalid_client");
    let mut other = claims(&server);
    other["sub"] = "app".into();
    present(&server, &signed(&key, &other))
        .await
        .is_error(401, "invalid_client");
}

#[tokio::test]
async fn an_assertion_without_its_type() {
    let server = TestServer::start().await;
    let form = [
        ("grant_type", "client_credentials"),
        ("client_assertion", "x.y.z"),
    ];
    server.token(&form).await.is_error(400, "invalid_request");
}
