//! Which redirect URIs can be registered (OAuth 2.1, section 2.3; RFC 8252, section 7; RFC 9700,
//! section 2.1). Which registered one a request names is the authserver's business.

use url::Url;

use crate::invalid::{Bounds, printable};
use crate::web_url::{self, WebUrlError};
use crate::{Invalid, origin};

/// The length of a redirect URI, in characters.
pub const LENGTH: Bounds = Bounds::new(1, 2048);
/// How many a declared client has.
pub const COUNT: Bounds = Bounds::new(0, 16);
/// How long a private-use scheme is.
pub const SCHEME_LENGTH: Bounds = Bounds::new(1, 64);
/// How many private-use schemes a list has.
pub const SCHEME_COUNT: Bounds = Bounds::new(0, 16);
/// A private-use scheme as a pattern for schemas, but for those of [`NEVER`], http and https.
pub const SCHEME_PATTERN: &str = "^[a-z][a-z0-9+.-]*$";

/// Schemes that run code in the browser or read files, as alternatives of a pattern. They cannot be allowed.
#[macro_export]
macro_rules! never_schemes {
    () => {
        "javascript|data|vbscript|file|blob|about|filesystem|view-source|ws|wss|ftp|chrome"
    };
}
const NEVER: &str = never_schemes!();

/// Schemes that cannot stand in a list of private-use schemes, as a pattern.
pub const NOT_PRIVATE_PATTERN: &str = concat!("^(http|https|", never_schemes!(), ")$");
/// Schemes that no redirect URI has, in any case, as a pattern.
pub const NEVER_PATTERN: &str = concat!("^(?i:", never_schemes!(), "):");
/// The characters of a redirect URI, as a pattern for schemas.
pub const PATTERN: &str = r"^[A-Za-z][A-Za-z0-9+.-]*:[!$-)+-;=?-\[\]_a-z~]+$";
/// A user name or a password, as a pattern.
pub const USER_INFO_PATTERN: &str = r"^([^/]|/[^/])*//[^/?]*@";
/// An https URL or one on loopback, or a private-use scheme, as a pattern.
pub const WHERE_PATTERN: &str = concat!(
    "^(https://",
    crate::host_pattern!(),
    crate::port_pattern!(),
    "([/?].*)?|http://",
    crate::loopback_pattern!(),
    crate::port_pattern!(),
    "([/?].*)?|",
    // Neither http nor https, in any case.
    "([A-GI-Za-gi-z][A-Za-z0-9+.-]*|[Hh]|[Hh][A-SU-Za-su-z0-9+.-][A-Za-z0-9+.-]*|[Hh][Tt]|[Hh][Tt][A-SU-Za-su-z0-9+.-][A-Za-z0-9+.-]*|[Hh][Tt][Tt]|[Hh][Tt][Tt][A-OQ-Za-oq-z0-9+.-][A-Za-z0-9+.-]*|[Hh][Tt][Tt][Pp][A-RT-Za-rt-z0-9+.-][A-Za-z0-9+.-]*|[Hh][Tt][Tt][Pp][Ss][A-Za-z0-9+.-]+)",
    r":(//[A-Za-z0-9._~-]*",
    crate::port_pattern!(),
    "([/?].*)?|/[^/].*|/|[^/].*))$"
);

/// A website: an https URL that is not on loopback, as a pattern for URIs that can be registered.
pub const WEB_PATTERN: &str = "^https://";
/// An https URL on loopback, as a pattern.
pub const LOCAL_PATTERN: &str = concat!("^(?i:https://", crate::loopback_pattern!(), "([:/?]|$))");

/// The private-use schemes (RFC 8252, section 7.1) that a registration may use in addition to https and loopback.
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
    #[error("redirect URI {0}: http is allowed only for localhost, 127.0.0.1 and [::1]; use https")]
    NotLoopback(String),
    /// A scheme that could run code or read files.
    #[error(
        "redirect URI {0}: this scheme is never allowed; use https, or the application's own scheme"
    )]
    Dangerous(String),
    /// A private-use scheme that is not on the list.
    #[error(
        "redirect URI {0}: this scheme is not allowed here; an administrator can add it to allowedRedirectSchemes"
    )]
    NotListed(String),
}

/// Whether a redirect URI can be registered.
///
/// # Errors
/// Says which rule it breaks.
pub fn check(uri: &str, private: PrivateSchemes<'_>) -> Result<(), RedirectUriError> {
    let shown = || printable(uri);
    let plain = |byte: u8| matches!(byte, 0x21..=0x7e) && !b"\"<>\\^`{|}*".contains(&byte);
    if !LENGTH.hold(uri.len()) || !uri.bytes().all(plain) {
        return Err(RedirectUriError::Malformed(shown()));
    }
    let url = Url::parse(uri).map_err(|_| RedirectUriError::Malformed(shown()))?;
    if is_never(url.scheme()) {
        return Err(RedirectUriError::Dangerous(shown()));
    }
    if uri.contains('#') {
        return Err(RedirectUriError::Fragment(shown()));
    }
    if authority(uri).contains('@') {
        return Err(RedirectUriError::UserInfo(shown()));
    }
    match url.scheme() {
        "https" => check_web(uri).map(|_| ()),
        "http" => match check_web(uri)? {
            "localhost" | "127.0.0.1" | "[::1]" => Ok(()),
            _ => Err(RedirectUriError::NotLoopback(shown())),
        },
        _ if !is_private_authority(uri) => Err(RedirectUriError::Malformed(shown())),
        scheme => match private {
            PrivateSchemes::Any => Ok(()),
            PrivateSchemes::Listed(list) if list.iter().any(|known| known == scheme) => Ok(()),
            PrivateSchemes::Listed(_) => Err(RedirectUriError::NotListed(shown())),
        },
    }
}

