//! http and https URLs as they may stand in our documents: the grammar that issuers, resources and
//! redirect URIs have in common, written once as code and once as a pattern for the resources' schemas.

use url::{Host, Url};

/// A host's name, an IPv4 or an IPv6 address; in any case. The last label begins with a letter: parsers
/// take other ones for addresses (`0x7f.1`).
#[macro_export]
macro_rules! host_pattern {
    () => {
        r"(([A-Za-z0-9_-]+\.)*[A-Za-z][A-Za-z0-9_-]*\.?|((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])\.){3}(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])|\[[0-9A-Fa-f:]+\])"
    };
}

/// A port with its colon, or nothing: 1 to 65535.
#[macro_export]
macro_rules! port_pattern {
    () => {
        r"(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?"
    };
}

/// A path of RFC 3986: empty, or with a leading slash.
#[macro_export]
macro_rules! path_pattern {
    () => {
        r"(/([A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*)?"
    };
}

/// A URL that names this machine, as its user writes it.
#[macro_export]
macro_rules! loopback_pattern {
    () => {
        r"(localhost|127\.0\.0\.1|\[::1\])"
    };
}

/// What begins as an https URL or as one on this machine, as a pattern.
pub const SECURE_PATTERN: &str = concat!(
    "^(?i:https://|http://",
    crate::loopback_pattern!(),
    "([:/?#]|$))"
);

/// A dot segment, which [`parse`] refuses: parsers remove it.
pub const DOT_SEGMENT_PATTERN: &str = r"/(\.|%2[Ee]){1,2}(/|$)";

/// An http or https URL without user name, query and fragment, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebUrl<'a> {
    /// Whether it is https.
    pub https: bool,
    /// The host in lower case; an IPv6 address in brackets.
    pub host: String,
    /// The port, when it is not the scheme's own.
    pub port: Option<u16>,
    /// The path as it is written: empty, or with a leading slash.
    pub path: &'a str,
}

/// What is wrong with a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebUrlError {
    /// Another scheme, or no URL at all.
    #[error("expected an absolute http or https URL such as https://mcp.example.com/mcp")]
    NotAWebUrl,
    /// User name or password in it.
    #[error("expected no user name or password in the URL")]
    UserInfo,
    /// Query or fragment.
    #[error("expected no query (?) and no fragment (#)")]
    QueryOrFragment,
    /// Something that parsers read in different ways.
    #[error(
        "expected a host name with letters, digits, hyphens and dots, or an IP address in its usual form"
    )]
    Host,
    /// No port at all, 0, or over 65535.
    #[error("expected a port from 1 to 65535, or none")]
    Port,
    /// A character that must be percent-encoded.
    #[error("expected a path of the characters of RFC 3986, others percent-encoded")]
    Path,
    /// `.` or `..`.
    #[error("expected no dot segments (/./ or /../) in the path")]
    DotSegment,
}

/// Takes a URL apart.
///
/// # Errors
/// When it is not an http or https URL, or one that two parsers could read in different ways.
pub fn parse(text: &str) -> Result<WebUrl<'_>, WebUrlError> {
    let (scheme, rest) = text.split_once("://").ok_or(WebUrlError::NotAWebUrl)?;
    let https = scheme.eq_ignore_ascii_case("https");
    if !https && !scheme.eq_ignore_ascii_case("http") {
        return Err(WebUrlError::NotAWebUrl);
    }
    if rest.contains(['?', '#']) {
        return Err(WebUrlError::QueryOrFragment);
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err(WebUrlError::UserInfo);
    }
    check_path(path)?;
    let (host, port) = authority_parts(authority)?;
    let own = if https { 443 } else { 80 };
    let url = WebUrl {
        https,
        host,
        port: port.filter(|port| *port != own),
        path,
    };
    // Whatever this reads in another way than we do (punycode, addresses) is refused.
    let written = url.canonical();
    match Url::parse(&written) {
        Ok(read) if read.as_str().trim_end_matches('/') == written.trim_end_matches('/') => Ok(url),
        _ => Err(WebUrlError::Host),
    }
}

impl WebUrl<'_> {
    /// Scheme and host in lower case, no default port; the path as it is.
    #[must_use]
    pub fn canonical(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        format!("{scheme}://{}{port}{}", self.host, self.path)
    }

    /// Whether the host is `localhost`, 127.0.0.1 or [::1].
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        matches!(self.host.as_str(), "localhost" | "127.0.0.1" | "[::1]")
    }
}

