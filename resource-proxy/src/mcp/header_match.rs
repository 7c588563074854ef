//! Header match: `Mcp-Method` and `Mcp-Name` must agree with the body (MCP 2026-07-28).
//!
//! The proxy decides nothing based on them, but load balancers and servers may route by them, so
//! a header that contradicts the body is rejected. Whether they are required
//! is up to the server, which knows its protocol revision.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;

use crate::mcp::message::{Message, Messages};

/// The JSON-RPC error code of a header that does not match.
pub const HEADER_MISMATCH: i32 = -32020;

/// Checks the headers against the body.
///
/// # Errors
/// What does not match, for the client.
pub fn check(headers: &HeaderMap, messages: &Messages<'_>) -> Result<(), String> {
    let method = single(headers, "mcp-method")?;
    let name = single(headers, "mcp-name")?;
    if method.is_none() && name.is_none() {
        return Ok(());
    }
    let Messages::Single(message) = messages else {
        return Err("Mcp-Method and Mcp-Name cannot describe a batch".into());
    };
    if let Some(method) = method
        && message.method.as_deref() != Some(method)
    {
        return Err("Mcp-Method does not match the method in the body".into());
    }
    let (Some(name), Some(expected)) = (name, expected_name(message)) else {
        return Ok(());
    };
    let name = decode(name).ok_or("Mcp-Name is not valid base64")?;
    if expected != Some(&*name) {
        return Err("Mcp-Name does not match the name in the body".into());
    }
    Ok(())
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

fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, String> {
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
fn decode(value: &str) -> Option<Cow<'_, str>> {
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
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn matches(headers: &[(&'static str, &str)], body: &str) -> bool {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
                (HeaderName::from_static(name), value)
            })
            .collect();
        check(&headers, &Messages::read(body.as_bytes()).unwrap()).is_ok()
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
}
