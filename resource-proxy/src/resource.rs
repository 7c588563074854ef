//! The protected resource: its identifier and the URLs that follow from it.

use mcpauth_wire::ResourceUri;
use mcpauth_wire::resource_uri::ResourceUriError;
use url::Url;

/// Where RFC 9728 puts the metadata of the resource.
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// The resource identifier (RFC 8707) and what derives from it. Nothing derives from a request.
#[derive(Clone, Debug)]
pub struct Resource {
    uri: ResourceUri,
    origin: String,
    host: String,
    path: String,
    metadata_url: String,
}

impl Resource {
    /// From the configured identifier.
    ///
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub fn parse(identifier: &str) -> Result<Self, ResourceUriError> {
        let uri = ResourceUri::parse(identifier)?;
        // Without the path there is an origin, with scheme and host in lower case.
        let declared = uri.path();
        let origin = uri
            .canonical()
            .strip_suffix(without_slash(declared))
            .unwrap_or_default();
        let suffix = if declared == "/" { "" } else { declared };
        let metadata_url = format!("{origin}{WELL_KNOWN}{suffix}");
        let host = host(origin).to_owned();
        let path = if declared.is_empty() { "/" } else { declared };
        Ok(Self {
            path: path.to_owned(),
            origin: origin.to_owned(),
            host,
            metadata_url,
            uri,
        })
    }

    /// The identifier, as configured, byte for byte.
    pub fn identifier(&self) -> &str {
        self.uri.as_str()
    }

    /// Scheme, host and port, as browsers write them.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The host that clients address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The path that is served.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Where clients find the metadata: `resource_metadata` of the challenges.
    pub fn metadata_url(&self) -> &str {
        &self.metadata_url
    }

    /// Whether the MCP endpoint is at `path`, one trailing slash more or less.
    pub fn serves(&self, path: &str) -> bool {
        without_slash(path) == without_slash(&self.path)
    }

    /// Whether `path` is one of the two places where clients look for the metadata.
    pub fn is_metadata(&self, path: &str) -> bool {
        is_well_known(path, WELL_KNOWN, &self.path)
    }

    /// Whether `path` is where clients of MCP 2025-03-26 look for the authorization server's
    /// metadata.
    pub fn is_authorization_server_metadata(&self, path: &str) -> bool {
        is_well_known(path, "/.well-known/oauth-authorization-server", &self.path)
    }

    /// Whether an `aud` names this resource, in any equal spelling.
    pub fn is_audience(&self, audience: &str) -> bool {
        self.uri.is_named_by(audience)
    }
}

/// The host of an origin, an IPv6 address in brackets.
fn host(origin: &str) -> &str {
    let authority = origin.split_once("://").map_or("", |(_, rest)| rest);
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => host,
        _ => authority,
    }
}

/// A path without one trailing slash.
fn without_slash(path: &str) -> &str {
    path.strip_suffix('/').unwrap_or(path)
}

fn is_well_known(path: &str, prefix: &str, suffix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest == "/" || rest == suffix)
}

/// Where the issuer `issuer` publishes its RFC 8414 metadata. `None` when it is not a URL.
pub fn authorization_server_metadata_url(issuer: &str) -> Option<String> {
    let url = Url::parse(issuer).ok()?;
    let path = url.path().trim_end_matches('/');
    let origin = url.origin().ascii_serialization();
    Some(format!(
        "{origin}/.well-known/oauth-authorization-server{path}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metadata_urls_follow_rfc_9728() {
        for (identifier, url) in [
            (
                "https://h/mcp",
                "https://h/.well-known/oauth-protected-resource/mcp",
            ),
            (
                "https://h:8443/a/b",
                "https://h:8443/.well-known/oauth-protected-resource/a/b",
            ),
            (
                "https://h",
                "https://h/.well-known/oauth-protected-resource",
            ),
            (
                "https://h/",
                "https://h/.well-known/oauth-protected-resource",
            ),
        ] {
            let resource = Resource::parse(identifier).unwrap();
            assert_eq!(resource.metadata_url(), url);
            assert_eq!(resource.identifier(), identifier);
        }
    }

    #[test]
    fn both_places_serve_the_metadata_and_no_other() {
        let resource = Resource::parse("https://h/mcp").unwrap();
        for (path, is_metadata) in [
            ("/.well-known/oauth-protected-resource/mcp", true),
            ("/.well-known/oauth-protected-resource", true),
            ("/.well-known/oauth-protected-resource/", true),
            ("/.well-known/oauth-protected-resource/mcp-x", false),
            ("/.well-known/oauth-protected-resource/other", false),
            ("/mcp", false),
        ] {
            assert_eq!(resource.is_metadata(path), is_metadata, "{path}");
        }
    }

    /// A24.
    #[test]
    fn every_spelling_of_the_resource_is_its_audience() {
        for (identifier, audience, matches) in [
            ("https://h", "https://h/", true),
            ("https://h/", "https://h", true),
            ("https://h/mcp", "https://h/mcp", true),
            ("https://h/mcp", "https://h/mcp/", true),
            ("https://h/mcp", "HTTPS://H:443/mcp", true),
            ("HTTPS://H:443/mcp/", "https://h/mcp", true),
            ("https://h/mcp", "https://h/mcp//", false),
            ("https://h/mcp", "https://h/MCP", false),
            ("https://h/mcp", "https://h/mcp-x", false),
            ("https://h/mcp", "https://h", false),
            ("https://h/mcp", "https://h/./mcp", false),
            ("https://h/mcp", "https://u@h/mcp", false),
        ] {
            let resource = Resource::parse(identifier).unwrap();
            assert_eq!(resource.is_audience(audience), matches, "{audience}");
        }
    }

    #[test]
    fn what_is_served_follows_from_the_declared_spelling() {
        for identifier in [
            "https://h:8443/mcp",
            "HTTPS://H:8443/mcp",
            "https://h:8443/mcp/",
        ] {
            let resource = Resource::parse(identifier).unwrap();
            assert_eq!(resource.host(), "h");
            assert_eq!(resource.identifier(), identifier);
            assert!(resource.serves("/mcp") && resource.serves("/mcp/"));
            assert!(!resource.serves("/mcp//") && !resource.serves("/"));
            let metadata = "https://h:8443/.well-known/oauth-protected-resource/mcp";
            assert_eq!(resource.metadata_url().trim_end_matches('/'), metadata);
        }
        let bare = Resource::parse("http://[::1]:9001").unwrap();
        assert_eq!((bare.host(), bare.path()), ("[::1]", "/"));
        assert!(bare.serves("/") && !bare.serves("//"));
    }

    #[test]
    fn an_identifier_that_clients_could_not_use_is_refused() {
        for identifier in [
            "/mcp",
            "ftp://h/mcp",
            "https://h/mcp?a",
            "https://h/#f",
            "https://u@h/",
        ] {
            assert!(Resource::parse(identifier).is_err(), "{identifier}");
        }
    }

    #[test]
    fn the_issuers_path_goes_behind_the_well_known_part() {
        for (issuer, url) in [
            (
                "https://h",
                "https://h/.well-known/oauth-authorization-server",
            ),
            (
                "https://h/",
                "https://h/.well-known/oauth-authorization-server",
            ),
            (
                "https://h/t1",
                "https://h/.well-known/oauth-authorization-server/t1",
            ),
        ] {
            assert_eq!(authorization_server_metadata_url(issuer).unwrap(), url);
        }
    }
}