/// The host of an http or https URI as it is written. Browsers skip additional slashes, and would connect to a host that
/// neither this check nor the user has seen, so exactly two slashes must precede the host.
fn check_web(uri: &str) -> Result<&str, RedirectUriError> {
    let malformed = || RedirectUriError::Malformed(printable(uri));
    let plain = uri.starts_with("http://") || uri.starts_with("https://");
    let authority = authority(uri);
    let parts = web_url::authority_parts(authority);
    // A port is no part of what makes it loopback; where it stands, the host ends.
    let (host, _) = parts.map_err(|_: WebUrlError| malformed())?;
    match authority.get(..host.len()) {
        Some(host) if plain => Ok(host),
        _ => Err(malformed()),
    }
}

/// Whether a private-use URI has no authority, or one that all parsers read alike.
fn is_private_authority(uri: &str) -> bool {
    let after = uri.split_once(':').map_or("", |(_, after)| after);
    if !after.starts_with("//") {
        return !after.is_empty();
    }
    let authority = authority(uri);
    let (host, port) = authority.split_once(':').unwrap_or((authority, "1"));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
    let is_port = !port.starts_with(['0', '+']) && port.parse::<u16>().is_ok();
    host.bytes().all(plain) && is_port
}

/// The part between `//` and the next slash, question mark or the end; empty when there is none.
#[must_use]
pub fn authority(uri: &str) -> &str {
    let after = uri.split_once("//").map_or("", |(_, after)| after);
    after.split(['/', '?']).next().unwrap_or_default()
}

/// Whether a redirect URI that can be registered leads to a website, not to a program on the user's machine.
#[must_use]
pub fn is_web(uri: &str) -> bool {
    let local = |url: &Url| web_url::is_loopback(url);
    uri.starts_with("https://") && Url::parse(uri).is_ok_and(|url| !local(&url))
}

/// Checks a list of private-use schemes, which stands at `key`.
///
/// # Errors
/// The first that cannot be allowed.
pub fn check_schemes(key: &str, schemes: &[String]) -> Result<(), Invalid> {
    SCHEME_COUNT.list(key, schemes)?;
    for (index, scheme) in schemes.iter().enumerate() {
        if !is_private_scheme(scheme) {
            let text = format!(
                "expected an application's own scheme in lowercase, such as cursor, not {scheme:?}"
            );
            return Err(Invalid::new(format!("{key}[{index}]"), text));
        }
    }
    Ok(())
}

fn is_private_scheme(scheme: &str) -> bool {
    let web = matches!(scheme, "http" | "https");
    SCHEME_LENGTH.hold(scheme.len()) && origin::is_scheme(scheme) && !web && !is_never(scheme)
}

fn is_never(scheme: &str) -> bool {
    NEVER.split('|').any(|never| never == scheme)
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
            "https://vscode.dev?x=1",
            "cursor://anysphere.cursor-mcp/oauth/callback",
        ] {
            assert_eq!(listed(uri), Ok(()), "{uri}");
        }
        assert!(matches!(
            listed("vscode://x/y"),
            Err(RedirectUriError::NotListed(_))
        ));
        for uri in [
            "vscode://x/y",
            "com.example.app:/oauth",
            "com.example.app:cb",
        ] {
            assert_eq!(check(uri, PrivateSchemes::Any), Ok(()), "{uri}");
        }
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
            "HTTPS://x.example",
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
            "https://0x7f.1/cb",
            "https://a.example:0/cb",
            "http:///localhost/cb",
            "cursor://a%2eb/cb",
            "cursor://a:x/cb",
        ] {
            assert!(listed(uri).is_err(), "{uri:?}");
        }
        let long = format!("https://a.example/{}", "a".repeat(2048));
        assert!(listed(&long).is_err());
        assert!(matches!(
            listed("https://a.example/#"),
            Err(RedirectUriError::Fragment(_))
        ));
        for uri in [
            "http://a.example/",
            "http://localhost.evil.example/",
            "http://127.0.0.1.evil.example/",
            "http://LOCALHOST/",
        ] {
            assert!(
                matches!(listed(uri), Err(RedirectUriError::NotLoopback(_))),
                "{uri}: {:?}",
                listed(uri)
            );
        }
    }

    #[test]
    fn private_use_schemes_are_lower_case_and_harmless() {
        for good in ["cursor", "vscode", "com.example.app", "a1+b-c"] {
            assert_eq!(check_schemes("s", &[good.into()]), Ok(()), "{good}");
        }
        let long = "a".repeat(65);
        for bad in [
            "",
            "Cursor",
            "1a",
            "a b",
            "a:",
            "http",
            "https",
            "javascript",
            "data",
            "ws",
            &long,
        ] {
            let error = check_schemes("s", &["cursor".into(), bad.into()]).unwrap_err();
            assert_eq!(error.key, "s[1]", "{bad}");
        }
    }
}
