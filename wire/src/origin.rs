//! Origins of web pages (RFC 6454), as browsers send them.

use crate::Invalid;
use crate::invalid::Bounds;

/// The length of an origin, in characters.
pub const LENGTH: Bounds = Bounds::new(1, 256);
/// How many origins a list has.
pub const COUNT: Bounds = Bounds::new(0, 32);
/// The rule as a pattern for schemas, but for default ports and unusual IPv6 addresses.
pub const PATTERN: &str = concat!(
    r"^[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:]+\])",
    crate::port_pattern!(),
    "$"
);
/// A port that browsers leave out, as a pattern: an origin with it would never match.
pub const DEFAULT_PORT_PATTERN: &str = "^(https://.*:443|http://.*:80)$";

/// Checks a list of origins, which stands at `key`.
///
/// # Errors
/// The first that no browser sends.
pub fn check_all(key: &str, origins: &[String]) -> Result<(), Invalid> {
    COUNT.list(key, origins)?;
    for (index, origin) in origins.iter().enumerate() {
        check(origin).map_err(|text| Invalid::new(format!("{key}[{index}]"), text))?;
    }
    Ok(())
}

/// Whether this is what a browser sends as `Origin`, `null` excepted. Not only http: an editor's webview
/// has a scheme of its own.
///
/// # Errors
/// Says what would be right.
pub fn check(text: &str) -> Result<(), &'static str> {
    let shape =
        "expected an origin: scheme://host or scheme://host:port, in lowercase and without a path";
    let Some((scheme, authority)) = text.split_once("://") else {
        return Err(shape);
    };
    if !LENGTH.hold(text.len()) || !is_scheme(scheme) {
        return Err(shape);
    }
    if !is_authority(authority) {
        return Err(shape);
    }
    match (scheme, authority.rsplit_once(':')) {
        ("https", Some((_, "443"))) | ("http", Some((_, "80"))) => {
            Err("expected no default port (443 for https, 80 for http), because browsers omit it")
        }
        _ => Ok(()),
    }
}

/// A scheme of RFC 3986 in lower case.
pub(crate) fn is_scheme(scheme: &str) -> bool {
    let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'+' | b'.' | b'-');
    scheme.starts_with(|c: char| c.is_ascii_lowercase()) && scheme.bytes().all(plain)
}

/// A host in lower case, with or without a port. Extensions and webviews have ids in its place.
fn is_authority(authority: &str) -> bool {
    let after_address = authority.rfind(']').unwrap_or(0);
    let end = authority[after_address..].find(':');
    let (host, port) = authority.split_at(end.map_or(authority.len(), |at| after_address + at));
    let is_port = |port: &str| !port.starts_with(['0', '+']) && port.parse::<u16>().is_ok();
    if !port.strip_prefix(':').is_none_or(is_port) {
        return false;
    }
    let of = |text: &str, plain: fn(u8) -> bool| !text.is_empty() && text.bytes().all(plain);
    match host
        .strip_prefix('[')
        .map(|address| address.strip_suffix(']'))
    {
        Some(address) => address.is_some_and(|address| {
            of(
                address,
                |byte| matches!(byte, b'a'..=b'f' | b'0'..=b'9' | b':'),
            )
        }),
        None => of(
            host,
            |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_those_that_browsers_send() {
        for good in [
            "https://app.example",
            "https://app.example:8443",
            "http://localhost:6274",
            "http://[::1]:3000",
            "vscode-webview://0fn3k2m",
            "moz-extension://a1b2-c3",
            "app://localhost:1",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "*",
            "null",
            "app.example",
            "https://",
            "https://*.example.com",
            "https://app.example/",
            "https://app.example/path",
            "https://app.example?x",
            "https://u@app.example",
            "https://App.example",
            "HTTPS://app.example",
            "https://app.example:443",
            "http://localhost:80",
            "https://app.example:0",
            "https://app.example:65536",
            "https://a b",
            "https://ä.example",
            "vscode-webview://",
            "vscode-webview://a/b",
            "vscode-webview://a:x",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
