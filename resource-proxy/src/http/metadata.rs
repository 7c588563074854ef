//! The public metadata of the resource, which tells clients where to get a token.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use mcpauth_wire::scope::OFFLINE_ACCESS;
use serde_json::json;

use crate::config::{Config, ConfigError};
use crate::http::cors;
use crate::http::stream::Body;
use crate::resource::{Resource, authorization_server_metadata_url};

/// What is answered without a token.
#[derive(Clone, Debug)]
pub struct Metadata {
    /// The metadata document (RFC 9728 section 2).
    document: Bytes,
    /// Where the authorization server publishes its own metadata.
    authorization_server: HeaderValue,
}

impl Metadata {
    /// From a checked configuration.
    ///
    /// # Errors
    /// The authorization server's issuer is not a URL.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        let issuer = config.authorization_servers.first();
        let location = issuer.and_then(|issuer| authorization_server_metadata_url(issuer));
        let location = location.and_then(|url| HeaderValue::try_from(url).ok());
        Ok(Self {
            document: document(config),
            authorization_server: location.ok_or_else(|| {
                ConfigError::new("authorizationServers[0]", "is not a URL with a host")
            })?,
        })
    }

    /// Answers a request for metadata; `None` for every other request.
    pub fn answer<B>(&self, resource: &Resource, request: &Request<B>) -> Option<Response<Body>> {
        let path = request.uri().path();
        let is_metadata = resource.is_metadata(path);
        if !is_metadata && !resource.is_authorization_server_metadata(path) {
            return None;
        }
        match *request.method() {
            Method::OPTIONS => return Some(cors::public_preflight()),
            Method::GET | Method::HEAD => {}
            _ => return None,
        }
        let mut response = if is_metadata {
            self.resource()
        } else {
            self.authorization_server()
        };
        cors::make_public(&mut response);
        let caching = HeaderValue::from_static("public, max-age=60");
        response.headers_mut().insert(CACHE_CONTROL, caching);
        Some(response)
    }

    fn resource(&self) -> Response<Body> {
        let mut response = Response::new(Body::Left(Full::new(self.document.clone())));
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        response
    }

    /// Clients of MCP 2025-03-26 look for the authorization server's metadata at the resource. They
    /// are redirected: the proxy has no copy that could become stale, and every client follows.
    fn authorization_server(&self) -> Response<Body> {
        let mut response = cors::empty(StatusCode::FOUND);
        let location = self.authorization_server.clone();
        response.headers_mut().insert(LOCATION, location);
        response
    }
}

/// The scopes that clients are told to ask for at first: `access.initialScopes`, or all; never `offline_access`.
pub fn initial_scopes(config: &Config) -> Vec<&str> {
    let names = config.scopes.iter().map(|scope| scope.name.as_str());
    let initial = config.access.initial_scopes.as_deref();
    names
        .filter(|name| *name != OFFLINE_ACCESS)
        .filter(|name| initial.is_none_or(|initial| initial.iter().any(|other| other == name)))
        .collect()
}

fn document(config: &Config) -> Bytes {
    let mut document = json!({
        "resource": config.resource,
        "authorization_servers": config.authorization_servers,
        "bearer_methods_supported": ["header"],
    });
    // An empty list is left out (RFC 9728, section 3.2).
    let scopes = initial_scopes(config);
    if !scopes.is_empty() {
        document["scopes_supported"] = json!(scopes);
    }
    if let Some(name) = &config.resource_name {
        document["resource_name"] = json!(name);
    }
    Bytes::from(document.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::config::tests::example;

    #[test]
    fn the_metadata_is_that_of_rfc_9728_and_keeps_the_configured_strings() {
        let text = example("resourceName: notes").replace(
            "[http://localhost:9000]",
            "['http://localhost:9000', 'https://b/']",
        );
        let document: Value =
            serde_json::from_slice(&document(&Config::parse(&text).unwrap())).unwrap();
        assert_eq!(
            document,
            json!({
                "resource": "http://localhost:9001/mcp",
                "authorization_servers": ["http://localhost:9000", "https://b/"],
                "scopes_supported": ["notes:read", "notes:write"],
                "bearer_methods_supported": ["header"],
                "resource_name": "notes",
            })
        );
    }

    #[test]
    fn offline_access_is_not_advertised() {
        let text = example("").replace(
            "{ name: notes:read }",
            "{ name: notes:read }, { name: offline_access }",
        );
        let config = Config::parse(&text).unwrap();
        assert_eq!(initial_scopes(&config), ["notes:read", "notes:write"]);
    }

    #[test]
    fn the_initial_scopes_are_advertised_alone() {
        let text = example("access: { initialScopes: [\"notes:read\"] }");
        let config = Config::parse(&text).unwrap();
        assert_eq!(initial_scopes(&config), ["notes:read"]);
    }

    /// RFC 9728, section 3.2.
    #[test]
    fn an_empty_list_is_left_out() {
        let text = example("");
        let (before, _) = text.split_once("scopes: ").unwrap();
        let config = Config::parse(before).unwrap();
        let document: Value = serde_json::from_slice(&document(&config)).unwrap();
        assert_eq!(document.get("scopes_supported"), None, "{document}");
    }
}
