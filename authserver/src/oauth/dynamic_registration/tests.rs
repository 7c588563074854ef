use mcpauth_wire::authserver_config::REGISTERED_GRANT_TYPES;

use super::*;

fn accepted(body: Value) -> Result<ClientMetadata, OAuthError> {
    let request: Request = serde_json::from_value(body).unwrap();
    let rules = Rules {
        redirect_schemes: &["cursor".into()],
        grant_types: &REGISTERED_GRANT_TYPES,
        algorithms: &SigningAlgorithm::ALL,
    };
    accept(request, &rules)
}

fn code_of(body: Value) -> &'static str {
    accepted(body).unwrap_err().code()
}

#[test]
fn what_is_left_out_has_its_default() {
    let metadata = accepted(json!({ "redirect_uris": ["http://localhost/cb"] })).unwrap();
    let basic = TokenEndpointAuthMethod::ClientSecretBasic;
    assert_eq!(metadata.token_endpoint_auth_method, basic);
    assert_eq!(metadata.grant_types, [GrantType::AuthorizationCode]);
    assert!(metadata.allowed_resources.is_empty() && metadata.namespace.is_none());
}

#[test]
fn client_credentials_are_not_for_dynamic_clients() {
    let body = json!({
        "redirect_uris": ["http://localhost/cb"], "grant_types": ["authorization_code", "client_credentials"],
    });
    assert_eq!(code_of(body), "invalid_client_metadata");
}

#[test]
fn unknown_grant_types_are_dropped_and_a_code_is_needed() {
    let uris = json!(["http://localhost/cb"]);
    let body = json!({ "redirect_uris": uris, "grant_types": ["authorization_code", "refresh_token", "urn:x"] });
    let grants = accepted(body).unwrap().grant_types;
    assert_eq!(
        grants,
        [GrantType::AuthorizationCode, GrantType::RefreshToken]
    );
    let body = json!({ "redirect_uris": uris, "grant_types": ["implicit"] });
    assert_eq!(code_of(body), "invalid_client_metadata");
    let body = json!({ "redirect_uris": uris, "response_types": ["token"] });
    assert_eq!(code_of(body), "invalid_client_metadata");
}

#[test]
fn one_redirect_uri_that_is_not_allowed_refuses_all_and_is_named() {
    for bad in [
        "javascript:alert(1)",
        "data:text/html,x",
        "http://evil.example/",
        "other://x",
        "https://a/#x",
    ] {
        let body = json!({ "redirect_uris": ["http://localhost/cb", bad] });
        let error = accepted(body).unwrap_err();
        assert_eq!(error.code(), "invalid_redirect_uri");
        assert!(error.description().contains(bad), "{error}");
    }
    assert_eq!(code_of(json!({})), "invalid_redirect_uri");
    let many: Vec<String> = (0..33).map(|n| format!("http://localhost/{n}")).collect();
    assert_eq!(
        code_of(json!({ "redirect_uris": many })),
        "invalid_redirect_uri"
    );
}

#[test]
fn secret_or_private_key_in_the_document() {
    let uris = json!(["http://localhost/cb"]);
    for key in [
        json!({ "kty": "oct", "k": "AQ" }),
        json!({ "kty": "RSA", "n": "AQ", "e": "AQAB", "d": "AQ" }),
    ] {
        let body = json!({
            "redirect_uris": uris, "token_endpoint_auth_method": "private_key_jwt", "jwks": { "keys": [key] },
        });
        assert_eq!(code_of(body), "invalid_client_metadata");
    }
    let body = json!({
        "redirect_uris": uris, "token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "https://a.example/jwks",
    });
    assert!(
        accepted(body)
            .unwrap_err()
            .description()
            .contains("jwks_uri is not supported")
    );
}
