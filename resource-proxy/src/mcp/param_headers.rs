//! `Mcp-Param-*` (MCP 2026-07-28): headers that repeat arguments of a tool call, as the tool's schema says with
//! `x-mcp-header`.
//!
//! Load balancers may route by them, so one that contradicts the body is rejected, and so is a call that lacks one. Which
//! there are is known from the lists of tools that passed here; for other tools they are the server's business.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderName};
use serde_json::{Map, Number, Value};

use crate::mcp::header_match::{decode, single};
use crate::mcp::message::{Message, folds_to};
use crate::mcp::spans::{elements, members, string};

/// How many tools with such headers are remembered; one more, and they are learned anew.
const MOST_TOOLS: usize = 1024;
/// How many such headers a tool may have. One with more is left to the server.
const MOST_HEADERS: usize = 32;
/// How deep in the arguments they may be.
const DEEPEST: usize = 8;
/// The longest name of a tool, and of a header with the names that lead to its argument, in bytes: a bound on memory.
const LONGEST: usize = 1024;
/// What marks a property of a schema.
const MARK: &str = "x-mcp-header";
/// Numbers from here on are not exact in every parser (RFC 8259, section 6).
const INEXACT: f64 = 9_007_199_254_740_992.0;

/// An argument that a header repeats.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Repeated {
    header: HeaderName,
    /// The names that lead to the argument.
    path: Vec<Box<str>>,
}

type Tools = HashMap<Box<str>, Arc<[Repeated]>>;

/// The headers of the tools that were seen.
#[derive(Debug, Default)]
pub struct ParamHeaders(ArcSwap<Tools>);

impl ParamHeaders {
    /// Learns from the list of tools that begins at `at` of a JSON text. What a newer list says holds.
    pub fn learn(&self, text: &[u8], at: usize) {
        let known = self.0.load();
        let news: Vec<_> = elements(text, at)
            .filter_map(|tool| declared(text, tool))
            .filter(|(name, headers)| {
                let before = known.get(&**name).map_or(&[][..], |headers| headers);
                before != headers
            })
            .collect();
        if !news.is_empty() {
            self.0.rcu(|known| with(known, &news));
        }
    }

    /// Checks the headers of a call against its body, which this message was read from.
    ///
    /// # Errors
    /// One is missing, cannot be read, or says something else, for the client.
    pub fn check(
        &self,
        headers: &HeaderMap,
        message: &Message<'_>,
        body: &[u8],
    ) -> Result<(), String> {
        if message.method.as_deref() != Some("tools/call") {
            return Ok(());
        }
        let name = message.params.name.as_deref().unwrap_or_default();
        let Some(repeated) = self.0.load().get(name).cloned() else {
            return Ok(());
        };
        let arguments = ["params", "arguments"];
        repeated.iter().try_for_each(|repeated| {
            let path = repeated.path.iter().map(|name| &**name);
            let path: Vec<&str> = arguments.into_iter().chain(path).collect();
            check(headers, repeated.header.as_str(), &values(body, 0, &path))
        })
    }
}

/// What is known together with what is new.
fn with(known: &Tools, news: &[(String, Vec<Repeated>)]) -> Tools {
    let mut tools = known.clone();
    for (name, headers) in news {
        if headers.is_empty() {
            tools.remove(&**name);
            continue;
        }
        if tools.len() >= MOST_TOOLS {
            tools.clear();
        }
        tools.insert(name.as_str().into(), headers.as_slice().into());
    }
    tools
}

/// The name of a tool in a list, and its headers: none where the schema breaks a rule of `x-mcp-header`, since clients
/// then leave the tool out.
fn declared(text: &[u8], tool: Range<usize>) -> Option<(String, Vec<Repeated>)> {
    let mut parts = members(text, tool.start);
    let (_, name) = parts.find(|(name, _)| string(text, name).as_deref() == Some("name"))?;
    let name = string(text, &name).filter(|name| name.len() <= LONGEST)?;
    let written = std::str::from_utf8(text.get(tool)?).ok()?;
    if !written.contains(MARK) {
        return Some((name, Vec::new()));
    }
    let tool: Value = serde_json::from_str(written).ok()?;
    let mut headers = Vec::new();
    let schema = tool.get("inputSchema").and_then(Value::as_object);
    let is_valid = schema.is_none_or(|schema| collect(schema, &mut Vec::new(), &mut headers));
    if !is_valid {
        headers.clear();
    }
    Some((name, headers))
}

