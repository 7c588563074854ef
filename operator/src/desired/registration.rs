//! Converts the custom resources to the types of the authserver's admin API, which its configuration file uses, too.

use mcpauth_api::oauth_client::{GrantType, JsonWebKeySet, TokenEndpointAuthMethod};
use mcpauth_api::refs::NamespacesFrom;
use mcpauth_api::{McpAuthServerSpec, McpOAuthClientSpec, ProtectedMcpServerSpec};
use mcpauth_wire::admin::{AllowedClients, Resource};
use mcpauth_wire::client::{self, Client, ClientResource};
use mcpauth_wire::{Secret, principal, scope::Scope};

/// The resource of a ProtectedMcpServer called `name`, introspected by `introspectors`, for the clients in
/// `allowed_clients`.
#[must_use]
pub fn resource(
    name: &str,
    spec: &ProtectedMcpServerSpec,
    introspectors: Vec<String>,
    allowed_clients: AllowedClients,
) -> Resource {
    Resource {
        id: None,
        resource: spec.resource.clone(),
        name: name.to_owned(),
        scopes: scopes(spec),
        introspectors,
        allowed_clients,
    }
}

/// The principals that introspect with a secret for the ProtectedMcpServer `name` in `namespace`, by the spec of its
/// McpAuthServer, which is in the namespace `at`.
#[must_use]
pub fn callers(
    auth_server: &McpAuthServerSpec,
    at: &str,
    namespace: &str,
    name: &str,
) -> Vec<String> {
    let callers = auth_server.introspection.callers.iter();
    let own = callers.filter(|caller| {
        caller.server.name == name && caller.server.namespace.as_deref().unwrap_or(at) == namespace
    });
    own.map(|caller| principal::credential(&caller.id))
        .collect()
}

/// The clients that a ProtectedMcpServer in the namespace `own` allows; `selected` are the namespaces that its
/// selector matches.
#[must_use]
pub fn allowed_clients(
    spec: &ProtectedMcpServerSpec,
    own: &str,
    selected: Vec<String>,
) -> AllowedClients {
    let allowed = &spec.allowed_clients;
    let mut namespaces = vec![own.to_owned()];
    namespaces.extend(allowed.namespaces.names.iter().cloned());
    namespaces.extend(selected);
    namespaces.sort();
    namespaces.dedup();
    AllowedClients {
        all_namespaces: allowed.namespaces.from == NamespacesFrom::All,
        namespaces,
        self_registered: allowed.self_registered,
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

/// The client that the McpOAuthClient `name` in `namespace` is. `resources` are its `spec.resources`, names
/// resolved to resource identifiers; `secret` is of use only to methods that have one.
#[must_use]
pub fn client(
    namespace: &str,
    name: &str,
    spec: &McpOAuthClientSpec,
    resources: Vec<ClientResource>,
    secret: Option<&str>,
) -> Client {
    let method = method(spec.token_endpoint_auth_method);
    Client {
        client_id: None,
        client_name: spec.client_name.clone().unwrap_or_else(|| name.to_owned()),
        client_uri: spec.client_uri.clone(),
        logo_uri: spec.logo_uri.clone(),
        token_endpoint_auth_method: method,
        client_secret: secret.filter(|_| method.has_secret()).map(Secret::new),
        jwks: spec.jwks.as_ref().map(jwks),
        redirect_uris: spec.redirect_uris.clone(),
        grant_types: spec.grant_types.iter().copied().map(grant_type).collect(),
        namespace: Some(namespace.to_owned()),
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

/// Converts a JWK set, which may have members that our type does not name.
fn jwks(set: &JsonWebKeySet) -> serde_json::Value {
    // Maps of strings always serialize to JSON; if not, the authserver would reject the rest.
    serde_json::to_value(set).unwrap_or_default()
}
