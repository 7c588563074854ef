//! What is fuzzed: each function reads bytes of a stranger as the programs do, and asserts what must hold
//! for whatever was accepted. `make fuzz` feeds them from libFuzzer; the tests of this crate replay
//! `fuzz/corpus/`.

use std::borrow::Cow;

use http::{HeaderMap, HeaderValue, Uri, header};
use mcp_authserver::http::client_auth::credentials;
use mcp_authserver::oauth::params::Params;
use mcp_authserver::oauth::redirect_uri as redirect;
use mcp_authserver::oauth::token::Token;
use mcp_resource_proxy::auth::bearer as proxy_bearer;
use mcp_resource_proxy::mcp::message::{Message, Messages};
use mcpauth_wire::redirect_uri::PrivateSchemes;
use mcpauth_wire::{AuthServerConfig, ProxyConfig, redirect_uri as wire_redirect};
use serde_json::Value;
use url::Url;

/// A function that is fuzzed.
pub type Target = fn(&[u8]);

/// All of them; the name is that of the binary and of the folder in `fuzz/corpus/`.
pub const TARGETS: &[(&str, Target)] = &[
    ("authserver_config", authserver_config),
    ("bearer", bearer),
    ("form", form),
    ("message", message),
    ("proxy_config", proxy_config),
    ("redirect_uri", redirect_uri),
    ("token", token),
];

/// A body at the proxy: what was judged is what any JSON parser reads.
pub fn message(data: &[u8]) {
    let Ok(messages) = Messages::read(data) else {
        return;
    };
    let parsed = serde_json::from_slice(data);
    let read: Vec<Value> = match parsed {
        Ok(Value::Array(batch)) => batch,
        Ok(single) => vec![single],
        // JSON all the same, which serde_json cannot hold: a number or a surrogate that is not looked at.
        Err(error) => {
            let text = error.to_string();
            let known = ["out of range", "hex escape"]
                .iter()
                .any(|known| text.contains(known));
            assert!(known, "read what is no JSON: {text}");
            return;
        }
    };
    assert_eq!(messages.iter().count(), read.len());
    for (message, value) in messages.iter().zip(&read) {
        same_message(message, value);
    }
}

fn same_message(message: &Message<'_>, value: &Value) {
    let text =
        |value: &'_ Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let same = |ours: &Option<Cow<'_, str>>, theirs: Option<String>| {
        assert_eq!(ours.as_deref(), theirs.as_deref());
    };
    same(&message.method, text(value, "method"));
    let params = value.get("params").cloned().unwrap_or_default();
    same(&message.params.name, text(&params, "name"));
    same(&message.params.uri, text(&params, "uri"));
    same(&message.params.task_id, text(&params, "taskId"));
    let reference = params.get("ref").cloned().unwrap_or_default();
    same(&message.params.reference.kind, text(&reference, "type"));
    same(&message.params.reference.name, text(&reference, "name"));
    same(&message.params.reference.uri, text(&reference, "uri"));
    let meta = params.get("_meta").cloned().unwrap_or_default();
    let version = "io.modelcontextprotocol/protocolVersion";
    same(&message.params.version, text(&meta, version));
}

/// A form at the authorization server, and the client's credentials in it: what is read survives being
/// written and read again.
pub fn form(data: &[u8]) {
    let Ok(params) = Params::parse(data) else {
        return;
    };
    let again = Params::parse(params.to_query().as_bytes());
    assert_eq!(again.as_ref(), Ok(&params));
    if let Ok(found) = credentials::extract(&HeaderMap::new(), &params) {
        assert!(!found.is_basic(), "no header, but Basic");
    }
}

/// A redirect URI: one that can be registered matches itself, answers go to the host that the consent page
/// shows, and no parameter changes that.
pub fn redirect_uri(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let listed = ["cursor".to_owned()];
    if wire_redirect::check(text, PrivateSchemes::Listed(&listed)).is_ok() {
        assert!(wire_redirect::check(text, PrivateSchemes::Any).is_ok());
    }
    if wire_redirect::check(text, PrivateSchemes::Any).is_err() {
        return;
    }
    assert!(redirect::matches(text, text));
    let target = redirect::with_params(text, &[("code", "a&b=#c/@d"), ("state", text)]);
    let (Ok(registered), Ok(target)) = (Url::parse(text), Url::parse(&target)) else {
        assert!(text.is_empty(), "a registered redirect URI that is no URL");
        return;
    };
    let place = |url: &Url| {
        let host = url.host_str().map(str::to_owned);
        (url.scheme().to_owned(), host, url.port())
    };
    assert_eq!(place(&registered), place(&target));
    assert_eq!(registered.path(), target.path());
    assert_eq!(target.fragment(), None);
    assert!(target.username().is_empty() && target.password().is_none());
    let state = target
        .query_pairs()
        .filter(|(name, _)| name == "state")
        .last();
    assert_eq!(state.as_ref().map(|(_, value)| &**value), Some(text));
    if let Some(host) = registered.host_str().filter(|_| is_web(&registered)) {
        let shown = redirect::destination(text).to_ascii_lowercase();
        let port = |shown: &str| {
            shown
                .strip_prefix(host)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
        };
        assert!(port(&shown), "goes to {host}, shown is {shown}");
    }
}

fn is_web(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
}

/// A token of our own form.
pub fn token(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Some(token) = Token::parse(text) {
        assert_eq!(token.reveal(), text);
        assert!(
            !format!("{token:?}").contains(&text[4..]),
            "Debug shows the token"
        );
    }
}

/// The first line is a request's target, each further one an `Authorization` header: bearer tokens at the
/// proxy, Basic credentials at the authorization server.
pub fn bearer(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let Ok(uri) = Uri::try_from(lines.next().unwrap_or_default()) else {
        return;
    };
    let values = lines.filter_map(|line| HeaderValue::from_bytes(line).ok());
    let headers: HeaderMap = values.map(|value| (header::AUTHORIZATION, value)).collect();
    if let Ok(token) = proxy_bearer::token(&uri, &headers) {
        assert!(!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()));
        assert_eq!(headers.get_all(header::AUTHORIZATION).iter().count(), 1);
    }
    if let Ok(found) = credentials::extract(&headers, &Params::default()) {
        assert!(found.is_basic(), "no form, but not Basic");
        assert!(!found.client_id().contains('\0'));
    }
}

/// `authserver.yaml`: what is accepted is accepted again as it is written, and means the same.
pub fn authserver_config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(config) = AuthServerConfig::parse(text) {
        let written = serde_json::to_string(&config).unwrap_or_default();
        assert_eq!(AuthServerConfig::parse(&written), Ok(config));
    }
}

/// `proxy.yaml`, likewise.
pub fn proxy_config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(config) = ProxyConfig::parse(text) {
        let written = serde_json::to_string(&config).unwrap_or_default();
        assert_eq!(ProxyConfig::parse(&written), Ok(config));
    }
}
