//! `Mcp-Param-*` (MCP 2026-07-28): headers that repeat arguments of a tool call, as the tool's schema says with
//! `x-mcp-header`.
//!
//! Load balancers may route by them, so one that contradicts the body is rejected, and so is a call that lacks one. Which
//! there are is known from the lists of tools that passed here on their way to the same subject: a server may show others
//! another tool of that name. For other tools they are the server's business.

use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use http::{HeaderMap, HeaderName};
use serde_json::Number;

use crate::limits::fair_table::{FairTable, Key, key};
use crate::mcp::header_match::{decode, single};
use crate::mcp::message::{Message, folded};
use crate::mcp::spans::{elements, last_member, members, string};

/// How much is remembered of such headers, in bytes.
const MOST: usize = 4 * 1024 * 1024;
/// How much of them for one subject: those of several hundred tools.
const MOST_OF_ONE: usize = 512 * 1024;
/// How many such headers a tool may have. One with more is left to the server.
const MOST_HEADERS: usize = 32;
/// How deep in the arguments they may be.
const DEEPEST: usize = 8;
/// The longest name of a header with the names that lead to its argument, in bytes.
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

impl Repeated {
    /// How much memory it takes, in bytes.
    fn size(&self) -> usize {
        let names = self.path.iter().map(|name| size_of_val(name) + name.len());
        size_of::<Self>() + self.header.as_str().len() + names.sum::<usize>()
    }
}

/// How much memory a tool takes that is remembered, without its headers, in bytes.
const TOOL: usize = 160;

/// The headers of the tools that were seen.
#[derive(Debug)]
pub struct ParamHeaders(RwLock<FairTable<Arc<[Repeated]>>>);

impl Default for ParamHeaders {
    fn default() -> Self {
        Self(RwLock::new(FairTable::new(MOST, MOST_OF_ONE)))
    }
}

impl ParamHeaders {
    /// Learns from a list of tools for this subject, which begins at `at` of a JSON text. What a newer list says holds.
    pub fn learn(&self, subject: &str, text: &[u8], at: usize) {
        let owner = key(&[subject]);
        let has_some = self.known().has(&owner);
        let news: Vec<(Key, Vec<Repeated>)> = elements(text, at)
            .filter_map(|tool| declared(text, tool, has_some))
            .map(|(name, headers)| (key(&[subject, &name]), headers))
            .filter(|(tool, headers)| {
                let known = self.known();
                known.get(tool).map_or(&[][..], |known| known) != headers
            })
            .collect();
        if news.is_empty() {
            return;
        }
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for (tool, headers) in news {
            if headers.is_empty() {
                known.remove(&tool);
            } else {
                let size = TOOL + headers.iter().map(Repeated::size).sum::<usize>();
                known.insert(owner, tool, headers.into(), size);
            }
        }
    }

    /// Checks the headers of this subject's call against its body, which this message was read from.
    ///
    /// # Errors
    /// One is missing, cannot be read, or says something else, for the client.
    pub fn check(
        &self,
        subject: &str,
        headers: &HeaderMap,
        message: &Message<'_>,
        body: &[u8],
    ) -> Result<(), String> {
        if message.method.as_deref() != Some("tools/call") {
            return Ok(());
        }
        let name = message.params.name.as_deref().unwrap_or_default();
        let Some(repeated) = self.of(subject, name) else {
            return Ok(());
        };
        let mut values = vec![Vec::new(); repeated.len()];
        let paths = repeated.iter().map(|repeated| &*repeated.path);
        let paths: Vec<_> = paths.enumerate().collect();
        for params in named(body, 0, "params") {
            for arguments in named(body, params.start, "arguments") {
                collect_values(body, arguments.start, &paths, &mut values);
            }
        }
        let mut all = repeated.iter().zip(&values);
        all.try_for_each(|(repeated, values)| check(headers, repeated.header.as_str(), values))
    }

