//! `proxy.yaml`: its shape and its rules.

mod check;

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use crate::limits::friction::FrictionConfig;

/// The configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// Addresses to listen at. They are taken at start and stay.
    #[serde(default)]
    pub listen: Listen,
    /// The resource identifier: the public URL of the MCP endpoint, and the audience of its tokens.
    pub resource: String,
    /// A name for people, in the metadata.
    #[serde(default)]
    pub resource_name: Option<String>,
    /// Issuers whose tokens are accepted. At least one.
    pub authorization_servers: Vec<String>,
    /// The MCP server.
    pub upstream: Upstream,
    /// How tokens are checked.
    pub introspection: Introspection,
    /// The scopes of the resource.
    #[serde(default)]
    pub scopes: Vec<Scope>,
    /// Which tools need which scopes; the first match wins.
    #[serde(default)]
    pub tools: Vec<Tool>,
    /// What a tool needs that no rule names. Absent: every scope.
    #[serde(default)]
    pub unlisted_tools: Option<UnlistedTools>,
    /// Targets for the volume of calls. Absent: off.
    #[serde(default)]
    pub friction: Option<FrictionConfig>,
    /// Bounds on requests.
    #[serde(default)]
    pub limits: Limits,
    /// Browser origins that may call.
    #[serde(default)]
    pub allowed_origins: Vec<String>,
    /// Whether the server is told who calls, by `X-MCP-Subject`, `X-MCP-Client-Id` and
    /// `X-MCP-Scopes`.
    #[serde(default)]
    pub identity_headers: bool,
}

/// Addresses to listen at.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Listen {
    /// For MCP clients.
    pub proxy: SocketAddr,
    /// For probes and metrics.
    pub health: SocketAddr,
}

/// The MCP server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Upstream {
    /// The URL of its endpoint, `http`.
    pub url: String,
    /// How long it may take until its response begins: 1 to 3600 seconds.
    #[serde(default = "response_header_seconds")]
    pub response_header_seconds: u32,
}

/// How tokens are checked (RFC 7662).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Introspection {
    /// The URL of the endpoint, `http`.
    pub endpoint: String,
    /// A file with a bearer token for the endpoint. It is read for every request.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// An id and a secret for the endpoint.
    #[serde(default)]
    pub basic: Option<BasicCredential>,
    /// How long an answer is used: 0 to 60000 milliseconds.
    #[serde(default = "cache_milliseconds")]
    pub cache_milliseconds: u32,
    /// How many tokens are remembered: 1 to 1000000.
    #[serde(default = "cache_entries")]
    pub cache_entries: u32,
    /// How long the endpoint may take: 1 to 60000 milliseconds.
    #[serde(default = "timeout_milliseconds")]
    pub timeout_milliseconds: u32,
}

/// An id and a secret (RFC 7617).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BasicCredential {
    /// The id.
    pub id: String,
    /// A file with the secret. It is read for every request.
    pub secret_file: PathBuf,
}

/// A scope of the resource.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scope {
    /// Its name, a scope-token of RFC 6749 section 3.3.
    pub name: String,
    /// What it allows, for people.
    #[serde(default)]
    pub description: Option<String>,
    /// Scopes that it includes.
    #[serde(default)]
    pub implies: Vec<String>,
}

/// What a tool needs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tool {
    /// A name, in which `*` matches any run of characters.
    pub name: String,
    /// All the scopes that a call needs.
    pub scopes: Vec<String>,
}

/// What a tool needs that no rule names.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UnlistedTools {
    /// All the scopes that a call needs.
    pub scopes: Vec<String>,
}

/// Bounds on requests.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// The longest body: 1 to 268435456 bytes.
    pub body_bytes: u32,
}

/// A value that cannot be used. Reads `upstream.url: … what would be right`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file is not YAML of the right shape.
    #[error("{0}")]
    Shape(String),
    /// A key has a value that cannot be used.
    #[error("{key}: {problem}")]
    Value {
        /// The key.
        key: String,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
}

impl Config {
    /// Reads and checks the text of a configuration file.
    ///
    /// # Errors
    /// The first fault, on one line.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let value: serde_json::Value =
            serde_saphyr::from_str(text).map_err(|error| not_yaml(&error))?;
        let config: Self = serde_path_to_error::deserialize(value).map_err(|error| {
            let problem = error.inner().to_string();
            match error.path().to_string() {
                top if top == "." => ConfigError::Shape(problem),
                key => ConfigError::Value { key, problem },
            }
        })?;
        config.check()?;
        Ok(config)
    }
}

/// The parser's message without the excerpt of the file that it draws below it.
fn not_yaml(error: &serde_saphyr::Error) -> ConfigError {
    let text = error.without_snippet().to_string();
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    ConfigError::Shape(format!("is not YAML: {line}"))
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            proxy: SocketAddr::from(([0, 0, 0, 0], 8080)),
            health: SocketAddr::from(([0, 0, 0, 0], 9090)),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 4 * 1024 * 1024,
        }
    }
}

fn response_header_seconds() -> u32 {
    60
}

fn cache_milliseconds() -> u32 {
    900
}

fn cache_entries() -> u32 {
    10_000
}

fn timeout_milliseconds() -> u32 {
    3_000
}

#[cfg(test)]
pub(crate) mod tests;
