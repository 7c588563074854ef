//! The issuer identifier (RFC 8414, section 2): the one string from which every public URL derives.

use std::fmt;

use aws_lc_rs::digest;
use url::{Host, Url};

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
        "expected https:// (http:// is only for localhost, 127.0.0.1 and [::1]), because tokens travel over it"
    )]
    NotHttps,
    /// User name or password in it.
    #[error("expected no user name or password in the URL")]
    UserInfo,
    /// Query or fragment (RFC 8414, section 2).
    #[error("expected no query (?) and no fragment (#)")]
    QueryOrFragment,
    /// Clients compare the string; a slash too many and most refuse.
    #[error("expected no trailing slash: {0}")]
    TrailingSlash(String),
    /// A host in upper case, a default port, dot segments: clients would normalise it.
    #[error("expected the normal form: {0}")]
    NotNormal(String),
}

impl Issuer {
    /// Reads an issuer.
    ///
    /// # Errors
    /// Says what would be right.
    pub fn parse(text: &str) -> Result<Self, IssuerError> {
        let url = Url::parse(text).map_err(|_| IssuerError::NotAUrl)?;
        let loopback = is_loopback(&url);
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
        Ok(Self {
            text: text.into(),
            path: url.path().trim_end_matches('/').into(),
            https: url.scheme() == "https",
            loopback,
        })
    }

    /// The string itself.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Host, port and path: what users know it by.
    pub fn without_scheme(&self) -> &str {
        self.text.split_once("://").map_or("", |(_, rest)| rest)
    }

    /// The URL of one of our paths, which begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.text)
    }

    /// Its path: empty, or with a leading and without a trailing slash.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether its host is loopback: only then may development mode run.
    pub fn is_loopback(&self) -> bool {
        self.loopback
    }

    /// Whether browsers reach us over TLS: only then cookies can have the `__Host-` prefix everywhere.
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// Eight hex digits that tell this issuer's cookies from those of another on the same host.
    pub fn cookie_suffix(&self) -> String {
        let hash = digest::digest(&digest::SHA256, self.text.as_bytes());
        let bytes = hash.as_ref().iter().take(4);
        bytes.map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Whether the host is `localhost`, 127.0.0.1 or [::1].
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address == std::net::Ipv4Addr::LOCALHOST,
        Some(Host::Ipv6(address)) => address == std::net::Ipv6Addr::LOCALHOST,
        None => false,
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        ] {
            assert_eq!(Issuer::parse(text), Err(expected), "{text}");
        }
        assert!(Issuer::parse("https://a.example/{x}").is_err());
    }
}
