//! The protected resource: its identifier and the URLs that follow from it.

use url::Url;

/// Where RFC 9728 puts the metadata of the resource.
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// The resource identifier (RFC 8707) and what derives from it. Nothing derives from a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    identifier: String,
    host: String,
    path: String,
    metadata_url: String,
}

impl Resource {
    /// From the configured identifier.
    ///
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub fn parse(identifier: &str) -> Result<Self, String> {
        let url = Url::parse(identifier)
            .map_err(|error| format!("{error}; give the public URL, as https://host/mcp"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("is neither http nor https".into());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("carries a query or a fragment; leave it out".into());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("carries a user or a password; leave it out".into());
        }
        let path = url.path().to_owned();
        let suffix = if path == "/" { "" } else { &path };
        let origin = url.origin().ascii_serialization();
        Ok(Self {
            identifier: identifier.to_owned(),
            host: url.host_str().unwrap_or_default().to_owned(),
            metadata_url: format!("{origin}{WELL_KNOWN}{suffix}"),
            path,
        })
    }

    /// The identifier, as configured, byte for byte.
    pub fn identifier(&self) -> &str {
        &self.identifier
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

    /// Whether the MCP endpoint is at `path`: exactly, or with one slash behind it.
    pub fn serves(&self, path: &str) -> bool {
        path == self.path || path.strip_suffix('/') == Some(&self.path)
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

    /// Whether an `aud` names this resource. A slash behind the bare host does not count, because
    /// clients and libraries add it and take it away as they please.
    pub fn is_audience(&self, audience: &str) -> bool {
        audience == self.identifier
            || (self.path == "/"
                && audience.trim_end_matches('/') == self.identifier.trim_end_matches('/'))
    }
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

    #[test]
    fn only_the_slash_behind_a_bare_host_is_ignored_in_an_audience() {
        for (identifier, audience, matches) in [
            ("https://h", "https://h/", true),
            ("https://h/", "https://h", true),
            ("https://h/mcp", "https://h/mcp", true),
            ("https://h/mcp", "https://h/mcp/", false),
            ("https://h/mcp", "https://h/mcp-x", false),
            ("https://h/mcp", "https://h", false),
            ("https://h/mcp", "https://H/mcp", false),
        ] {
            let resource = Resource::parse(identifier).unwrap();
            assert_eq!(resource.is_audience(audience), matches, "{audience}");
        }
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
