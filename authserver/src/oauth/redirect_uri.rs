//! Redirect URIs: which may be registered, and which registered one a request names (OAuth 2.1,
//! section 2.3; RFC 8252, section 7; RFC 9700, section 2.1).

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use crate::oauth::issuer;

/// Longer ones are refused.
const MAX_LENGTH: usize = 2048;
/// Schemes that run in the browser or reach files. Nobody can allow these.
const DANGEROUS: [&str; 12] = [
    "javascript",
    "data",
    "vbscript",
    "file",
    "blob",
    "about",
    "filesystem",
    "view-source",
    "ws",
    "wss",
    "ftp",
    "chrome",
];
/// Everything but RFC 3986's unreserved characters.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Which private-use schemes (RFC 8252, section 7.1) a registration may use besides https and loopback.
#[derive(Clone, Copy, Debug)]
pub enum PrivateSchemes<'a> {
    /// These: dynamic registration.
    Listed(&'a [String]),
    /// Any that is not dangerous: an administrator registers.
    Any,
}

/// Why a redirect URI cannot be registered. The texts name the URI, made printable.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedirectUriError {
    /// Not a URI, or written in a way that parsers disagree about.
    #[error("redirect URI {0}: expected an absolute URI of printable ASCII characters")]
    Malformed(String),
    /// It has a fragment.
    #[error("redirect URI {0}: expected no fragment (#)")]
    Fragment(String),
    /// It has a user name, password or a second `@`.
    #[error("redirect URI {0}: expected no user name or password")]
    UserInfo(String),
    /// http to somewhere else than this machine.
    #[error("redirect URI {0}: http is only for localhost, 127.0.0.1 and [::1]; use https")]
    NotLoopback(String),
    /// A scheme that could run code or read files.
    #[error("redirect URI {0}: the scheme is never allowed")]
    Dangerous(String),
    /// A private-use scheme that is not on the list.
    #[error(
        "redirect URI {0}: the scheme is not allowed here; an administrator can add it to allowedRedirectSchemes"
    )]
    NotListed(String),
}

/// Whether a redirect URI can be registered.
///
/// # Errors
/// Says which rule it breaks.
pub fn check(uri: &str, private: PrivateSchemes<'_>) -> Result<(), RedirectUriError> {
    let shown = || crate::oauth::params::printable(uri);
    let plain = |byte: u8| matches!(byte, 0x21..=0x7e) && !b"\"<>\\^`{|}*".contains(&byte);
    if uri.len() > MAX_LENGTH || !uri.bytes().all(plain) {
        return Err(RedirectUriError::Malformed(shown()));
    }
    let url = Url::parse(uri).map_err(|_| RedirectUriError::Malformed(shown()))?;
    if DANGEROUS.contains(&url.scheme()) {
        return Err(RedirectUriError::Dangerous(shown()));
    }
    if uri.contains('#') {
        return Err(RedirectUriError::Fragment(shown()));
    }
    if authority(uri).contains('@') {
        return Err(RedirectUriError::UserInfo(shown()));
    }
    // Browsers skip further slashes, and go where neither we nor the user would have seen it.
    let web = matches!(url.scheme(), "http" | "https");
    let plain = uri.starts_with("http://") || uri.starts_with("https://");
    if web && !(plain && is_host(authority(uri))) {
        return Err(RedirectUriError::Malformed(shown()));
    }
    match url.scheme() {
        "https" => Ok(()),
        "http" if issuer::is_loopback(&url) => Ok(()),
        "http" => Err(RedirectUriError::NotLoopback(shown())),
        scheme => match private {
            PrivateSchemes::Any => Ok(()),
            PrivateSchemes::Listed(list) if list.iter().any(|known| known == scheme) => Ok(()),
            PrivateSchemes::Listed(_) => Err(RedirectUriError::NotListed(shown())),
        },
    }
}

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

/// Whether an authority is a host, with or without a port, as the user is to see it.
fn is_host(authority: &str) -> bool {
    !authority.is_empty() && !authority.contains('%')
}

/// The part between `//` and the next slash, question mark or the end; empty when there is none.
fn authority(uri: &str) -> &str {
    let after = uri.split_once("//").map_or("", |(_, after)| after);
    after.split(['/', '?']).next().unwrap_or_default()
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

    fn listed(uri: &str) -> Result<(), RedirectUriError> {
        check(uri, PrivateSchemes::Listed(&["cursor".into()]))
    }

    #[test]
    fn uris_of_known_clients_can_be_registered() {
        for uri in [
            "http://localhost:54321/callback",
            "http://127.0.0.1:33418/",
            "http://127.0.0.1/",
            "http://[::1]:1/cb",
            "https://claude.ai/api/mcp/auth_callback",
            "https://vscode.dev/redirect",
            "cursor://anysphere.cursor-mcp/oauth/callback",
        ] {
            assert_eq!(listed(uri), Ok(()), "{uri}");
        }
        assert!(matches!(
            listed("vscode://x/y"),
            Err(RedirectUriError::NotListed(_))
        ));
        assert_eq!(check("vscode://x/y", PrivateSchemes::Any), Ok(()));
    }

    #[test]
    fn javascript_or_data_scheme() {
        for uri in [
            "javascript:alert(1)",
            "JavaScript://x/%0aalert(1)",
            "data:text/html,x",
            "vbscript:x",
            "file:///etc/passwd",
        ] {
            let refused = check(uri, PrivateSchemes::Any);
            assert!(
                matches!(refused, Err(RedirectUriError::Dangerous(_))),
                "{uri}"
            );
            let wish = ["javascript", "data", "vbscript", "file"].map(String::from);
            assert!(check(uri, PrivateSchemes::Listed(&wish)).is_err(), "{uri}");
        }
    }

    #[test]
    fn userinfo_or_several_at_signs() {
        for uri in [
            "https://good.example@evil.example/",
            "https://a@b@evil.example/",
            "https://:p@evil.example/",
            "http://localhost@evil.example/",
            "http://evil.example@localhost/",
            "cursor://u@x/y",
        ] {
            assert!(
                matches!(listed(uri), Err(RedirectUriError::UserInfo(_))),
                "{uri}"
            );
        }
    }

    #[test]
    fn malformed_ones_cannot_be_registered() {
        for uri in [
            "",
            "/callback",
            "//x/y",
            "https://",
            "https:x.example",
            "https://a b/",
            "https://a/\n",
            "https://a\\@b/",
            "https://ä.example/",
            "https://*.example/cb",
            "https:///a.example/cb/{x}",
            "https:///a.example/cb",
            "https:///good.example@evil.example/cb",
            "https:////a.example/cb",
            "https://good%2eexample/cb",
            "http:///localhost/cb",
        ] {
            assert!(listed(uri).is_err(), "{uri:?}");
        }
        let long = format!("https://a.example/{}", "a".repeat(MAX_LENGTH));
        assert!(listed(&long).is_err());
        assert!(matches!(
            listed("https://a.example/#"),
            Err(RedirectUriError::Fragment(_))
        ));
        for uri in [
            "http://a.example/",
            "http://localhost.evil.example/",
            "http://127.0.0.1.evil.example/",
        ] {
            assert!(
                matches!(listed(uri), Err(RedirectUriError::NotLoopback(_))),
                "{uri}"
            );
        }
    }

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
