//! Which registered redirect URI a request names, and where answers go (OAuth 2.1, section 2.3; RFC 8252,
//! section 7). Which can be registered is in [`mcpauth_wire::redirect_uri`].

use mcpauth_wire::redirect_uri::authority;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Everything but RFC 3986's unreserved characters.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Whether a request's redirect URI is the registered one: byte for byte, but for the port of a loopback
/// address (RFC 8252, section 7.3), `localhost` included because clients in the field need it.
pub fn matches(registered: &str, requested: &str) -> bool {
    if registered == requested {
        return true;
    }
    match (without_port(registered), without_port(requested)) {
        (Some(registered), Some(requested)) => registered == requested,
        _ => false,
    }
}

/// Whether answers go to a program on the user's computer: over loopback, or by one of these private-use schemes.
pub fn is_local(uri: &str, schemes: &[String]) -> bool {
    let scheme = uri.split_once(':').map_or("", |(scheme, _)| scheme);
    without_port(uri).is_some() || schemes.iter().any(|known| known == scheme)
}

/// Host and what follows the port, when this is plain http to loopback. Works on the string, so that no
/// normalisation makes equal what is not.
fn without_port(uri: &str) -> Option<(&str, &str)> {
    let rest = uri.strip_prefix("http://")?;
    let host = ["127.0.0.1", "[::1]", "localhost"]
        .into_iter()
        .find(|host| rest.starts_with(host))?;
    let mut rest = &rest[host.len()..];
    if let Some(port) = rest.strip_prefix(':') {
        let end = port.find(|c: char| !c.is_ascii_digit());
        let (digits, after) = port.split_at(end.unwrap_or(port.len()));
        digits.parse::<u16>().ok().filter(|port| *port > 0)?;
        rest = after;
    }
    (rest.is_empty() || rest.starts_with(['/', '?'])).then_some((host, rest))
}

/// The redirect URI with these parameters added to its query.
pub fn with_params(uri: &str, params: &[(&str, &str)]) -> String {
    let mut separator = if uri.contains('?') { '&' } else { '?' };
    let mut target = uri.to_owned();
    for (name, value) in params {
        target.push(separator);
        target.push_str(name);
        target.push('=');
        target.extend(utf8_percent_encode(value, VALUE));
        separator = '&';
    }
    target
}

/// What the consent page shows of it: the host with its port, or the scheme when there is no host.
pub fn destination(uri: &str) -> String {
    let authority = authority(uri);
    let scheme = uri.split_once(':').map_or("", |(scheme, _)| scheme);
    if matches!(scheme, "http" | "https") {
        authority.into()
    } else {
        format!("{scheme}:")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_with_another_port_is_fine_with_another_path_is_not() {
        for host in ["localhost", "127.0.0.1", "[::1]"] {
            let registered = format!("http://{host}:1234/callback");
            assert!(matches(
                &registered,
                &format!("http://{host}:65535/callback")
            ));
            assert!(matches(&registered, &format!("http://{host}/callback")));
            for other in [
                "/",
                "/callback/",
                "/Callback",
                "/callback?x=1",
                "/callback/../callback",
                "/%63allback",
            ] {
                assert!(
                    !matches(&registered, &format!("http://{host}:1234{other}")),
                    "{other}"
                );
            }
        }
        let registered = "http://localhost/callback";
        for other in [
            "http://localhost.evil.example/callback",
            "http://localhost:1@evil.example/callback",
            "http://localhost:/callback",
            "http://localhost:0/callback",
            "http://localhost:65536/callback",
            "http://localhost:+1/callback",
            "http://LOCALHOST:1/callback",
            "HTTP://localhost:1/callback",
            "https://localhost:1/callback",
            "http://127.0.0.1:1/callback",
            "http://u@localhost:1/callback",
        ] {
            assert!(!matches(registered, other), "{other}");
        }
    }

    #[test]
    fn another_port_off_loopback() {
        assert!(!matches(
            "https://a.example/cb",
            "https://a.example:8443/cb"
        ));
        assert!(!matches("https://a.example/cb", "https://a.example:443/cb"));
    }

    #[test]
    fn parameters_are_appended_and_encoded() {
        assert_eq!(
            with_params(
                "https://a.example/cb",
                &[("code", "a&b"), ("iss", "http://x")]
            ),
            "https://a.example/cb?code=a%26b&iss=http%3A%2F%2Fx"
        );
        assert_eq!(
            with_params("cursor://x/y?z=1", &[("state", "ä b")]),
            "cursor://x/y?z=1&state=%C3%A4%20b"
        );
    }

    #[test]
    fn the_consent_page_shows_where_the_answer_goes() {
        assert_eq!(destination("https://claude.ai/api/cb"), "claude.ai");
        assert_eq!(destination("http://localhost:1234/cb"), "localhost:1234");
        assert_eq!(
            destination("cursor://anysphere.cursor-mcp/oauth"),
            "cursor:"
        );
    }
}
