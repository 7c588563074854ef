//! What the authserver's admin API takes: resources and clients, also in its configuration file.

use std::fmt;

use mcpauth_api::{
    McpOAuthClientSpec, ProtectedMcpServerSpec,
    oauth_client::{GrantType, JsonWebKeySet, TokenEndpointAuthMethod},
};
use serde::{Deserialize, Serialize};

/// A protected resource as the admin API has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resource {
    /// The resource identifier (RFC 8707).
    pub resource: String,
    /// Its name, for people.
    pub name: String,
    /// The scopes that it knows.
    pub scopes: Vec<Scope>,
    /// The principals that may introspect tokens for it.
    pub introspectors: Vec<String>,
}

/// A scope as the admin API and the proxy's configuration have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Scope {
    /// The scope itself.
    pub name: String,
    /// What it allows.
    #[serde(default)]
    pub description: String,
    /// Scopes that come with it.
    #[serde(default)]
    pub implies: Vec<String>,
}

/// A client as the admin API has it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Client {
    /// The name that people see.
    pub client_name: String,
    /// A web page about the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_uri: Option<String>,
    /// The client's logo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logo_uri: Option<String>,
    /// How the client authenticates.
    pub token_endpoint_auth_method: TokenEndpointAuthMethod,
    /// The client's secret; never in an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<String>,
    /// The client's public keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks: Option<JsonWebKeySet>,
    /// Where users may be sent back.
    pub redirect_uris: Vec<String>,
    /// How the client may get tokens.
    pub grant_types: Vec<GrantType>,
    /// The scopes that it may ask for; any when empty.
    pub scopes: Vec<String>,
    /// The resources that it may ask for; any when empty.
    pub resources: Vec<String>,
}

impl fmt::Debug for Client {
    /// Leaves the secret out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("client_name", &self.client_name)
            .field(
                "token_endpoint_auth_method",
                &self.token_endpoint_auth_method,
            )
            .field("grant_types", &self.grant_types)
            .finish_non_exhaustive()
    }
}

/// The resource that a ProtectedMcpServer called `name` is, introspected by `introspectors`.
#[must_use]
pub fn resource(name: &str, spec: &ProtectedMcpServerSpec, introspectors: Vec<String>) -> Resource {
    Resource {
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
    Client {
        client_name: spec.client_name.clone(),
        client_uri: spec.client_uri.clone(),
        logo_uri: spec.logo_uri.clone(),
        token_endpoint_auth_method: spec.token_endpoint_auth_method,
        client_secret: secret
            .filter(|_| spec.token_endpoint_auth_method.has_secret())
            .map(str::to_owned),
        jwks: spec.jwks.clone(),
        redirect_uris: spec.redirect_uris.clone(),
        grant_types: spec.grant_types.clone(),
        scopes: spec.scopes.clone(),
        resources,
    }
}
