//! URIs of resources. A rule compares them as text, so a URI is only used if no server reads it as another one.

use std::borrow::Cow;

use url::{ParseError, Url};

/// Whether variables are allowed in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A URI (RFC 3986).
    Uri,
    /// A URI template (RFC 6570): names of variables in braces may be in upper case.
    Template,
}

/// Checks that a URI is in the form to which RFC 3986, section 6.2.2, normalizes it. It may have no scheme.
///
/// # Errors
/// What must be changed.
pub fn check(uri: &str, kind: Kind) -> Result<(), &'static str> {
    // URL parsers drop control characters and outer spaces, and read a backslash as a slash.
    if uri.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return Err("has a space or a control character");
    }
    if uri.contains('\\') {
        return Err("has a backslash");
    }
    // In a file's URL, `C|` is the drive `C:`.
    if uri.contains('|') {
        return Err("has a character that must be encoded");
    }
    if has_lower_case_escape(uri) {
        return Err("has a percent-encoding in lower case");
    }
    if encodes_unreserved(uri) {
        return Err("encodes a character that needs no encoding");
    }
    let (scheme, rest) = split_scheme(uri);
    if scheme.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err("has a scheme in upper case");
    }
    let rest = &rest[..rest.find(['?', '#']).unwrap_or(rest.len())];
    let (authority, path) = split_authority(rest);
    // What is not ASCII may stand for other characters in a host (RFC 5895).
    if has_upper_case(authority, kind) || !authority.is_ascii() {
        return Err("has a host that is not in lower case");
    }
    let decoded = path.replace("%2F", "/").replace("%5C", "/");
    if decoded.split('/').any(is_dot_segment) {
        return Err("has . or .. as a path segment");
    }
    match is_as_parsers_write_it(uri, kind) {
        true => Ok(()),
        false => Err("is not in the form that URL parsers write"),
    }
}

/// Whether a URL parser (WHATWG) writes a URI as it read it: SDKs look resources up by what it writes, so `notes://a:/b` is
/// `notes://a/b` to them.
fn is_as_parsers_write_it(uri: &str, kind: Kind) -> bool {
    let uri = match kind {
        Kind::Uri => Cow::Borrowed(uri),
        Kind::Template => Cow::Owned(with_values(uri)),
    };
    match Url::parse(&uri) {
        Ok(url) => url.as_str() == uri,
        // One without a scheme is a name, not a URL.
        Err(error) => error == ParseError::RelativeUrlWithoutBase,
    }
}

/// A template with a letter for each expression.
fn with_values(template: &str) -> String {
    let mut uri = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, expression)) = rest.split_once('{')
        && let Some((_, after)) = expression.split_once('}')
    {
        uri.push_str(before);
        uri.push('v');
        rest = after;
    }
    uri.push_str(rest);
    uri
}

/// The scheme, empty where there is none, and what follows it.
fn split_scheme(uri: &str) -> (&str, &str) {
    match uri.find([':', '/', '?', '#']) {
        Some(at) if uri.as_bytes()[at] == b':' => (&uri[..at], &uri[at + 1..]),
        _ => ("", uri),
    }
}

fn split_authority(rest: &str) -> (&str, &str) {
    match rest.strip_prefix("//") {
        None => ("", rest),
        Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
    }
}

fn has_upper_case(authority: &str, kind: Kind) -> bool {
    let mut is_variable = false;
    authority.bytes().any(|byte| {
        match byte {
            b'{' => is_variable = kind == Kind::Template,
            b'}' => is_variable = false,
            _ => {}
        }
        byte.is_ascii_uppercase() && !is_variable
    })
}

/// Whether a segment is `.` or `..`, also to servers that cut its parameters off (RFC 3986, section 3.3).
fn is_dot_segment(segment: &str) -> bool {
    let name = segment.split(';').next().unwrap_or_default();
    name == "." || name == ".."
}

/// Whether hexadecimal digits of a percent-encoding are in lower case (RFC 3986, section 6.2.2.1).
fn has_lower_case_escape(uri: &str) -> bool {
    let escapes = uri.split('%').skip(1);
    let mut digits = escapes.filter_map(|rest| rest.as_bytes().get(..2));
    digits.any(|two| {
        let is_escape = two.iter().all(u8::is_ascii_hexdigit);
        is_escape && two.iter().any(u8::is_ascii_lowercase)
    })
}

/// Whether a letter, a digit, `-`, `.`, `_` or `~` is percent-encoded.
fn encodes_unreserved(uri: &str) -> bool {
    let encoded = uri.split('%').skip(1);
    let bytes = encoded.filter_map(|rest| u8::from_str_radix(rest.get(..2)?, 16).ok());
    bytes
        .into_iter()
        .any(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_that_every_server_reads_alike() {
        for uri in [
            "notes://note/1",
            "file:///a/b.txt",
            "test://static-text",
            "https://h.example:8443/a/..b/c.?q=../x#/../y",
            "notes:a/b",
            "urn:isbn:0451450523",
            "greeting",
            "notes://a/%2Fb%20c",
            "notes://a/Note-A~b_c",
            "notes://a/100%",
        ] {
            assert_eq!(check(uri, Kind::Uri), Ok(()), "{uri}");
        }
    }

    #[test]
    fn a_uri_that_some_server_reads_as_another() {
        for uri in [
            "notes://a/../b",
            "notes://a/caf\u{e9}",
            "notes://a:/b",
            "notes://@a/b",
            "notes://a/..%2Fb",
            "notes://a/..%5Cb",
            "notes://a/b%2fc",
            "notes://a/%c3%A9",
            "file:/a/b",
            "file://localhost/a",
            "file:///C|/x",
            "https:/h/a",
            "https://h:443/a",
            "https://h:0080/a",
            "https://h?x",
            "https://0x7f.1/",
            "notes://a/./b",
            "notes://a/..",
            "notes:a/../b",
            "../b",
            "notes://a/..;x/b",
            "notes://a/%2e%2e/b",
            "notes://a/%2E./b",
            "notes://a/%41",
            "notes://a/%7e",
            "notes://a/b?x=%61",
            "NOTES://a/b",
            "Notes:a",
            "notes://A/b",
            "notes://a.Example/b",
            "notes://\u{ff41}/b",
            "notes://a\\b",
            "notes:\\\\a/b",
            "notes://a/.\t./b",
            " notes://a/b",
            "notes://a/b\n",
            "notes://a/b\0",
            "notes://{Host}/b",
        ] {
            assert!(check(uri, Kind::Uri).is_err(), "{uri:?}");
        }
    }

    #[test]
    fn variables_of_a_template_may_be_in_upper_case() {
        for (uri, is_good) in [
            ("notes://{noteId}/x", true),
            ("notes://a/{noteId}", true),
            ("notes://{noteId}A/x", false),
            ("notes://{noteId}/../x", false),
        ] {
            assert_eq!(check(uri, Kind::Template).is_ok(), is_good, "{uri}");
        }
    }
}