/// Collects the marked properties of a schema. False: one of them must not be marked in this way.
fn collect(
    schema: &Map<String, Value>,
    path: &mut Vec<Box<str>>,
    found: &mut Vec<Repeated>,
) -> bool {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return true;
    };
    properties.iter().all(|(name, property)| {
        let Some(property) = property.as_object() else {
            return true;
        };
        path.push(name.as_str().into());
        let is_valid =
            path.len() <= DEEPEST && mark(property, path, found) && collect(property, path, found);
        path.pop();
        is_valid
    })
}

fn mark(property: &Map<String, Value>, path: &[Box<str>], found: &mut Vec<Repeated>) -> bool {
    let Some(mark) = property.get(MARK) else {
        return true;
    };
    let kind = property.get("type").and_then(Value::as_str);
    let is_primitive = matches!(kind, Some("string" | "integer" | "boolean"));
    let header = mark.as_str().filter(|name| !name.is_empty());
    let header = header.map(|name| HeaderName::try_from(format!("mcp-param-{name}")));
    let Some(Ok(header)) = header.filter(|_| is_primitive) else {
        return false;
    };
    let length = header.as_str().len() + path.iter().map(|name| name.len()).sum::<usize>();
    let is_new = found.iter().all(|other| other.header != header);
    if !is_new || length > LONGEST || found.len() >= MOST_HEADERS {
        return false;
    }
    let path = path.to_vec();
    found.push(Repeated { header, path });
    true
}

/// The values at a path: several where a name is not unique, or only to a parser that minds case.
fn values<'a>(text: &'a [u8], at: usize, path: &[&str]) -> Vec<&'a [u8]> {
    let Some((first, rest)) = path.split_first() else {
        return Vec::new();
    };
    let named = members(text, at).filter(|(name, _)| {
        let name = string(text, name);
        name.is_some_and(|name| folds_to(&name, first))
    });
    let found = named.flat_map(|(_, value)| match rest {
        [] => text.get(value).into_iter().collect(),
        rest => values(text, value.start, rest),
    });
    found.collect()
}

fn check(headers: &HeaderMap, header: &str, values: &[&[u8]]) -> Result<(), String> {
    let sent = single(headers, header)?;
    let invalid = || format!("{header} is not valid base64");
    let sent = sent
        .map(|sent| decode(sent).ok_or_else(invalid))
        .transpose()?;
    let absent: &[&[u8]] = &[b"null"];
    let values = if values.is_empty() { absent } else { values };
    if values.iter().all(|value| agrees(value, sent.as_deref())) {
        return Ok(());
    }
    Err(match sent {
        None => format!("{header} is missing, although the body has its argument"),
        Some(_) => format!("{header} does not match its argument in the body"),
    })
}

/// Whether a header says what this value of the body says.
fn agrees(value: &[u8], sent: Option<&str>) -> bool {
    match (value.first(), sent) {
        // What is no value, or cannot be repeated in a header.
        (None | Some(b'n' | b'{' | b'['), sent) => sent.is_none(),
        (Some(_), None) => false,
        (Some(b'"'), Some(sent)) => {
            serde_json::from_slice::<String>(value).is_ok_and(|text| text == sent)
        }
        (Some(b't' | b'f'), Some(sent)) => value == sent.as_bytes(),
        (Some(_), Some(sent)) => value == sent.as_bytes() || is_same_number(value, sent.as_bytes()),
    }
}

