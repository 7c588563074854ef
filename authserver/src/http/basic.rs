//! The `Basic` scheme of the `Authorization` header (RFC 7617).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// User name and password, as they were sent.
pub(super) fn parse(header: &str) -> Option<(String, String)> {
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}
