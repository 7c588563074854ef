//! `proxy.yaml`.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::access::Access;
use crate::authserver_config::check_ca;
use crate::friction::Friction;
use crate::invalid::Bounds;
use crate::resource_uri::ResourceUri;
use crate::scope::{self, Scope};
use crate::telemetry::Telemetry;
use crate::{Invalid, issuer, origin, read};

/// The longest request body, in bytes.
pub const BODY_BYTES: Bounds = Bounds::new(1_024, 67_108_864);
/// How long the MCP server may take until its response begins, in seconds.
pub const RESPONSE_HEADER_SECONDS: Bounds = Bounds::new(1, 3_600);
/// How long an introspection answer is used, in milliseconds.
pub const CACHE_MILLISECONDS: Bounds = Bounds::new(0, 60_000);
/// How many tokens are remembered.
pub const CACHE_ENTRIES: Bounds = Bounds::new(1, 1_000_000);
/// How long introspection may take, in milliseconds.
pub const TIMEOUT_MILLISECONDS: Bounds = Bounds::new(1, 60_000);
/// The length of the CA of the introspection endpoint, in characters.
pub const CA_LENGTH: Bounds = Bounds::new(1, 65_536);

/// How many extensions of authorization there are.
pub const EXTENSION_COUNT: Bounds = Bounds::new(0, 8);
/// The length of an extension's id, in characters.
pub const EXTENSION_LENGTH: Bounds = Bounds::new(1, 128);
/// The extension for client credentials: every authorization server of this project serves it.
pub const OAUTH_CLIENT_CREDENTIALS: &str = "io.modelcontextprotocol/oauth-client-credentials";

/// The configuration file of the resource-proxy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProxyConfig {
    /// Addresses to listen at. They are taken at start and stay.
    #[serde(default)]
    pub listen: Listen,
    /// The resource identifier: the public URL of the MCP endpoint, and the audience of its tokens.
    pub resource: String,
    /// A name for people, in the metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_name: Option<String>,
    /// Issuers whose tokens are accepted. At least one.
    pub authorization_servers: Vec<String>,
    /// The extensions of MCP's authorization that those servers serve, by their ids: [`EXTENSION_COUNT`], [`EXTENSION_LENGTH`].
    /// Clients that support one learn of it by `server/discover`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authorization_extensions: Vec<String>,
    /// The MCP server.
    pub upstream: Upstream,
    /// How tokens are checked.
    pub introspection: Introspection,
    /// The scopes of the resource.
    #[serde(default)]
    pub scopes: Vec<Scope>,
    /// Which token may do what.
    #[serde(default)]
    pub access: Access,
    /// Targets for the volume of calls. Absent: off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub friction: Option<Friction>,
    /// Bounds on requests.
    #[serde(default)]
    pub limits: Limits,
    /// Browser origins that may call; see [`origin`].
    #[serde(default)]
    pub allowed_origins: Vec<String>,
    /// How the server is told who calls. Absent: it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    /// What is told of its work. It is taken at start and stays.
    #[serde(default, skip_serializing_if = "Telemetry::is_default")]
    pub telemetry: Telemetry,
}

/// How the server is told who calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Identity {
    /// By the headers `X-MCP-Subject`, `X-MCP-Client-Id` and `X-MCP-Scopes`.
    Headers {},
}

/// Addresses to listen at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Listen {
    /// For MCP clients.
    pub proxy: SocketAddr,
    /// For probes and metrics.
    pub health: SocketAddr,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            proxy: SocketAddr::from((Ipv6Addr::UNSPECIFIED, 8080)),
            health: SocketAddr::from((Ipv6Addr::UNSPECIFIED, 9090)),
        }
    }
}

/// The MCP server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Upstream {
    /// The URL of its endpoint, `http`.
    pub url: String,
    /// How long it may take until its response begins: [`RESPONSE_HEADER_SECONDS`].
    #[serde(default = "response_header_seconds")]
    pub response_header_seconds: u32,
}

/// The default of [`Upstream::response_header_seconds`].
#[must_use]
pub const fn response_header_seconds() -> u32 {
    300
}

/// How tokens are checked (RFC 7662).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Introspection {
    /// The URL of the endpoint: `https` with `ca`, otherwise `http`.
    pub endpoint: String,
    /// The CA of the endpoint's certificate: certificates in PEM, no others are trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// A file with a bearer token for the endpoint. It is read for every request. Either this, or `basic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// An id and a secret for the endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic: Option<BasicCredential>,
    /// How long an answer is used: [`CACHE_MILLISECONDS`].
    #[serde(default = "cache_milliseconds")]
    pub cache_milliseconds: u32,
    /// How many tokens are remembered: [`CACHE_ENTRIES`].
    #[serde(default = "cache_entries")]
    pub cache_entries: u32,
    /// How long the endpoint may take: [`TIMEOUT_MILLISECONDS`].
    #[serde(default = "timeout_milliseconds")]
    pub timeout_milliseconds: u32,
}

/// The default of [`Introspection::cache_milliseconds`].
#[must_use]
pub const fn cache_milliseconds() -> u32 {
    900
}

/// The default of [`Introspection::cache_entries`].
#[must_use]
pub const fn cache_entries() -> u32 {
    10_000
}

/// The default of [`Introspection::timeout_milliseconds`].
#[must_use]
pub const fn timeout_milliseconds() -> u32 {
    3_000
}

/// An id and a secret (RFC 7617).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BasicCredential {
    /// The id.
    pub id: String,
    /// A file with the secret. It is read for every request.
    pub secret_file: PathBuf,
}

