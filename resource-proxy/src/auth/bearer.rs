//! The access token of a request (RFC 6750 section 2.1).

use http::header::AUTHORIZATION;
use http::{HeaderMap, Uri};

/// Longer tokens are rejected without introspection: the authorization server's own have 53 characters, and a
/// JWT with many claims has a few thousand.
const MAX_TOKEN: usize = 8192;

/// Why a request has no usable token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No token at all.
    Missing,
    /// A malformed request, with the reason for the client.
    Malformed(&'static str),
    /// A token that cannot be valid.
    Impossible,
}

/// The token of a request.
///
/// # Errors
/// There is none, there is more than one, or it is in the query string.
pub fn token<'a>(uri: &Uri, headers: &'a HeaderMap) -> Result<&'a str, Fault> {
    let query = uri.query().unwrap_or_default();
    if url::form_urlencoded::parse(query.as_bytes()).any(|(key, _)| key == "access_token") {
        // MCP forbids tokens in URLs, because URLs end up in logs and browser histories.
        return Err(Fault::Malformed(
            "an access token must not be sent in the query string; use the Authorization header",
        ));
    }
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(Fault::Missing)?;
    if values.next().is_some() {
        return Err(Fault::Malformed(
            "there is more than one Authorization header; send one",
        ));
    }
    let value = value
        .to_str()
        .map_err(|_| Fault::Malformed("the Authorization header must be ASCII"))?;
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Fault::Missing);
    }
    let token = token.trim_matches(' ');
    if !is_b64token(token) {
        return Err(Fault::Malformed(
            "the token in the Authorization header is malformed",
        ));
    }
    if token.len() > MAX_TOKEN {
        return Err(Fault::Impossible);
    }
    Ok(token)
}

fn is_b64token(token: &str) -> bool {
    let body = token.trim_end_matches('=');
    !body.is_empty()
        && body.bytes().all(|byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/')
        })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(uri: &str, values: &[&str]) -> Result<String, Fault> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(
                AUTHORIZATION,
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        token(&uri.parse().unwrap(), &headers).map(str::to_owned)
    }

    #[test]
    fn the_token_is_taken_from_the_header() {
        for value in [
            "Bearer mat_aZ0-._~+/==",
            "bearer mat_aZ0-._~+/==",
            "BEARER  mat_aZ0-._~+/==",
        ] {
            assert_eq!(of("/mcp?a=b", &[value]).unwrap(), "mat_aZ0-._~+/==");
        }
    }

    #[test]
    fn no_token() {
        for values in [
            vec![],
            vec!["Basic YTpi"],
            vec!["Negotiate"],
            vec!["DPoP abc"],
        ] {
            assert_eq!(of("/mcp", &values), Err(Fault::Missing), "{values:?}");
        }
    }

    #[test]
    fn a_malformed_header() {
        for value in [
            "Bearer",
            "Bearer ",
            "Bearer a b",
            "Bearer a,b",
            "Bearer =",
            "Bearer é",
            "Bearer a\"b",
        ] {
            assert!(
                matches!(of("/mcp", &[value]), Err(Fault::Malformed(_))),
                "{value}"
            );
        }
    }

    #[test]
    fn two_tokens() {
        let two = ["Bearer a", "Bearer b"];
        assert!(matches!(of("/mcp", &two), Err(Fault::Malformed(_))));
        assert!(matches!(
            of("/mcp", &["Bearer a", "Basic b"]),
            Err(Fault::Malformed(_))
        ));
    }

    #[test]
    fn a_token_in_the_query() {
        for uri in [
            "/mcp?access_token=a",
            "/mcp?x=1&access%5ftoken=a",
            "/mcp?access_token",
        ] {
            assert!(matches!(of(uri, &[]), Err(Fault::Malformed(_))), "{uri}");
            assert!(
                matches!(of(uri, &["Bearer a"]), Err(Fault::Malformed(_))),
                "{uri}"
            );
        }
    }

    #[test]
    fn a_token_that_is_too_long_is_refused_here() {
        let longest = format!("Bearer {}", "a".repeat(MAX_TOKEN));
        assert!(of("/mcp", &[&longest]).is_ok());
        assert_eq!(
            of("/mcp", &[&format!("{longest}a")]),
            Err(Fault::Impossible)
        );
    }
}
