//! `proxy.yaml`, the resource-proxy's configuration file.

use mcpauth_api::{
    ProtectedMcpServerSpec,
    protected_server::{Friction, Limits},
};
use serde::Serialize;

use super::registration::{self, Scope};

/// The file's content.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyConfig {
    listen: ProxyListen,
    resource: String,
    resource_name: String,
    authorization_servers: Vec<String>,
    upstream: Upstream,
    introspection: Introspection,
    scopes: Vec<Scope>,
    tools: Vec<ToolScopes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unlisted_tools: Option<NeededScopes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    friction: Option<Friction>,
    limits: Limits,
    allowed_origins: Vec<String>,
    identity_headers: bool,
}

/// What the file says besides the spec: where the proxy runs and whom it talks to.
#[derive(Clone, Debug)]
pub struct ProxyPlace {
    /// Where it listens.
    pub listen: ProxyListen,
    /// Name of the resource, for people.
    pub resource_name: String,
    /// Issuer of the authorization server.
    pub issuer: String,
    /// URL of the MCP server.
    pub upstream_url: String,
    /// URL for introspection.
    pub introspection_endpoint: String,
    /// How the proxy proves who it is.
    pub credential: ProxyCredential,
}

/// Addresses of the listeners, `HOST:PORT`.
#[derive(Clone, Debug, Serialize)]
pub struct ProxyListen {
    /// MCP, for everybody.
    pub proxy: String,
    /// Health and metrics.
    pub health: String,
}

/// How the proxy proves who it is to the authserver.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ProxyCredential {
    /// By the ServiceAccount token in this file.
    TokenFile(String),
    /// By HTTP Basic.
    #[serde(rename_all = "camelCase")]
    Basic {
        /// User name.
        id: String,
        /// The file with the password.
        secret_file: String,
    },
}

/// Unlike the spec's, it writes an empty list out: the proxy wants it said.
#[derive(Clone, Debug, Serialize)]
struct NeededScopes {
    scopes: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
struct ToolScopes {
    name: String,
    #[serde(flatten)]
    needed: NeededScopes,
}

#[derive(Clone, Debug, Serialize)]
struct Upstream {
    url: String,
}

#[derive(Clone, Debug, Serialize)]
struct Introspection {
    endpoint: String,
    #[serde(flatten)]
    credential: ProxyCredential,
}

/// The configuration of the proxy that `spec` asks for, at `place`.
#[must_use]
pub fn proxy_config(spec: &ProtectedMcpServerSpec, place: ProxyPlace) -> ProxyConfig {
    ProxyConfig {
        listen: place.listen,
        resource: spec.resource.clone(),
        resource_name: place.resource_name,
        authorization_servers: vec![place.issuer],
        upstream: Upstream {
            url: place.upstream_url,
        },
        introspection: Introspection {
            endpoint: place.introspection_endpoint,
            credential: place.credential,
        },
        scopes: registration::scopes(spec),
        tools: spec
            .tools
            .iter()
            .map(|tool| ToolScopes {
                name: tool.name.clone(),
                needed: NeededScopes {
                    scopes: tool.scopes.clone(),
                },
            })
            .collect(),
        unlisted_tools: spec.unlisted_tools.as_ref().map(|unlisted| NeededScopes {
            scopes: unlisted.scopes.clone(),
        }),
        friction: spec.friction.clone(),
        limits: spec.limits.clone(),
        allowed_origins: spec.allowed_origins.clone(),
        identity_headers: spec.identity_headers,
    }
}
