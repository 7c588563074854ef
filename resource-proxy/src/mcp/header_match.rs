//! Header match: `MCP-Protocol-Version`, `Mcp-Method` and `Mcp-Name` must agree with the body (MCP 2026-07-28).
//!
//! The proxy decides nothing based on the last two, but load balancers and servers may route by them, so
//! a header that contradicts the body is rejected, in every revision. Those without which 2026-07-28 is not complete are
//! required there.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue};

use crate::mcp::era::{Era, VERSION};
use crate::mcp::message::{Message, Messages};

/// The JSON-RPC error code of a header that does not match.
pub const HEADER_MISMATCH: i32 = -32020;

/// Checks the headers against the body.
///
/// # Errors
/// What does not match, or is missing in this revision, for the client.
pub fn check(era: Era, headers: &HeaderMap, messages: &Messages<'_>) -> Result<(), String> {
    let method = single(headers, "mcp-method")?;
    let name = single(headers, "mcp-name")?;
    check_version(headers, messages)?;
    let is_required = era == Era::Stateless;
    if method.is_none() && name.is_none() && !is_required {
        return Ok(());
    }
    let Messages::Single(message) = messages else {
        return Err("Mcp-Method and Mcp-Name cannot describe a batch".into());
    };
    match method {
        Some(method) if message.method.as_deref() == Some(method) => {}
        None if !is_required => {}
        None => return Err("Mcp-Method is missing".into()),
        Some(_) => return Err("Mcp-Method does not match the method in the body".into()),
    }
    let Some(expected) = expected_name(message) else {
        return Ok(());
    };
    let Some(name) = name else {
        return match is_required && message.id.is_some() {
            true => Err("Mcp-Name is missing".into()),
            false => Ok(()),
        };
    };
    let name = decode(name).ok_or("Mcp-Name is not valid base64")?;
    if expected != Some(&*name) {
        return Err("Mcp-Name does not match the name in the body".into());
    }
    Ok(())
}

/// A version in the body is that of the header.
fn check_version(headers: &HeaderMap, messages: &Messages<'_>) -> Result<(), String> {
    let declared = headers.get(&VERSION).map(HeaderValue::as_bytes);
    let mut versions = messages.iter().map(|message| &message.params.version);
    let agree = versions.all(|version| {
        let version = version.as_deref().map(str::as_bytes);
        version.is_none() || version == declared
    });
    match agree {
        true => Ok(()),
        false => Err("MCP-Protocol-Version does not match the version in the body".into()),
    }
}

/// What `Mcp-Name` must contain for this method. `None` for a method that defines no name.
fn expected_name<'a>(message: &'a Message<'_>) -> Option<Option<&'a str>> {
    let params = &message.params;
    match message.method.as_deref()? {
        "tools/call" | "prompts/get" => Some(params.name.as_deref()),
        "resources/read" | "resources/subscribe" | "resources/unsubscribe" => {
            Some(params.uri.as_deref())
        }
        "tasks/get" | "tasks/update" | "tasks/cancel" => Some(params.task_id.as_deref()),
        _ => None,
    }
}

pub(super) fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, String> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(format!("there is more than one {name} header; send one"));
    }
    let text = value.to_str();
    text.map(Some)
        .map_err(|_| format!("the header {name} must be ASCII"))
}

