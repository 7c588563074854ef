//! From the resources to what the authserver's admin API takes, also in its configuration file.

use mcpauth_api::oauth_client::{GrantType, JsonWebKeySet, TokenEndpointAuthMethod};
use mcpauth_api::{McpOAuthClientSpec, ProtectedMcpServerSpec};
use mcpauth_wire::admin::Resource;
use mcpauth_wire::client::{self, Client};
use mcpauth_wire::{Secret, scope::Scope};

/// The resource that a ProtectedMcpServer called `name` is, introspected by `introspectors`.
#[must_use]
pub fn resource(name: &str, spec: &ProtectedMcpServerSpec, introspectors: Vec<String>) -> Resource {
    Resource {
        id: None,
        resource: spec.resource.clone(),
        name: name.to_owned(),
        scopes: scopes(spec),
        introspectors,
    }
}

/// The scopes of a ProtectedMcpServer.
#[must_use]
pub fn scopes(spec: &ProtectedMcpServerSpec) -> Vec<Scope> {
    spec.scopes
        .iter()
        .map(|scope| Scope {
            name: scope.name.clone(),
            description: scope.description.clone(),
            implies: scope.implies.clone(),
        })
        .collect()
}

/// The client that a McpOAuthClient is. `resources` are its `spec.resources`, names resolved to
/// resource identifiers; `secret` is of use only to methods that have one.
#[must_use]
pub fn client(spec: &McpOAuthClientSpec, resources: Vec<String>, secret: Option<&str>) -> Client {
    let method = method(spec.token_endpoint_auth_method);
    Client {
        client_id: None,
        client_name: spec.client_name.clone(),
        client_uri: spec.client_uri.clone(),
        logo_uri: spec.logo_uri.clone(),
        token_endpoint_auth_method: method,
        client_secret: secret.filter(|_| method.has_secret()).map(Secret::new),
        jwks: spec.jwks.as_ref().map(jwks),
        redirect_uris: spec.redirect_uris.clone(),
        grant_types: spec.grant_types.iter().copied().map(grant_type).collect(),
        scopes: spec.scopes.clone(),
        resources,
    }
}

fn method(method: TokenEndpointAuthMethod) -> client::TokenEndpointAuthMethod {
    match method {
        TokenEndpointAuthMethod::None => client::TokenEndpointAuthMethod::None,
        TokenEndpointAuthMethod::ClientSecretBasic => {
            client::TokenEndpointAuthMethod::ClientSecretBasic
        }
        TokenEndpointAuthMethod::ClientSecretPost => {
            client::TokenEndpointAuthMethod::ClientSecretPost
        }
        TokenEndpointAuthMethod::PrivateKeyJwt => client::TokenEndpointAuthMethod::PrivateKeyJwt,
    }
}

fn grant_type(grant: GrantType) -> client::GrantType {
    match grant {
        GrantType::AuthorizationCode => client::GrantType::AuthorizationCode,
        GrantType::RefreshToken => client::GrantType::RefreshToken,
        GrantType::ClientCredentials => client::GrantType::ClientCredentials,
    }
}

/// A JWK set has members that a document of ours does not name.
fn jwks(set: &JsonWebKeySet) -> serde_json::Value {
    // Maps of strings have a form in JSON; were it not so, the authserver would refuse what is left.
    serde_json::to_value(set).unwrap_or_default()
}
