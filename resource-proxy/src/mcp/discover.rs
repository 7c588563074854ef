//! The answer to `server/discover` (MCP 2026-07-28): what the server behind does not know, the proxy adds.
//!
//! An extension of authorization counts only if client and server both declare it (SEP-2133), and it is the authorization
//! server that serves it.

use serde_json::Value;

use crate::mcp::spans::{Edit, last_member, members};

/// Where a request has the extensions that its client supports.
const SUPPORTED: &str = "/params/_meta/io.modelcontextprotocol~1clientCapabilities/extensions";

/// Those of `served` that the client of this request supports.
pub fn supported(body: &[u8], served: &[String]) -> Vec<String> {
    let Ok(request) = serde_json::from_slice::<Value>(body) else {
        return Vec::new();
    };
    let declared = request.pointer(SUPPORTED);
    let is_declared = |id: &&String| declared.is_some_and(|all| all.get(id.as_str()).is_some());
    served.iter().filter(is_declared).cloned().collect()
}

/// What declares these extensions in the result at `at`, those that the server does not declare itself. Nothing where the
/// result has no capabilities.
pub fn declare(text: &[u8], at: usize, extensions: &[String]) -> Option<Edit> {
    let capabilities = last_member(text, at, "capabilities")?.start;
    let declared = last_member(text, capabilities, "extensions").map(|value| value.start);
    let into = declared.unwrap_or(capabilities);
    if text.get(into) != Some(&b'{') {
        return None;
    }
    let missing = extensions.iter();
    let missing =
        missing.filter(|id| declared.is_none_or(|at| last_member(text, at, id).is_none()));
    // Without settings.
    let mut added: Vec<String> = missing
        .map(|id| format!("{}:{{}}", Value::from(&**id)))
        .collect();
    if added.is_empty() {
        return None;
    }
    if declared.is_none() {
        added = vec![format!("\"extensions\":{{{}}}", added.join(","))];
    }
    if members(text, into).next().is_some() {
        added.push(String::new());
    }
    Some((into + 1..into + 1, added.join(",").into_bytes()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mcp::spans::apply;

    fn ids(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_extension_is_supported_by_a_client_that_declares_it() {
        let request = |capabilities: Value| {
            let meta = json!({ "io.modelcontextprotocol/clientCapabilities": capabilities });
            json!({ "method": "server/discover", "params": { "_meta": meta } }).to_string()
        };
        let served = ids(&["x/a", "x/b"]);
        for (capabilities, expected) in [
            (
                json!({ "extensions": { "x/a": {}, "x/c": {} } }),
                &["x/a"][..],
            ),
            (
                json!({ "extensions": { "x/b": { "k": 1 }, "x/a": {} } }),
                &["x/a", "x/b"],
            ),
            (json!({ "extensions": {} }), &[]),
            (json!({ "extensions": ["x/a"] }), &[]),
            (json!({ "x/a": {} }), &[]),
            (json!(null), &[]),
        ] {
            let supported = supported(request(capabilities.clone()).as_bytes(), &served);
            assert_eq!(supported, expected, "{capabilities}");
        }
        assert!(supported(b"{}", &served).is_empty());
    }

    #[test]
    fn what_the_server_does_not_declare_is_added_and_all_else_stays() {
        let declared = |result: &str| {
            let edit = declare(result.as_bytes(), 0, &ids(&["x/a", "x/b"]));
            let text = apply(result.as_bytes(), edit.into_iter().collect());
            String::from_utf8(text).unwrap()
        };
        for (result, expected) in [
            (
                r#"{"a": 1 ,"capabilities":{} }"#,
                r#"{"a": 1 ,"capabilities":{"extensions":{"x/a":{},"x/b":{}}} }"#,
            ),
            (
                r#"{"capabilities": { "tools":{}}}"#,
                r#"{"capabilities": {"extensions":{"x/a":{},"x/b":{}}, "tools":{}}}"#,
            ),
            (
                r#"{"capabilities":{"extensions":{}}}"#,
                r#"{"capabilities":{"extensions":{"x/a":{},"x/b":{}}}}"#,
            ),
            (
                r#"{"capabilities":{"extensions":{"x/b":{"k":1},"y":{}}}}"#,
                r#"{"capabilities":{"extensions":{"x/a":{},"x/b":{"k":1},"y":{}}}}"#,
            ),
        ] {
            assert_eq!(declared(result), expected);
        }
        for result in [
            r#"{"capabilities":{"extensions":{"x\/a":{},"x/b":{}}}}"#,
            r#"{"capabilities":{"extensions":null}}"#,
            r#"{"capabilities":[]}"#,
            r#"{"supportedVersions":[]}"#,
            "null",
        ] {
            assert_eq!(declared(result), result);
        }
    }
}