fn is_same_number(one: &[u8], other: &[u8]) -> bool {
    let number = |text: &[u8]| {
        // Nothing but digits, a sign, a point, an exponent: JSON allows white space around.
        let is_bare = text.trim_ascii().len() == text.len();
        let number: Number = serde_json::from_slice(text).ok()?;
        number
            .as_f64()
            .filter(|number| is_bare && number.abs() < INEXACT)
    };
    matches!((number(one), number(other)), (Some(one), Some(other)) if one == other)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use serde_json::json;

    use super::*;
    use crate::mcp::message::Messages;

    fn tool(name: &str, properties: &Value) -> Value {
        json!({ "name": name, "inputSchema": { "type": "object", "properties": properties } })
    }

    fn known(tools: &[Value]) -> ParamHeaders {
        let known = ParamHeaders::default();
        learn(&known, tools);
        known
    }

    fn learn(known: &ParamHeaders, tools: &[Value]) {
        known.learn(json!(tools).to_string().as_bytes(), 0);
    }

    /// A tool with one header of each kind, and one deep inside.
    fn query() -> Value {
        let inside = json!({
            "properties": { "tenant": { "type": "string", MARK: "Tenant" } },
        });
        tool(
            "query",
            &json!({
                "region": { "type": "string", MARK: "Region" },
                "priority": { "type": "integer", MARK: "Priority" },
                "dry": { "type": "boolean", MARK: "Dry" },
                "where": inside,
                "text": { "type": "string" },
            }),
        )
    }

    fn is_good(known: &ParamHeaders, headers: &[(&'static str, &str)], arguments: &str) -> bool {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
                (HeaderName::from_static(name), value)
            })
            .collect();
        let body = format!(r#"{{"method":"tools/call","params":{{"name":"query"{arguments}}}}}"#);
        let messages = Messages::read(body.as_bytes()).unwrap();
        let message = messages.iter().next().unwrap();
        known.check(&headers, message, body.as_bytes()).is_ok()
    }

    const REGION: &str = "mcp-param-region";
    const PRIORITY: &str = "mcp-param-priority";

    #[test]
    fn a_header_says_what_the_argument_says() {
        let known = known(&[query()]);
        for (header, value, arguments) in [
            (REGION, "us-west1", r#"{"region":"us-west1"}"#),
            (REGION, "us-west1", r#"{"r\u0065gion":"us-\u0077est1"}"#),
            (REGION, "", r#"{"region":""}"#),
            (
                REGION,
                "=?base64?SGVsbG8sIOS4lueVjA==?=",
                r#"{"region":"Hello, 世界"}"#,
            ),
            (
                REGION,
                "=?base64?IHBhZGRlZCA=?=",
                r#"{"region":" padded "}"#,
            ),
            (
                REGION,
                "=?base64?bGluZTEKbGluZTI=?=",
                r#"{"region":"line1\nline2"}"#,
            ),
            (
                REGION,
                "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?=",
                r#"{"region":"=?base64?literal?="}"#,
            ),
            // Without the whole wrapper it is what it says.
            (
                REGION,
                "=?base64?SGVsbG8=",
                r#"{"region":"=?base64?SGVsbG8="}"#,
            ),
            (
                REGION,
                "=?BASE64?SGVsbG8=?=",
                r#"{"region":"=?BASE64?SGVsbG8=?="}"#,
            ),
            (PRIORITY, "42", r#"{"priority":42}"#),
            (PRIORITY, "42.0", r#"{"priority":42}"#),
            (PRIORITY, "42", r#"{"priority":4.2e1}"#),
            (PRIORITY, "-7", r#"{"priority":-7}"#),
            (
                PRIORITY,
                "9007199254740993",
                r#"{"priority":9007199254740993}"#,
            ),
            ("mcp-param-dry", "true", r#"{"dry":true}"#),
            ("mcp-param-tenant", "acme", r#"{"where":{"tenant":"acme"}}"#),
        ] {
            let arguments = format!(r#","arguments":{arguments}"#);
            assert!(
                is_good(&known, &[(header, value)], &arguments),
                "{value} {arguments}"
            );
            assert!(!is_good(&known, &[], &arguments), "missing: {arguments}");
        }
    }

    #[test]
    fn a_header_that_says_something_else_is_refused() {
        let known = known(&[query()]);
        for (header, value, arguments) in [
            (REGION, "eu", r#"{"region":"us"}"#),
            (REGION, "US", r#"{"region":"us"}"#),
            (REGION, "=?base64?SGVsbG8?=", r#"{"region":"Hello"}"#),
            (REGION, "=?base64?SGVs!!!bG8=?=", r#"{"region":"Hello"}"#),
            (REGION, "=?base64?/w==?=", r#"{"region":"Hello"}"#),
            (REGION, "世界", r#"{"region":"世界"}"#),
            (REGION, "42", r#"{"region":42.5}"#),
            (PRIORITY, "43", r#"{"priority":42}"#),
            (PRIORITY, "42 ", r#"{"priority":42e0}"#),
            (PRIORITY, "=?base64?NDIK?=", r#"{"priority":42}"#),
            (PRIORITY, "+42", r#"{"priority":42}"#),
            (PRIORITY, "0x2a", r#"{"priority":42}"#),
            (
                PRIORITY,
                "9007199254740993",
                r#"{"priority":9007199254740992}"#,
            ),
            (PRIORITY, "42", r#"{"priority":"43"}"#),
            ("mcp-param-dry", "True", r#"{"dry":true}"#),
            ("mcp-param-dry", "1", r#"{"dry":true}"#),
            ("mcp-param-tenant", "acme", r#"{"tenant":"acme"}"#),
            (
                "mcp-param-tenant",
                "acme",
                r#"{"where":{"tenant":"other"}}"#,
            ),
            // What two parsers could read differently.
            (REGION, "us", r#"{"region":"us","region":"eu"}"#),
            (REGION, "us", r#"{"region":"us","Region":"eu"}"#),
            (REGION, "us", r#"{"region":"us","region":null}"#),
            // No argument, no header.
            (REGION, "us", r#"{"region":null}"#),
            (REGION, "us", "{}"),
            (REGION, "", "{}"),
            (REGION, "us", r#"{"region":["us"]}"#),
            (REGION, "us", "[\"us\"]"),
        ] {
            // OWS around a value is not part of it, so that hyper would have removed it.
            let arguments = format!(r#","arguments":{arguments}"#);
            assert!(
                !is_good(&known, &[(header, value)], &arguments),
                "{value} {arguments}"
            );
        }
        let twice = [(REGION, "us"), (REGION, "us")];
        assert!(!is_good(&known, &twice, r#","arguments":{"region":"us"}"#));
        assert!(!is_good(&known, &[(REGION, "us")], ""));
    }

    #[test]
    fn what_is_not_there_or_not_known_needs_no_header() {
        let known = known(&[query()]);
        for arguments in [
            "",
            r#","arguments":{}"#,
            r#","arguments":{"region":null,"text":"x"}"#,
        ] {
            assert!(is_good(&known, &[], arguments), "{arguments}");
            assert!(is_good(&known, &[("mcp-param-other", "x")], arguments));
        }
        let nothing = ParamHeaders::default();
        assert!(is_good(&nothing, &[], r#","arguments":{"region":"us"}"#));
        assert!(is_good(
            &nothing,
            &[(REGION, "eu")],
            r#","arguments":{"region":"us"}"#
        ));
        let body =
            r#"{"method":"prompts/get","params":{"name":"query","arguments":{"region":"us"}}}"#;
        let messages = Messages::read(body.as_bytes()).unwrap();
        let message = messages.iter().next().unwrap();
        let checked = known.check(&HeaderMap::new(), message, body.as_bytes());
        assert_eq!(checked, Ok(()));
    }

    #[test]
    fn the_newest_list_holds() {
        let us = r#","arguments":{"region":"us"}"#;
        let list = known(&[query(), json!({ "name": "other" })]);
        // Another page.
        learn(&list, &[json!({ "name": "third" })]);
        assert!(!is_good(&list, &[], us));
        learn(&list, &[tool("query", &json!({}))]);
        assert!(is_good(&list, &[], us));
        learn(&list, &[query()]);
        assert!(!is_good(&list, &[], us));
    }

    #[test]
    fn a_schema_that_breaks_a_rule_counts_for_nothing() {
        let region = json!({ "type": "string", MARK: "Region" });
        let with = |other: Value| tool("query", &json!({ "region": region, "other": other }));
        let deep = (0..DEEPEST).fold(
            json!({ "type": "string", MARK: "X" }),
            |inner, _| json!({ "properties": { "a": inner } }),
        );
        for other in [
            json!({ "type": "string", MARK: "" }),
            json!({ "type": "string", MARK: "a b" }),
            json!({ "type": "string", MARK: "a\r\nb" }),
            json!({ "type": "string", MARK: 5 }),
            json!({ "type": "string", MARK: "REGION" }),
            json!({ "type": "string", MARK: "x".repeat(LONGEST) }),
            json!({ "type": "number", MARK: "X" }),
            json!({ "type": "object", MARK: "X" }),
            json!({ MARK: "X" }),
            deep,
        ] {
            let known = known(&[with(other.clone())]);
            assert!(
                is_good(&known, &[], r#","arguments":{"region":"us"}"#),
                "{other}"
            );
        }
        // What stands elsewhere is no mark.
        let elsewhere = json!({ "type": "array", "items": { "type": "string", MARK: "X" } });
        let known = known(&[with(elsewhere)]);
        assert!(!is_good(&known, &[], r#","arguments":{"region":"us"}"#));
    }

    #[test]
    fn memory_is_bounded() {
        let list = ParamHeaders::default();
        let header = json!({ "a": { "type": "string", MARK: "A" } });
        let tools: Vec<Value> = (0..MOST_TOOLS + 10)
            .map(|number| tool(&format!("t{number}"), &header))
            .collect();
        learn(&list, &tools);
        assert_eq!(list.0.load().len(), 10);
        let long = tool(&"x".repeat(LONGEST + 1), &header);
        let marks: Map<String, Value> = (0..=MOST_HEADERS)
            .map(|number| {
                (
                    format!("a{number}"),
                    json!({ "type": "string", MARK: format!("A{number}") }),
                )
            })
            .collect();
        learn(&list, &[long, tool("many", &marks.into())]);
        assert_eq!(list.0.load().len(), 10);
    }
}
