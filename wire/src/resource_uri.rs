//! Resource identifiers (RFC 8707), and the one notion of their equality.

use crate::web_url::{self, WebUrlError};

/// The longest, in characters.
pub const MAX_LENGTH: u32 = 512;
/// The rule as a pattern for schemas, but for dot segments and unusual IPv6 addresses.
pub const PATTERN: &str = concat!(
    "^((?i:https)://",
    crate::host_pattern!(),
    "|(?i:http://",
    crate::loopback_pattern!(),
    "))",
    crate::port_pattern!(),
    crate::path_pattern!(),
    "$"
);

/// The URI of a resource: the audience of its tokens. It keeps the spelling in which it was declared.
///
/// Clients and libraries write one URL in several ways, so two spellings name the same resource when
/// they differ in the case of scheme and host, in a default port, or in one trailing slash, and in
/// nothing else; see [`ResourceUri::is_same`]. There is no `==`, which could mean that or the spelling.
#[derive(Clone, Debug)]
pub struct ResourceUri {
    declared: String,
    canonical: String,
    path: String,
}

/// What is wrong with a resource identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResourceUriError {
    /// It is not an acceptable URL.
    #[error(transparent)]
    Url(#[from] WebUrlError),
    /// Plain http to another machine.
    #[error(
        "expected https:// (http:// is only for localhost, 127.0.0.1 and [::1]), because tokens are sent over it"
    )]
    NotHttps,
    /// It is too long.
    #[error("expected at most {MAX_LENGTH} characters")]
    Length,
}

impl ResourceUri {
    /// Reads a resource identifier.
    ///
    /// # Errors
    /// Says what would be right.
    pub fn parse(text: &str) -> Result<Self, ResourceUriError> {
        if text.len() > MAX_LENGTH as usize {
            return Err(ResourceUriError::Length);
        }
        let url = web_url::parse(text)?;
        if !url.https && !url.is_loopback() {
            return Err(ResourceUriError::NotHttps);
        }
        let canonical = url.canonical();
        Ok(Self {
            declared: text.to_owned(),
            canonical: canonical.strip_suffix('/').unwrap_or(&canonical).to_owned(),
            path: url.path.to_owned(),
        })
    }

    /// As it was declared, byte for byte: the `aud` of its tokens.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.declared
    }

    /// The key under which equal ones are the same. It is for comparing and not for showing.
    #[must_use]
    pub fn canonical(&self) -> &str {
        &self.canonical
    }

    /// Its path as it was declared: empty, or with a leading slash.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether both name the same resource.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.canonical == other.canonical
    }

    /// Whether `text` names this resource. What is no resource identifier names none.
    #[must_use]
    pub fn is_named_by(&self, text: &str) -> bool {
        text == self.declared || Self::parse(text).is_ok_and(|other| self.is_same(&other))
    }
}

impl std::fmt::Display for ResourceUri {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.declared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(one: &str, other: &str) -> bool {
        let parsed = ResourceUri::parse(one).unwrap();
        assert_eq!(parsed.as_str(), one);
        parsed.is_named_by(other)
    }

    #[test]
    fn equal_but_for_case_of_scheme_and_host_default_port_and_one_slash() {
        for (one, other) in [
            ("https://a.example", "https://a.example/"),
            ("http://localhost:9001/", "http://localhost:9001"),
            ("https://a.example/mcp", "https://a.example/mcp"),
            ("https://a.example/mcp", "https://a.example/mcp/"),
            ("https://a.example/mcp", "HTTPS://A.Example/mcp"),
            ("https://a.example/mcp", "https://a.example:443/mcp/"),
            ("http://localhost:80", "http://LOCALHOST/"),
        ] {
            assert!(same(one, other), "{one} {other}");
            assert!(same(other, one), "{other} {one}");
        }
    }

    #[test]
    fn nothing_else_is_equal() {
        for (one, other) in [
            ("https://a.example/mcp", "https://a.example/Mcp"),
            ("https://a.example/mcp", "https://a.example/mcp-x"),
            ("https://a.example/mcp", "https://a.example/mcp//"),
            ("https://a.example/mcp/", "https://a.example/mcp//"),
            ("https://a.example", "https://a.example//"),
            ("https://localhost:1", "http://localhost:1"),
            ("https://a.example", "https://a.example:8443"),
            ("https://a.example:80", "https://a.example"),
            ("https://a.example/~x", "https://a.example/%7Ex"),
            ("https://a.example", "https://a.example."),
        ] {
            assert!(!same(one, other), "{one} {other}");
            assert!(!same(other, one), "{other} {one}");
        }
        for other in [
            "",
            "a.example",
            "https://a.example?",
            "https://a.example#",
            "https://u@a.example",
            "https://a.example/.",
            "https://a.example/x/..",
        ] {
            assert!(!same("https://a.example", other), "{other}");
        }
    }

    #[test]
    fn plain_http_is_for_this_machine_only() {
        for good in ["http://localhost:1", "HTTP://127.0.0.1", "http://[::1]/mcp"] {
            assert!(ResourceUri::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "http://a.example",
            "http://localhost.evil.example",
            "http://127.0.0.2",
        ] {
            let refused = ResourceUri::parse(bad).unwrap_err();
            assert_eq!(refused, ResourceUriError::NotHttps, "{bad}");
        }
    }

    #[test]
    fn the_length_is_bounded() {
        let longest = format!("https://a.example/{}", "a".repeat(494));
        assert!(ResourceUri::parse(&longest).is_ok());
        let longer = ResourceUri::parse(&format!("{longest}a"));
        assert_eq!(longer.unwrap_err(), ResourceUriError::Length);
    }
}
