//! The `Bearer` scheme of the `Authorization` header (RFC 6750, section 2.1).

use http::HeaderMap;

use crate::http::basic;

/// The token of the only `Authorization` header, if it has this scheme.
pub(super) fn token(headers: &HeaderMap) -> Option<&str> {
    basic::authorization(headers).ok().and_then(parse)
}

/// The token in the header's value.
pub(super) fn parse(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