/// Host in lower case, and port.
pub(crate) fn authority_parts(authority: &str) -> Result<(String, Option<u16>), WebUrlError> {
    // The colons of an IPv6 address are inside its brackets.
    let after_address = authority.rfind(']').unwrap_or(0);
    let colon = authority[after_address..].find(':');
    let end = colon.map_or(authority.len(), |colon| after_address + colon);
    let (host, port) = authority.split_at(end);
    let port = match port.strip_prefix(':') {
        Some(digits) => Some(port_number(digits)?),
        None => None,
    };
    if !is_host(host) {
        return Err(WebUrlError::Host);
    }
    Ok((host.to_ascii_lowercase(), port))
}

fn port_number(digits: &str) -> Result<u16, WebUrlError> {
    let plain = !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.parse().ok().filter(|_| plain);
    number.ok_or(WebUrlError::Port)
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[') {
        let address = address.strip_suffix(']').unwrap_or_default();
        let plain = |byte: u8| byte.is_ascii_hexdigit() || byte == b':';
        return !address.is_empty() && address.bytes().all(plain);
    }
    let is_label = |label: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        !label.is_empty() && label.bytes().all(plain)
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    let last = name.rsplit('.').next().unwrap_or_default();
    let is_name =
        name.split('.').all(is_label) && last.starts_with(|c: char| c.is_ascii_alphabetic());
    is_name || host.parse::<std::net::Ipv4Addr>().is_ok()
}

fn check_path(path: &str) -> Result<(), WebUrlError> {
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        let is_hex = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_hexdigit());
        let good = match byte {
            b'%' => is_hex(bytes.next()) && is_hex(bytes.next()),
            _ => byte.is_ascii_alphanumeric() || b"._~!$&'()*+,;=:@/-".contains(&byte),
        };
        if !good {
            return Err(WebUrlError::Path);
        }
    }
    let is_dots = |segment: &str| {
        let decoded = segment.replace("%2e", ".").replace("%2E", ".");
        matches!(decoded.as_str(), "." | "..")
    };
    match path.split('/').any(is_dots) {
        true => Err(WebUrlError::DotSegment),
        false => Ok(()),
    }
}

/// Whether a parsed URL's host is `localhost`, 127.0.0.1 or [::1].
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address == std::net::Ipv4Addr::LOCALHOST,
        Some(Host::Ipv6(address)) => address == std::net::Ipv6Addr::LOCALHOST,
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scheme_and_host_are_lowered_and_the_default_port_goes() {
        for (text, canonical) in [
            ("https://a.example", "https://a.example"),
            ("HTTPS://A.Example:443/Mcp", "https://a.example/Mcp"),
            ("http://localhost:80/", "http://localhost/"),
            ("http://[::1]:9001/mcp", "http://[::1]:9001/mcp"),
            ("https://[::80]:443", "https://[::80]"),
            ("https://a.example:8443//x", "https://a.example:8443//x"),
            ("https://a.example/%7Euser", "https://a.example/%7Euser"),
            ("https://a_b-c.example./", "https://a_b-c.example./"),
            ("https://192.0.2.1", "https://192.0.2.1"),
        ] {
            assert_eq!(parse(text).unwrap().canonical(), canonical, "{text}");
        }
    }

    #[test]
    fn what_parsers_read_in_different_ways_is_refused() {
        use WebUrlError::{DotSegment, Host, NotAWebUrl, Path, Port, QueryOrFragment, UserInfo};
        for (text, error) in [
            ("", NotAWebUrl),
            ("/mcp", NotAWebUrl),
            ("https:a.example", NotAWebUrl),
            ("ftp://a.example", NotAWebUrl),
            (" https://a.example", NotAWebUrl),
            ("https://u@a.example", UserInfo),
            ("https://u:p@a.example/", UserInfo),
            ("https://a.example?x", QueryOrFragment),
            ("https://a.example/#", QueryOrFragment),
            ("https://", Host),
            ("https:///a.example", Host),
            ("https://a b", Host),
            ("https://ä.example", Host),
            ("https://a..example", Host),
            ("https://*.example", Host),
            ("https://a%2eexample", Host),
            ("https://0x7f.1", Host),
            ("https://127.1", Host),
            ("https://1.2.3.256", Host),
            ("https://[::1", Port),
            ("https://[0:0::1]", Host),
            ("https://[::1]x", Host),
            ("https://xn--a", Host),
            ("https://a.example:", Port),
            ("https://a.example:0", Port),
            ("https://a.example:0443", Port),
            ("https://a.example:65536", Port),
            ("https://a.example:+1", Port),
            ("https://a.example/{x}", Path),
            ("https://a.example/a b", Path),
            ("https://a.example/ä", Path),
            ("https://a.example\\x", Host),
            ("https://a.example/\\x", Path),
            ("https://a.example/%4", Path),
            ("https://a.example/x\n", Path),
            ("https://a.example/x/../y", DotSegment),
            ("https://a.example/.", DotSegment),
            ("https://a.example/%2e%2E/y", DotSegment),
        ] {
            assert_eq!(parse(text), Err(error), "{text:?}");
        }
    }
}
