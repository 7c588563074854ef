use super::*;
use serde_json::json;

fn resource(changes: &Value) -> Result<Resource, Invalid> {
    let mut document = json!({
        "resource": "http://localhost:9001/mcp", "name": "notes",
        "scopes": [{ "name": "write", "implies": ["read"] }, { "name": "read", "description": "Read" }],
    });
    for (name, value) in changes.as_object().unwrap() {
        document[name] = value.clone();
    }
    let document: ResourceDocument = serde_json::from_value(document).unwrap();
    document.into_resource("default.notes".into())
}

fn client(changes: &Value) -> Result<(), Invalid> {
    let mut document = json!({
        "tokenEndpointAuthMethod": "none", "redirectUris": ["http://localhost/cb"],
        "grantTypes": ["authorization_code"],
    });
    for (name, value) in changes.as_object().unwrap() {
        document[name] = value.clone();
    }
    let document: ClientDocument = serde_json::from_value(document).unwrap();
    document.check("default_robot")
}

#[test]
fn resources() {
    assert!(resource(&json!({})).is_ok());
    for (changes, field) in [
        (json!({ "resource": "/mcp" }), "resource"),
        (json!({ "resource": "https://a.example/#x" }), "resource"),
        (json!({ "resource": "https://a.example/?x" }), "resource"),
        (json!({ "resource": "https://u@a.example/" }), "resource"),
        (json!({ "resource": "https://A.example/" }), "resource"),
        (
            json!({ "resource": "https://a.example/x/../y" }),
            "resource",
        ),
        (json!({ "resource": "ftp://a.example" }), "resource"),
        (json!({ "name": "" }), "name"),
        (
            json!({ "scopes": [{ "name": "a" }, { "name": "a" }] }),
            "scopes[1].name",
        ),
        (
            json!({ "scopes": [{ "name": "openid" }] }),
            "scopes[0].name",
        ),
        (
            json!({ "scopes": [{ "name": "a", "implies": ["b"] }] }),
            "scopes[0].implies",
        ),
        (json!({ "introspectors": [""] }), "introspectors"),
    ] {
        assert_eq!(resource(&changes).unwrap_err().field, field);
    }
    for good in [
        "https://a.example",
        "https://a.example/",
        "https://a.example/x/",
    ] {
        assert_eq!(
            resource(&json!({ "resource": good })).unwrap().resource,
            good
        );
    }
}

#[test]
fn clients() {
    assert_eq!(client(&json!({})), Ok(()));
    let key = crate::keys::signing_key::SigningKey::generate().unwrap();
    let jwks = json!({ "keys": [key.public_jwk()] });
    let with_key = json!({ "tokenEndpointAuthMethod": "private_key_jwt", "jwks": jwks });
    assert_eq!(client(&with_key), Ok(()));
    let mut private = key.public_jwk();
    private["d"] = "AQ".into();
    for (changes, field) in [
        (json!({ "clientSecret": "x" }), "clientSecret"),
        (
            json!({ "tokenEndpointAuthMethod": "client_secret_post" }),
            "clientSecret",
        ),
        (
            json!({ "tokenEndpointAuthMethod": "client_secret_post", "clientSecret": "" }),
            "clientSecret",
        ),
        (
            json!({ "tokenEndpointAuthMethod": "private_key_jwt" }),
            "jwks",
        ),
        (
            json!({ "tokenEndpointAuthMethod": "private_key_jwt", "jwks": { "keys": [] } }),
            "jwks",
        ),
        (
            json!({ "tokenEndpointAuthMethod": "private_key_jwt", "jwks": { "keys": [private] } }),
            "jwks",
        ),
        (json!({ "jwks": jwks }), "jwks"),
        (json!({ "grantTypes": [] }), "grantTypes"),
        (
            json!({ "grantTypes": ["client_credentials"] }),
            "grantTypes",
        ),
        (json!({ "redirectUris": [] }), "redirectUris"),
        (
            json!({ "redirectUris": ["javascript:x"] }),
            "redirectUris[0]",
        ),
        (json!({ "logoUri": "data:x" }), "logoUri"),
        (json!({ "scopes": ["a b"] }), "scopes"),
    ] {
        assert_eq!(client(&changes).unwrap_err().field, field, "{changes}");
    }
}

#[test]
fn a_secret_is_neither_shown_nor_answered() {
    let document: ClientDocument = serde_json::from_value(json!({
        "tokenEndpointAuthMethod": "client_secret_basic", "clientSecret": "hunter2",
        "grantTypes": ["client_credentials"],
    }))
    .unwrap();
    assert!(!format!("{document:?}").contains("hunter2"));
    assert!(
        !serde_json::to_string(&document)
            .unwrap()
            .contains("hunter2")
    );
}
