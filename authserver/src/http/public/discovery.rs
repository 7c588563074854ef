//! Authorization server metadata (RFC 8414; OpenID Connect Discovery 1.0): one document for both, which
//! advertises only what is enabled.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use mcpauth_wire::client::{GrantType, TokenEndpointAuthMethod};
use mcpauth_wire::scope::OWN as OWN_SCOPES;
use serde_json::{Value, json};

use crate::http::core::Core;
use crate::oauth::client_assertion;
use crate::signing::Signing;

/// What the document depends on.
#[derive(Debug)]
pub(super) struct Discovery {
    pub(super) core: Arc<Core>,
    /// Whether clients may register themselves.
    pub(super) registration_open: bool,
    /// Whether resource servers may introspect at the public port.
    pub(super) introspection_open: bool,
    /// The keys that sign ID tokens.
    pub(super) signing: Arc<Signing>,
}

pub(super) async fn metadata(State(discovery): State<Arc<Discovery>>) -> Json<Value> {
    let core = &discovery.core;
    let url = |path: &str| core.issuer.url(path);
    let methods = TokenEndpointAuthMethod::ALL;
    let mut document = json!({
        "issuer": core.issuer.as_str(),
        "authorization_endpoint": url("/authorize"),
        "token_endpoint": url("/token"),
        "revocation_endpoint": url("/revoke"),
        "jwks_uri": url("/jwks"),
        // Its own. Those of a resource are in the resource's metadata (RFC 9728).
        "scopes_supported": OWN_SCOPES,
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": GrantType::ALL,
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": true,
        "token_endpoint_auth_methods_supported": methods,
        "token_endpoint_auth_signing_alg_values_supported": client_assertion::algorithm_names(),
        "revocation_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_signing_alg_values_supported": client_assertion::algorithm_names(),
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": discovery.signing.algorithms(),
        "prompt_values_supported": ["none", "login", "consent", "select_account"],
        "claims_supported": ["iss", "sub", "aud", "exp", "iat", "auth_time", "nonce"],
        "claims_parameter_supported": false,
        "request_parameter_supported": false,
        "request_uri_parameter_supported": false,
    });
    if discovery.registration_open {
        document["registration_endpoint"] = url("/register").into();
    }
    if discovery.introspection_open {
        document["introspection_endpoint"] = url("/introspect").into();
        document["introspection_endpoint_auth_methods_supported"] =
            json!([TokenEndpointAuthMethod::ClientSecretBasic]);
    }
    Json(document)
}