/// A value that is not plain ASCII is encoded as `=?base64?…?=`. The markers are in lower case.
pub(super) fn decode(value: &str) -> Option<Cow<'_, str>> {
    let encoded = value
        .strip_prefix("=?base64?")
        .and_then(|rest| rest.strip_suffix("?="));
    match encoded {
        None => Some(Cow::Borrowed(value)),
        Some(encoded) => {
            let bytes = STANDARD.decode(encoded).ok()?;
            String::from_utf8(bytes).ok().map(Cow::Owned)
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn matches(headers: &[(&'static str, &str)], body: &str) -> bool {
        matches_in(Era::Batches, headers, body)
    }

    fn matches_in(era: Era, headers: &[(&'static str, &str)], body: &str) -> bool {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
                (HeaderName::from_static(name), value)
            })
            .collect();
        check(era, &headers, &Messages::read(body.as_bytes()).unwrap()).is_ok()
    }

    const CALL: &str = r#"{"method":"tools/call","params":{"name":"read","uri":"x"}}"#;

    #[test]
    fn a_header_that_says_what_the_body_says_passes() {
        for (headers, body) in [
            (vec![], CALL),
            (
                vec![("mcp-method", "tools/call"), ("mcp-name", "read")],
                CALL,
            ),
            (vec![("mcp-name", "=?base64?cmVhZA==?=")], CALL),
            (
                vec![("mcp-name", "=?base64?Y2Fmw6k=?=")],
                r#"{"method":"prompts/get","params":{"name":"café"}}"#,
            ),
            (
                vec![("mcp-name", "file:///a")],
                r#"{"method":"resources/read","params":{"uri":"file:///a"}}"#,
            ),
            (
                vec![("mcp-name", "t1")],
                r#"{"method":"tasks/get","params":{"taskId":"t1"}}"#,
            ),
            (vec![("mcp-name", "x")], r#"{"method":"vendor/extension"}"#),
        ] {
            assert!(matches(&headers, body), "{headers:?} {body}");
        }
    }

    #[test]
    fn a_header_that_says_something_else_is_refused() {
        for headers in [
            vec![("mcp-method", "tools/list")],
            vec![("mcp-method", "Tools/Call")],
            vec![("mcp-method", "tools/call"), ("mcp-method", "tools/list")],
            vec![("mcp-name", "write")],
            vec![("mcp-name", "x")],
            vec![("mcp-name", "read"), ("mcp-name", "read")],
            vec![("mcp-name", "=?base64?d3JpdGU=?=")],
            vec![("mcp-name", "=?base64?!?=")],
            vec![("mcp-name", "=?base64?/w==?=")],
            vec![("mcp-name", "=?BASE64?cmVhZA==?=")],
            vec![("mcp-name", "réad")],
        ] {
            assert!(!matches(&headers, CALL), "{headers:?}");
        }
        let batch = format!("[{CALL}]");
        assert!(!matches(&[("mcp-method", "tools/call")], &batch));
        let response = r#"{"id":1,"result":{}}"#;
        assert!(!matches(&[("mcp-method", "tools/call")], response));
    }

    #[test]
    fn in_2026_07_28_the_headers_are_required() {
        let version = ("mcp-protocol-version", "2026-07-28");
        let body = |method: &str, more: &str| {
            format!(
                r#"{{"id":1,"method":"{method}","params":{{{more}"_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}}}}"#
            )
        };
        let list = body("tools/list", "");
        let call = body("tools/call", r#""name":"read","#);
        let method = |name: &'static str| ("mcp-method", name);
        for (headers, body, good) in [
            (vec![version, method("tools/list")], &list, true),
            (vec![version], &list, false),
            (vec![version, method("ping")], &list, false),
            (
                vec![version, method("tools/call"), ("mcp-name", "read")],
                &call,
                true,
            ),
            (vec![version, method("tools/call")], &call, false),
            (vec![version, ("mcp-name", "read")], &call, false),
        ] {
            assert_eq!(
                matches_in(Era::Stateless, &headers, body),
                good,
                "{headers:?}"
            );
        }
        // Before that revision nobody sends them.
        assert!(matches(&[], CALL));
    }

    #[test]
    fn the_version_of_the_body_is_that_of_the_header() {
        let body = r#"{"id":1,"method":"ping","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
        let method = ("mcp-method", "ping");
        for (version, good) in [
            (Some("2026-07-28"), true),
            (Some("2025-11-25"), false),
            (None, false),
        ] {
            let version = version.map(|version| ("mcp-protocol-version", version));
            let headers: Vec<_> = version.into_iter().chain([method]).collect();
            assert_eq!(matches(&headers, body), good, "{version:?}");
        }
    }
}
