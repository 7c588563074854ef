//! The patterns that the resources' schemas use say what the checks say: over lists of values, and over
//! mutations of them.

use regex::Regex;

use crate::redirect_uri::PrivateSchemes;
use crate::{
    Issuer, ResourceUri, client, issuer, origin, redirect_uri, resource_uri, scope, web_url,
};

/// A rule as a schema writes it: patterns that must match, and patterns that must not.
struct Schema {
    good: Vec<Regex>,
    bad: Vec<Regex>,
}

fn schema(good: &[&str], bad: &[&str]) -> Schema {
    let compile = |patterns: &[&str]| patterns.iter().map(|p| Regex::new(p).unwrap()).collect();
    Schema {
        good: compile(good),
        bad: compile(bad),
    }
}

impl Schema {
    fn takes(&self, text: &str) -> bool {
        self.good.iter().all(|p| p.is_match(text)) && !self.bad.iter().any(|p| p.is_match(text))
    }
}

const SEEDS: &[&str] = &[
    "https://a.example",
    "https://A.Example:443/mcp/",
    "https://u:p@a.example/x",
    "https://a.example:8443/a/../b/%2e/c?x=1#y",
    "http://localhost:9000/",
    "http://127.0.0.1:80/cb",
    "http://[::1]:1/cb?x",
    "https://localhost:9000/cb",
    "https://127.0.0.1",
    "https://192.0.2.1/%7Ex/{y}",
    "cursor://anysphere.cursor-mcp:12/oauth",
    "com.example.app:/oauth//x@y",
    "javascript:alert(1)",
    "htt:x",
    "httpx:y",
    "vscode-webview://0fn3k2m",
    "https://*.example.com",
];

/// Every seed, and each with a character taken out, doubled, put in or replaced.
fn values() -> Vec<String> {
    let mut values: Vec<String> = SEEDS.iter().map(ToString::to_string).collect();
    for seed in SEEDS {
        for at in 0..seed.len() {
            let (before, after) = seed.split_at(at);
            values.push(before.to_owned());
            values.push(after.to_owned());
            values.push(format!("{before}{}", &after[1..]));
            for inserted in [
                "/", "//", ":", "@", "?", "#", ".", "..", "%", "%2E", "*", "{", "\\", " ", "A",
                "0", "-", "_", "[", "]", "~", "|", "é", "\n", ":443", ":65536",
            ] {
                values.push(format!("{before}{inserted}{after}"));
                values.push(format!("{before}{inserted}{}", &after[1..]));
            }
        }
    }
    values
}

/// A pattern cannot say which spelling of an IPv6 address is the usual one, nor what punycode is.
fn is_beyond_patterns(text: &str) -> bool {
    text.contains(['[', ']']) || text.contains("xn--")
}

fn agree(name: &str, schema: &Schema, check: impl Fn(&str) -> bool) {
    let (mut good, mut bad) = (0, 0);
    for text in values() {
        let taken = check(&text);
        *(if taken { &mut good } else { &mut bad }) += 1;
        if is_beyond_patterns(&text) {
            assert!(
                schema.takes(&text) || !taken,
                "{name}: {text:?} is refused by the schema alone"
            );
            continue;
        }
        assert_eq!(
            schema.takes(&text),
            taken,
            "{name}: schema and check, {text:?}"
        );
    }
    assert!(good > 20 && bad > 200, "{name}: {good} good, {bad} bad");
}

#[test]
fn issuers() {
    let default_port = [issuer::DEFAULT_PORT_PATTERN, web_url::DOT_SEGMENT_PATTERN];
    let schema = schema(&[issuer::PATTERN], &default_port);
    agree("issuer", &schema, |text| Issuer::parse(text).is_ok());
}

#[test]
fn resources() {
    let schema = schema(&[resource_uri::PATTERN], &[web_url::DOT_SEGMENT_PATTERN]);
    agree("resource", &schema, |text| ResourceUri::parse(text).is_ok());
}

#[test]
fn origins() {
    let schema = schema(&[origin::PATTERN], &[origin::DEFAULT_PORT_PATTERN]);
    agree("origin", &schema, |text| origin::check(text).is_ok());
}

#[test]
fn redirect_uris() {
    let good = [redirect_uri::PATTERN, redirect_uri::WHERE_PATTERN];
    let bad = [redirect_uri::NEVER_PATTERN, redirect_uri::USER_INFO_PATTERN];
    let schema = schema(&good, &bad);
    agree("redirect URI", &schema, |text| {
        redirect_uri::check(text, PrivateSchemes::Any).is_ok()
    });
}

#[test]
fn redirect_uris_of_websites() {
    let good = [
        redirect_uri::PATTERN,
        redirect_uri::WHERE_PATTERN,
        redirect_uri::WEB_PATTERN,
    ];
    let bad = [
        redirect_uri::NEVER_PATTERN,
        redirect_uri::USER_INFO_PATTERN,
        redirect_uri::LOCAL_PATTERN,
    ];
    agree("redirect URI of a website", &schema(&good, &bad), |text| {
        redirect_uri::check(text, PrivateSchemes::Any).is_ok() && redirect_uri::is_web(text)
    });
}

#[test]
fn web_pages() {
    let client = |text: &str, logo: bool| {
        let client: client::Client = serde_json::from_value(serde_json::json!({
            "tokenEndpointAuthMethod": "none", "redirectUris": ["http://localhost/cb"],
            "grantTypes": ["authorization_code"],
            (if logo { "logoUri" } else { "clientUri" }): text,
        }))
        .unwrap();
        client.check("a").is_ok()
    };
    agree("clientUri", &schema(&[client::WEB_PATTERN], &[]), |text| {
        client(text, false)
    });
    agree("logoUri", &schema(&[client::LOGO_PATTERN], &[]), |text| {
        client(text, true)
    });
}

#[test]
fn schemes_and_scope_names() {
    let private = schema(
        &[redirect_uri::SCHEME_PATTERN],
        &[redirect_uri::NOT_PRIVATE_PATTERN],
    );
    let name = schema(&[scope::NAME_PATTERN], &[]);
    for text in [
        "",
        "cursor",
        "Cursor",
        "vscode-insiders",
        "com.example.app",
        "1a",
        "a b",
        "a:",
        "http",
        "https",
        "httpx",
        "javascript",
        "data",
        "view-source",
        "wss",
        "chrome",
        "chromeos",
        "notes:read",
        "a\"b",
        "a\\b",
        "é",
        "!",
        "~",
    ] {
        let schemes = redirect_uri::check_schemes("s", &[text.to_owned()]);
        assert_eq!(private.takes(text), schemes.is_ok(), "{text:?}");
        assert_eq!(name.takes(text), scope::is_name(text), "{text:?}");
    }
}
