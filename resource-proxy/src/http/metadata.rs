//! What everybody may know without a token: the metadata of the resource.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use serde_json::json;

use crate::compiled::Settings;
use crate::config::Config;
use crate::http::cors;
use crate::http::stream::Body;

/// Answers a request for metadata. `None` for every other.
pub fn answer<B>(settings: &Settings, request: &Request<B>) -> Option<Response<Body>> {
    let path = request.uri().path();
    let is_metadata = settings.resource.is_metadata(path);
    if !is_metadata && !settings.resource.is_authorization_server_metadata(path) {
        return None;
    }
    match *request.method() {
        Method::OPTIONS => return Some(cors::public_preflight()),
        Method::GET | Method::HEAD => {}
        _ => return None,
    }
    let mut response = if is_metadata {
        let mut response = Response::new(Body::Left(Full::new(settings.metadata.clone())));
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        response
    } else {
        // Clients of MCP 2025-03-26 look for it here. The document is the authorization server's,
        // so that it is never stale and never ours to fetch; every client follows a redirect.
        let mut response = cors::empty(StatusCode::FOUND);
        let location = settings.authorization_server_metadata.clone();
        response.headers_mut().insert(LOCATION, location);
        response
    };
    cors::make_public(&mut response);
    let caching = HeaderValue::from_static("public, max-age=60");
    response.headers_mut().insert(CACHE_CONTROL, caching);
    Some(response)
}

/// The scopes that clients are told of. `offline_access` is between them and the authorization
/// server.
pub fn advertised_scopes(config: &Config) -> Vec<&str> {
    let names = config.scopes.iter().map(|scope| scope.name.as_str());
    names.filter(|name| *name != "offline_access").collect()
}

/// The metadata document (RFC 9728 section 2).
pub fn document(config: &Config) -> Bytes {
    let mut document = json!({
        "resource": config.resource,
        "authorization_servers": config.authorization_servers,
        "scopes_supported": advertised_scopes(config),
        "bearer_methods_supported": ["header"],
    });
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
        assert_eq!(advertised_scopes(&config), ["notes:read", "notes:write"]);
    }
}