/// Bounds on requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// The longest body: [`BODY_BYTES`].
    pub body_bytes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 4 * 1024 * 1024,
        }
    }
}

impl ProxyConfig {
    /// Reads and checks the text of the file.
    ///
    /// # Errors
    /// The first fault, on one line.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let config = read::yaml(text).and_then(|config: Self| config.check().map(|()| config));
        config.map_err(|invalid| read::located(text, invalid))
    }

    /// Checks every value.
    ///
    /// # Errors
    /// The first thing that is wrong, with its key.
    pub fn check(&self) -> Result<(), Invalid> {
        ResourceUri::parse(&self.resource).map_err(|error| Invalid::new("resource", error))?;
        self.check_authorization_servers()?;
        self.check_authorization_extensions()?;
        http_url("upstream.url", &self.upstream.url)?;
        RESPONSE_HEADER_SECONDS.number(
            "upstream.responseHeaderSeconds",
            self.upstream.response_header_seconds,
        )?;
        self.introspection.check()?;
        scope::check_all(&self.scopes)?;
        self.access
            .check(&self.scopes)
            .map_err(|error| error.below("access"))?;
        if let Some(friction) = &self.friction {
            friction.check().map_err(|error| error.below("friction"))?;
        }
        BODY_BYTES.number("limits.bodyBytes", self.limits.body_bytes)?;
        self.telemetry.check()?;
        origin::check_all("allowedOrigins", &self.allowed_origins)
    }

    fn check_authorization_extensions(&self) -> Result<(), Invalid> {
        let ids = &self.authorization_extensions;
        EXTENSION_COUNT.list("authorizationExtensions", ids)?;
        for (index, id) in ids.iter().enumerate() {
            let key = format!("authorizationExtensions[{index}]");
            EXTENSION_LENGTH.text(&key, id)?;
            if ids[..index].contains(id) {
                let text = "an earlier entry is the same; name each extension once";
                return Err(Invalid::new(key, text));
            }
        }
        Ok(())
    }

    fn check_authorization_servers(&self) -> Result<(), Invalid> {
        if self.authorization_servers.is_empty() {
            return Err(Invalid::new(
                "authorizationServers",
                "expected the issuer of the authorization server; the list is empty",
            ));
        }
        for (index, issuer) in self.authorization_servers.iter().enumerate() {
            issuer::check_of_others(issuer)
                .map_err(|text| Invalid::new(format!("authorizationServers[{index}]"), text))?;
        }
        Ok(())
    }
}

impl Introspection {
    fn check(&self) -> Result<(), Invalid> {
        self.check_endpoint()?;
        match (&self.token_file, &self.basic) {
            (Some(_), Some(_)) => {
                let text = "expected either tokenFile or basic, not both";
                return Err(Invalid::new("introspection", text));
            }
            (None, None) => {
                let text = "expected a credential: tokenFile, or basic with id and secretFile";
                return Err(Invalid::new("introspection", text));
            }
            (Some(_), None) => {}
            (None, Some(basic)) if basic.id.is_empty() => {
                return Err(Invalid::new(
                    "introspection.basic.id",
                    "expected the id of a credential; it is empty",
                ));
            }
            (None, Some(_)) => {}
        }
        CACHE_MILLISECONDS.number("introspection.cacheMilliseconds", self.cache_milliseconds)?;
        CACHE_ENTRIES.number("introspection.cacheEntries", self.cache_entries)?;
        TIMEOUT_MILLISECONDS.number(
            "introspection.timeoutMilliseconds",
            self.timeout_milliseconds,
        )
    }

    fn check_endpoint(&self) -> Result<(), Invalid> {
        let Some(ca) = &self.ca else {
            return http_url("introspection.endpoint", &self.endpoint);
        };
        let url = called_url("introspection.endpoint", &self.endpoint)?;
        if url.scheme() != "https" {
            let text = "expected an https:// URL, because introspection.ca is set";
            return Err(Invalid::new("introspection.endpoint", text));
        }
        CA_LENGTH.text("introspection.ca", ca)?;
        check_ca("introspection.ca", ca)
    }
}

/// A URL that the proxy calls without TLS: the server is on loopback, the authorization server's internal port in the
/// cluster.
fn http_url(key: &str, text: &str) -> Result<(), Invalid> {
    match called_url(key, text)?.scheme() {
        "http" => Ok(()),
        "https" if key == "introspection.endpoint" => {
            let text = "an https:// URL needs introspection.ca, the CA of its certificate";
            Err(Invalid::new(key, text))
        }
        _ => {
            let text = "expected an http:// URL; the proxy supports no other scheme here";
            Err(Invalid::new(key, text))
        }
    }
}

/// A URL that the proxy itself calls.
fn called_url(key: &str, text: &str) -> Result<Url, Invalid> {
    let url = Url::parse(text).map_err(|error| {
        let text = format!("expected a URL such as http://127.0.0.1:8000/mcp: {error}");
        Invalid::new(key, text)
    })?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        let text = "expected an http:// URL; the proxy supports no other scheme here";
        return Err(Invalid::new(key, text));
    }
    if !url.username().is_empty() || url.password().is_some() {
        let text = "expected no user name or password in the URL";
        return Err(Invalid::new(key, text));
    }
    if url.query().is_some() || url.fragment().is_some() {
        let text = "expected no query (?) and no fragment (#)";
        return Err(Invalid::new(key, text));
    }
    Ok(url)
}

#[cfg(test)]
mod tests;
