//! The issuer identifier (RFC 8414, section 2): the one string from which every public URL derives.

use std::fmt;

use url::Url;

use crate::web_url;

/// The longest, in characters.
pub const MAX_LENGTH: u32 = 512;
/// The rule as a pattern for schemas, but for default ports, dot segments and unusual IPv6 addresses.
pub const PATTERN: &str = concat!(
    r"^(https://(([a-z0-9_-]+\.)*[a-z][a-z0-9_-]*\.?|((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])\.){3}(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])|\[[0-9a-f:]+\])|http://",
    crate::loopback_pattern!(),
    ")",
    crate::port_pattern!(),
    r"(/([A-Za-z0-9._~!$&'()+,;=:@/-]|%[0-9A-Fa-f]{2})*([A-Za-z0-9._~!$&'()+,;=:@-]|%[0-9A-Fa-f]{2}))?$"
);

/// A port that clients leave out, as a pattern.
pub const DEFAULT_PORT_PATTERN: &str = "^(https://[^/]*:443|http://[^/]*:80)(/|$)";

/// A validated issuer. It is compared byte for byte, never normalised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    text: String,
    path: String,
    https: bool,
    loopback: bool,
}

/// What is wrong with an issuer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssuerError {
    /// Not a URL at all.
    #[error("expected an absolute URL such as https://auth.example.com, without spaces")]
    NotAUrl,
    /// Something other than https, and not loopback.
    #[error(
        "expected https:// (http:// is only for localhost, 127.0.0.1 and [::1]), because tokens are sent over it"
    )]
    NotHttps,
    /// User name or password in it.
    #[error("expected no user name or password in the URL")]
    UserInfo,
    /// Query or fragment (RFC 8414, section 2).
    #[error("expected no query (?) and no fragment (#)")]
    QueryOrFragment,
    /// Clients compare the string, so most reject an additional slash.
    #[error("expected no trailing slash: {0}")]
    TrailingSlash(String),
    /// A host in upper case, a default port, dot segments: clients would normalise it.
    #[error("expected the normal form: {0}")]
    NotNormal(String),
    /// It is too long.
    #[error("expected at most {MAX_LENGTH} characters")]
    Length,
    /// A host or a path that parsers read in different ways.
    #[error(transparent)]
    Url(#[from] web_url::WebUrlError),
}

impl Issuer {
    /// Reads an issuer.
    ///
    /// # Errors
    /// Says what would be right.
    pub fn parse(text: &str) -> Result<Self, IssuerError> {
        if text.len() > MAX_LENGTH as usize {
            return Err(IssuerError::Length);
        }
        let url = Url::parse(text).map_err(|_| IssuerError::NotAUrl)?;
        let loopback = web_url::is_loopback(&url);
        if url.scheme() != "https" && !(url.scheme() == "http" && loopback) {
            return Err(IssuerError::NotHttps);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(IssuerError::UserInfo);
        }
        if text.contains(['?', '#']) {
            return Err(IssuerError::QueryOrFragment);
        }
        if text.ends_with('/') {
            return Err(IssuerError::TrailingSlash(
                text.trim_end_matches('/').into(),
            ));
        }
        let normal = url.as_str().trim_end_matches('/');
        if normal != text || text.contains(['{', '}', '*']) {
            return Err(IssuerError::NotNormal(normal.into()));
        }
        web_url::parse(text)?;
        Ok(Self {
            text: text.into(),
            path: url.path().trim_end_matches('/').into(),
            https: url.scheme() == "https",
            loopback,
        })
    }

    /// The string itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Host, port and path: what users know it by.
    #[must_use]
    pub fn without_scheme(&self) -> &str {
        self.text.split_once("://").map_or("", |(_, rest)| rest)
    }

    /// The URL of one of our paths, which begins with a slash.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.text)
    }

    /// Its path: empty, or with a leading and without a trailing slash.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether its host is loopback: only then may development mode run.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.loopback
    }

    /// Whether browsers use TLS, which the `__Host-` prefix of cookies requires.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.https
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether a proxy can name this issuer to its clients. It may be any authorization server's, so what
/// our own must not have (a trailing slash, plain http) is possible: clients compare it byte for byte.
///
/// # Errors
/// Says what would be right.
pub fn check_of_others(text: &str) -> Result<(), String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("expected an http or https URL".into());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("expected no query (?) and no fragment (#)".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web_url::WebUrlError;

    #[test]
    fn issuers_are_https_or_loopback_and_in_normal_form() {
        for (text, path) in [
            ("https://auth.example.com", ""),
            ("https://auth.example.com/t1", "/t1"),
            ("https://auth.example.com:8443/a/b", "/a/b"),
            ("http://localhost:9000", ""),
            ("http://127.0.0.1:9000", ""),
            ("http://[::1]:9000", ""),
        ] {
            let issuer = Issuer::parse(text).unwrap();
            assert_eq!((issuer.as_str(), issuer.path()), (text, path));
            assert_eq!(issuer.url("/token"), format!("{text}/token"));
            assert_eq!(issuer.is_loopback(), text.starts_with("http:"));
        }
    }

    #[test]
    fn other_strings_are_refused_with_what_would_be_right() {
        use IssuerError::{NotAUrl, NotHttps, NotNormal, QueryOrFragment, TrailingSlash, UserInfo};
        let normal = || NotNormal("https://a.example".into());
        let slash = || TrailingSlash("https://a.example".into());
        for (text, expected) in [
            ("auth.example.com", NotAUrl),
            ("http://auth.example.com", NotHttps),
            ("http://localhost.evil.example", NotHttps),
            ("ftp://localhost", NotHttps),
            ("https://u@a.example", UserInfo),
            ("https://a.example?x", QueryOrFragment),
            ("https://a.example#x", QueryOrFragment),
            ("https://a.example/", slash()),
            ("https://A.example", normal()),
            ("https://a.example:443", normal()),
            (" https://a.example", normal()),
            ("https://a.example/x/..", normal()),
            ("https://a!.example", IssuerError::Url(WebUrlError::Host)),
            ("https://a.example/|", IssuerError::Url(WebUrlError::Path)),
        ] {
            assert_eq!(Issuer::parse(text), Err(expected), "{text}");
        }
        assert!(Issuer::parse("https://a.example/{x}").is_err());
        let long = format!("https://a.example/{}", "a".repeat(512));
        assert_eq!(Issuer::parse(&long), Err(IssuerError::Length));
    }

    #[test]
    fn issuers_of_others_are_taken_as_they_are() {
        assert_eq!(check_of_others("https://tenant.auth0.example/"), Ok(()));
        for wrong in ["auth", "ftp://h", "https://h?x", "https://h#x"] {
            assert!(check_of_others(wrong).is_err(), "{wrong}");
        }
    }
}