    fn of(&self, subject: &str, tool: &str) -> Option<Arc<[Repeated]>> {
        let known = self.known();
        // Few servers have such tools.
        let known = (!known.is_empty()).then_some(known)?;
        known.get(&key(&[subject, tool])).cloned()
    }

    fn known(&self) -> RwLockReadGuard<'_, FairTable<Arc<[Repeated]>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name of a tool in a list, and its headers: none where the schema breaks a rule of `x-mcp-header`, since clients
/// then leave the tool out. Tools that have none are read only if it `matters`.
fn declared(text: &[u8], tool: Range<usize>, matters: bool) -> Option<(String, Vec<Repeated>)> {
    let written = std::str::from_utf8(text.get(tool.clone())?).ok()?;
    let is_marked = written.contains(MARK);
    if !is_marked && !matters {
        return None;
    }
    let (mut tool_name, mut schema) = (None, None);
    for (name, value) in members(text, tool.start) {
        match string(text, &name).as_deref() {
            Some("name") => tool_name = string(text, &value),
            Some("inputSchema") => schema = Some(value.start),
            _ => {}
        }
    }
    let mut headers = Vec::new();
    let schema = schema.filter(|_| is_marked);
    let is_valid = schema.is_none_or(|schema| {
        let properties = last_member(text, schema, "properties");
        properties.is_none_or(|at| collect(text, at.start, &mut Vec::new(), &mut headers))
    });
    if !is_valid {
        headers.clear();
    }
    Some((tool_name?, headers))
}

/// Collects the marked properties of a schema from those that begin at `at`. False: one of them must not be marked in this
/// way. Nothing else of the schema is kept: it may be of any size.
fn collect(text: &[u8], at: usize, path: &mut Vec<Box<str>>, found: &mut Vec<Repeated>) -> bool {
    members(text, at).all(|(name, property)| {
        let Some(name) = string(text, &name) else {
            return true;
        };
        let (mut mark, mut kind, mut properties) = (None, None, None);
        for (name, value) in members(text, property.start) {
            match string(text, &name).as_deref() {
                Some(MARK) => mark = Some(value),
                Some("type") => kind = Some(value),
                Some("properties") => properties = Some(value.start),
                _ => {}
            }
        }
        path.push(name.into());
        let is_valid = path.len() <= DEEPEST
            && mark.is_none_or(|mark| {
                let kind = kind.and_then(|kind| string(text, &kind));
                add(string(text, &mark), kind.as_deref(), path, found)
            })
            && properties.is_none_or(|at| collect(text, at, path, found));
        path.pop();
        is_valid
    })
}

/// Adds a property with this mark, which must be text, and of this type.
fn add(
    mark: Option<String>,
    kind: Option<&str>,
    path: &[Box<str>],
    found: &mut Vec<Repeated>,
) -> bool {
    let is_primitive = matches!(kind, Some("string" | "integer" | "boolean"));
    let header = mark.filter(|name| !name.is_empty());
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

/// The members that have a name, also only to a parser that ignores case.
fn named<'a>(text: &'a [u8], at: usize, name: &'a str) -> impl Iterator<Item = Range<usize>> + 'a {
    members(text, at)
        .filter(move |(found, _)| string(text, found).is_some_and(|found| is_same(&found, name)))
        .map(|(_, value)| value)
}

fn is_same(key: &str, name: &str) -> bool {
    folded(key).eq_ignore_ascii_case(&folded(name))
}

/// Collects the values at each path: several where a name is not unique, or only to a parser that minds case. The text is
/// read once, however many paths there are.
fn collect_values<'a>(
    text: &'a [u8],
    at: usize,
    paths: &[(usize, &[Box<str>])],
    values: &mut [Vec<&'a [u8]>],
) {
    for (name, value) in members(text, at) {
        let Some(name) = string(text, &name) else {
            continue;
        };
        let name = folded(&name);
        let mut deeper = Vec::new();
        for (index, path) in paths {
            match path.split_first() {
                Some((first, rest)) if is_same(&name, first) => deeper.push((*index, rest)),
                _ => {}
            }
        }
        for (index, _) in deeper.extract_if(.., |(_, rest)| rest.is_empty()) {
            if let (Some(values), Some(value)) = (values.get_mut(index), text.get(value.clone())) {
                values.push(value);
            }
        }
        if !deeper.is_empty() {
            collect_values(text, value.start, &deeper, values);
        }
    }
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
    use serde_json::{Map, Value, json};

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
        learn_for("alice", known, tools);
    }

    fn learn_for(subject: &str, known: &ParamHeaders, tools: &[Value]) {
        known.learn(subject, json!(tools).to_string().as_bytes(), 0);
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
                "città": { "type": "string", MARK: "City" },
                "text": { "type": "string" },
            }),
        )
    }

    fn is_good(known: &ParamHeaders, headers: &[(&'static str, &str)], arguments: &str) -> bool {
        is_good_for("alice", known, headers, arguments)
    }

    fn is_good_for(
        subject: &str,
        known: &ParamHeaders,
        headers: &[(&'static str, &str)],
        arguments: &str,
    ) -> bool {
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
        known
            .check(subject, &headers, message, body.as_bytes())
            .is_ok()
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
            ("mcp-param-city", "Roma", r#"{"città":"Roma"}"#),
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
            (
                "mcp-param-city",
                "Roma",
                r#"{"città":"Roma","CITTÀ":"Bari"}"#,
            ),
            (
                "mcp-param-tenant",
                "acme",
                r#"{"where":{"tenant":"acme"},"Where":{"tenant":"other"}}"#,
            ),
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
        let checked = known.check("alice", &HeaderMap::new(), message, body.as_bytes());
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

    /// A server may have other tools for others, by the same name.
    #[test]
    fn what_a_list_says_holds_for_who_got_it() {
        let us = r#","arguments":{"region":"us"}"#;
        let known = known(&[query()]);
        learn_for("bob", &known, &[tool("query", &json!({}))]);
        assert!(!is_good_for("alice", &known, &[], us));
        assert!(is_good_for("bob", &known, &[], us));
        learn_for("bob", &known, &[query()]);
        learn_for("alice", &known, &[tool("query", &json!({}))]);
        assert!(is_good_for("alice", &known, &[], us));
        assert!(!is_good_for("bob", &known, &[], us));
    }

    #[test]
    fn memory_is_bounded_and_nobody_pushes_out_what_others_know() {
        let us = r#","arguments":{"region":"us"}"#;
        let known = known(&[query()]);
        let long: Map<String, Value> = (0..MOST_HEADERS)
            .map(|number| {
                let mark = format!("{number}{}", "x".repeat(LONGEST - 40));
                (number.to_string(), json!({ "type": "string", MARK: mark }))
            })
            .collect();
        let long = Value::from(long);
        for subject in 0..20 {
            let tools: Vec<Value> = (0..30)
                .map(|number| tool(&format!("t{number}"), &long))
                .collect();
            learn_for(&subject.to_string(), &known, &tools);
        }
        assert!(!is_good(&known, &[], us));
        let has = |subject: &str, number: u32| known.of(subject, &format!("t{number}")).is_some();
        assert!(has("19", 29) && !has("19", 0), "the oldest is forgotten");
        let all = (0..20).flat_map(|subject| (0..30).map(move |number| (subject, number)));
        let kept = all.filter(|(subject, number)| has(&subject.to_string(), *number));
        let least = MOST_HEADERS * (LONGEST - 40);
        assert!(kept.count() <= MOST / least);
        // One header more is too many.
        let mut many = long;
        many["one more"] = json!({ "type": "string", MARK: "X" });
        learn(&known, &[tool("many", &many)]);
        assert!(known.of("alice", "many").is_none());
    }

    #[test]
    fn a_list_without_such_headers_leaves_nothing() {
        let known = known(&[tool("query", &json!({})), json!({ "name": "other" })]);
        assert!(known.known().is_empty());
        learn(&known, &[query()]);
        learn(&known, &[tool("query", &json!({}))]);
        assert!(known.known().is_empty());
    }
}
