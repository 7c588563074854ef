//! One table of values, good and bad. The API server, the operator and the program that reads what the
//! operator wrote agree on each line.

use kube::api::PostParams;
use mcp_auth_operator::desired::registration::{self, Selected};
use mcp_authserver::documents as authserver;
use mcpauth_api::{
    McpAuthServer, McpAuthServerSpec, McpOAuthClient, McpOAuthClientSpec, ProtectedMcpServer,
    ProtectedMcpServerSpec,
};
use mcpauth_wire::client::{Client, ClientResource, RESOURCE_COUNT};
use mcpauth_wire::{Issuer, admin};
use serde_json::{Value, json};

use super::configuration::{authserver_yaml, proxy_yaml, read_by_authserver, read_by_proxy};
use crate::support::world::{Object, World, specs};

/// What one of the three says of a value.
type Verdict = Result<(), String>;

/// Values for one place of a spec.
struct Lines {
    /// Pointer into the spec.
    at: &'static str,
    good: Vec<Value>,
    bad: Vec<Value>,
}

fn strings(at: &'static str, good: &[&str], bad: &[&str]) -> Lines {
    let values = |list: &[&str]| list.iter().map(|text| json!(text)).collect();
    let (good, bad) = (values(good), values(bad));
    Lines { at, good, bad }
}

/// Each entry alone in a list.
fn lists(at: &'static str, good: &[&str], bad: &[&str]) -> Lines {
    let values = |list: &[&str]| list.iter().map(|text| json!([text])).collect();
    let (good, bad) = (values(good), values(bad));
    Lines { at, good, bad }
}

fn values(at: &'static str, good: Vec<Value>, bad: Vec<Value>) -> Lines {
    Lines { at, good, bad }
}

/// Both servers have it.
fn telemetry() -> Lines {
    values(
        "/telemetry",
        vec![
            json!({}),
            json!({ "logLevel": "debug", "audit": { "enabled": false } }),
            json!({ "otlp": { "endpoint": "http://collector.telemetry.svc:4318" } }),
            json!({ "otlp": { "endpoint": "https://otlp.example.com/otlp/", "headersSecretRef": { "name": "otlp" } } }),
            json!({ "otlp": { "endpoint": "http://[::1]:4318", "headersSecretRef": { "name": "otlp", "key": "h" } } }),
        ],
        vec![
            json!({ "logLevel": "verbose" }),
            json!({ "audit": { "enabled": "no" } }),
            json!({ "otlp": {} }),
            json!({ "otlp": { "endpoint": "" } }),
            json!({ "otlp": { "endpoint": "collector:4318" } }),
            json!({ "otlp": { "endpoint": "HTTP://collector:4318" } }),
            json!({ "otlp": { "endpoint": "https://user:password@otlp.example.com" } }),
            json!({ "otlp": { "endpoint": "https://otlp.example.com?key=x" } }),
            json!({ "otlp": { "endpoint": "https://otlp.example.com/../x" } }),
            json!({ "otlp": { "endpoint": format!("https://a/{}", "x".repeat(512)) } }),
            json!({ "otlp": { "endpoint": "https://a.example", "headersSecretRef": {} } }),
        ],
    )
}

/// Least and most of a number are good, what lies next to them is bad.
fn bounds(at: &'static str, bounds: mcpauth_wire::invalid::Bounds) -> Lines {
    let below = i64::from(bounds.least) - 1;
    let above = i64::from(bounds.most) + 1;
    let good = vec![json!(bounds.least), json!(bounds.most)];
    values(at, good, vec![json!(below), json!(above)])
}

/// Runs a table through the three. `read` is what operator and reader say.
async fn agree<K: Object>(
    name: &str,
    spec: &Value,
    table: Vec<Lines>,
    read: impl Fn(&Value) -> [(&'static str, Verdict); 2],
) {
    let world = World::new(name).await;
    let mut wrong = Vec::new();
    for lines in table {
        let good = lines.good.into_iter().map(|value| (value, true));
        let bad = lines.bad.into_iter().map(|value| (value, false));
        for (value, is_good) in good.chain(bad) {
            let spec = specs::with(spec.clone(), lines.at, value.clone());
            let api_server = ("API server", world.judges::<K>(&spec).await);
            for (who, verdict) in [api_server].into_iter().chain(read(&spec)) {
                if verdict.is_ok() != is_good {
                    let expected = if is_good { "good" } else { "bad" };
                    wrong.push(format!(
                        "{} {value} is {expected}, {who}: {verdict:?}",
                        lines.at
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

impl World {
    /// What the API server says of a spec. Nothing is stored.
    async fn judges<K: Object>(&self, spec: &Value) -> Verdict {
        let object = json!({
            "apiVersion": K::api_version(&()), "kind": K::kind(&()),
            "metadata": { "name": "value" }, "spec": spec,
        });
        let object = serde_json::from_value(object).unwrap();
        let dry_run = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        match self.raw::<K>().create(&dry_run, &object).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 422 => Err(status.message.clone()),
            Err(other) => panic!("{spec}: {other}"),
        }
    }
}

/// `spec` as the operator's type, with the defaults that the API server fills in.
fn typed<S: serde::de::DeserializeOwned>(spec: &Value) -> Result<S, String> {
    serde_json::from_value(spec.clone()).map_err(|error| error.to_string())
}

fn text<T, E: std::fmt::Display>(result: Result<T, E>) -> Verdict {
    result.map(|_| ()).map_err(|error| error.to_string())
}

fn auth_server(spec: &Value) -> [(&'static str, Verdict); 2] {
    let yaml = typed::<McpAuthServerSpec>(spec).and_then(|spec| authserver_yaml(&spec));
    let operator = yaml.clone().map(drop);
    let reader = yaml.and_then(|yaml| text(read_by_authserver(&yaml)));
    [("operator", operator), ("authserver", reader)]
}

/// A protected server is read by two: as `proxy.yaml`, and through the admin API.
fn protected_server(spec: &Value) -> [(&'static str, Verdict); 2] {
    let issuer = Issuer::parse("https://auth.example").unwrap();
    let document = |spec: &ProtectedMcpServerSpec| {
        let allowed = registration::allowed_clients(spec, "team", Selected::default());
        registration::resource("notes", spec, vec![], allowed)
    };
    let operator = |spec: &ProtectedMcpServerSpec| {
        text(document(spec).check("team.notes"))?;
        proxy_yaml(spec).map(drop)
    };
    let reader = |spec: &ProtectedMcpServerSpec| {
        let sent = serde_json::to_string(&document(spec)).unwrap();
        let received: admin::Resource = text_of(&sent)?;
        text(authserver::resource(received, "team.notes".into(), &issuer))?;
        text(read_by_proxy(&proxy_yaml(spec)?))
    };
    let spec = typed::<ProtectedMcpServerSpec>(spec);
    [
        (
            "operator",
            spec.as_ref().map_err(Clone::clone).and_then(operator),
        ),
        (
            "proxy and authserver",
            spec.as_ref().map_err(Clone::clone).and_then(reader),
        ),
    ]
}

fn oauth_client(spec: &Value) -> [(&'static str, Verdict); 2] {
    let document = |spec: &McpOAuthClientSpec| {
        let resources = spec.resources.iter().map(|reference| ClientResource {
            uri: reference
                .uri
                .clone()
                .unwrap_or_else(|| "https://notes.example/mcp".to_owned()),
            scopes: reference.scopes.clone(),
        });
        registration::client(
            "team",
            "value",
            spec,
            resources.collect(),
            Some("a secret of enough bytes"),
        )
    };
    let reader = |spec: &McpOAuthClientSpec| {
        let sent = serde_json::to_string(&document(spec)).unwrap();
        let received: Client = text_of(&sent)?;
        text(authserver::check_client(&received, "team.value"))
    };
    let spec = typed::<McpOAuthClientSpec>(spec);
    let operator = |spec: &McpOAuthClientSpec| text(document(spec).check("team.value"));
    [
        (
            "operator",
            spec.as_ref().map_err(Clone::clone).and_then(operator),
        ),
        (
            "authserver",
            spec.as_ref().map_err(Clone::clone).and_then(reader),
        ),
    ]
}

fn text_of<T: serde::de::DeserializeOwned>(json: &str) -> Result<T, String> {
    serde_json::from_str(json).map_err(|error| error.to_string())
}

/// URLs that neither an issuer nor a resource can be.
const BAD_URLS: &[&str] = &[
    "",
    "auth.example",
    "/mcp",
    "ftp://a.example",
    "http://a.example",
    "http://localhost.evil.example",
    "http://127.0.0.1.evil.example/mcp",
    "http://127.0.0.2",
    "https://",
    "https:///a.example",
    "https://u@a.example",
    "https://u:p@a.example/mcp",
    "https://a.example@evil.example",
    "https://a.example?x=1",
    "https://a.example/mcp#x",
    "https://a.example:0",
    "https://a.example:65536",
    "https://a.example:",
    "https://a.example/x/../y",
    "https://a.example/.",
    "https://a.example/%2e%2E/y",
    "https://a.example/{tenant}",
    "https://a.example/a b",
    "https://a.example/%zz",
    "https://a.example/ä",
    "https://ä.example",
    "https://*.example.com",
    "https://a.example\\x",
    "https://0x7f.1",
    "https://1.2.3",
    " https://a.example",
    "https://a.example\n",
];

fn caller(id: &str) -> Value {
    json!({ "id": id, "secretRef": { "name": "remote" }, "server": { "name": "notes" } })
}

fn many_callers(count: u32) -> Vec<Value> {
    (0..count).map(|at| caller(&format!("c{at}"))).collect()
}

fn many_networks(count: usize) -> Vec<String> {
    (0..count).map(|at| format!("10.{at}.0.0/16")).collect()
}

#[tokio::test]
async fn auth_servers() {
    use mcpauth_wire::authserver_config as limits;
    let base = json!({
        "issuer": "https://auth.example",
        "storage": { "memory": {} },
        "login": { "localUsers": { "secretRef": { "name": "people" } } },
        "registration": { "dynamic": {} },
        "tokens": {}, "rateLimit": {}, "signingKeys": {}, "clientAddress": { "trustedProxies": ["192.0.2.10/32"] },
    });
    let external = |connections: u32| {
        let url = json!({ "name": "db-app" });
        let external = json!({ "urlSecretRef": url, "maxConnections": connections });
        json!({ "postgres": { "external": external } })
    };
    let with_ca = |ca: Value| {
        let mut external = json!({ "urlSecretRef": { "name": "db-app", "key": "uri" } });
        external
            .as_object_mut()
            .unwrap()
            .extend(ca.as_object().unwrap().clone());
        json!({ "postgres": { "external": external } })
    };
    let issuers = [
        "https://auth.example",
        "https://auth.example/tenant",
        "https://auth.example:8443/a/b",
        "https://192.0.2.1",
        "https://[2001:db8::1]:9443",
        "http://localhost:9000",
        "http://127.0.0.1:9000",
        "http://[::1]:9000",
    ];
    let not_normal = [
        "https://Auth.example",
        "HTTPS://auth.example",
        "https://auth.example/",
        "https://auth.example:443",
        "http://localhost:80",
        "https://auth.example/*",
    ];
    let longest = format!("https://auth.example/{}", "a".repeat(491));
    let table = vec![
        strings("/issuer", &issuers, BAD_URLS),
        strings("/issuer", &[&longest], &not_normal),
        strings("/issuer", &[], &[&format!("{longest}a")]),
        lists(
            "/registration/allowedRedirectSchemes",
            &["cursor", "vscode-insiders", "com.example.app"],
            &[
                "",
                "Cursor",
                "1a",
                "a b",
                "a:",
                "http",
                "https",
                "javascript",
                "data",
                "file",
                "view-source",
            ],
        ),
        values(
            "/registration/allowedRedirectSchemes",
            vec![json!([]), json!(vec!["a"; 16])],
            vec![json!(vec!["a"; 17])],
        ),
        bounds(
            "/registration/dynamic/neverUsedHours",
            limits::NEVER_USED_HOURS,
        ),
        bounds("/registration/dynamic/idleDays", limits::IDLE_DAYS),
        bounds("/registration/dynamic/maxClients", limits::MAX_CLIENTS),
        values(
            "/registration/dynamic/grantTypes",
            vec![
                json!(["authorization_code"]),
                json!(["authorization_code", "refresh_token"]),
                json!(["refresh_token", "authorization_code"]),
            ],
            vec![
                json!([]),
                json!(["refresh_token"]),
                json!(["authorization_code", "authorization_code"]),
                json!(["authorization_code", "client_credentials"]),
                json!(["implicit"]),
            ],
        ),
        values(
            "/registration/dynamic/initialAccessTokenSecretRef",
            vec![
                json!({ "name": "gate" }),
                json!({ "name": "gate", "key": "value" }),
            ],
            vec![json!({}), json!("gate"), json!({ "key": "token" })],
        ),
        values(
            "/keys",
            vec![json!({ "secretRef": { "name": "own-pepper" } })],
            vec![json!({}), json!({ "secretRef": {} })],
        ),
        values(
            "/signingKeys",
            vec![
                json!({}),
                json!({ "algorithms": ["ES256"] }),
                json!({ "algorithms": ["RS256", "ES256"] }),
            ],
            vec![
                json!({ "algorithms": [] }),
                json!({ "algorithms": ["HS256"] }),
                json!({ "algorithms": ["RS256", "RS256"] }),
                json!({ "algorithms": ["RS256", "ES256", "RS256"] }),
            ],
        ),
        bounds("/signingKeys/rotationDays", limits::ROTATION_DAYS),
        bounds("/tokens/accessTokenSeconds", limits::ACCESS_TOKEN_SECONDS),
        bounds("/tokens/refreshTokenSeconds", limits::REFRESH_TOKEN_SECONDS),
        bounds("/tokens/grantSeconds", limits::GRANT_SECONDS),
        bounds(
            "/tokens/authorizationCodeSeconds",
            limits::AUTHORIZATION_CODE_SECONDS,
        ),
        bounds("/tokens/refreshGraceSeconds", limits::REFRESH_GRACE_SECONDS),
        values(
            "/storage",
            [1, 1000].map(external).to_vec(),
            [0, 1001].map(external).to_vec(),
        ),
        values(
            "/storage",
            [
                json!({}),
                json!({ "caSecretRef": { "name": "db-ca" } }),
                json!({ "caSecretRef": { "name": "db-ca", "key": "ca.crt" } }),
                json!({ "caConfigMapRef": { "name": "kube-root-ca.crt" } }),
            ]
            .map(with_ca)
            .to_vec(),
            [
                json!({ "caSecretRef": {} }),
                json!({ "caSecretRef": "db-ca" }),
                json!({ "caConfigMapRef": { "key": "ca.crt" } }),
            ]
            .map(with_ca)
            .to_vec(),
        ),
        values(
            "/introspection",
            vec![
                json!({}),
                json!({ "callers": [] }),
                json!({ "callers": [caller("a")] }),
                json!({ "public": true, "callers": [caller("remote-notes"), caller("A.b_c-1")] }),
                json!({ "callers": [caller(&"a".repeat(64))] }),
                json!({ "callers": many_callers(64) }),
            ],
            vec![
                json!({ "public": true }),
                json!({ "public": true, "callers": [] }),
                json!({ "callers": [caller("")] }),
                json!({ "callers": [caller("..")] }),
                json!({ "callers": [caller("-a")] }),
                json!({ "callers": [caller("a/b")] }),
                json!({ "callers": [caller("a:b")] }),
                json!({ "callers": [caller("ä")] }),
                json!({ "callers": [caller(&"a".repeat(65))] }),
                json!({ "callers": [caller("a"), caller("a")] }),
                json!({ "callers": many_callers(65) }),
            ],
        ),
        values(
            "/internalTls",
            vec![json!({ "secretRef": { "name": "auth-internal.tls" } })],
            vec![
                json!({}),
                json!({ "secretRef": {} }),
                json!({ "secretRef": "auth-internal" }),
            ],
        ),
        telemetry(),
        bounds("/rateLimit/clientRequestsPerMinute", limits::PER_MINUTE),
        bounds("/rateLimit/addressFailuresPerMinute", limits::PER_MINUTE),
        bounds("/rateLimit/loginFailuresPerMinute", limits::PER_MINUTE),
        lists(
            "/clientAddress/trustedProxies",
            &[
                "192.0.2.10/32",
                "10.0.0.0/8",
                "2001:db8::/64",
                "fd00::1/128",
            ],
            &[
                "192.0.2.10",
                "10.0.0.0/33",
                "10.0.0/8",
                "010.0.0.0/8",
                "10.0.0.0/08",
                "10.0.0.0/+8",
                "0.0.0.0/0",
                "::/0",
                "::ffff:10.0.0.0/104",
                "fe80::1%eth0/64",
                "gateway.example",
                " 10.0.0.0/8",
                "",
            ],
        ),
        values(
            "/clientAddress/trustedProxies",
            vec![json!(many_networks(64))],
            vec![json!([]), json!(many_networks(65)), json!("10.0.0.0/8")],
        ),
        strings(
            "/clientAddress/header",
            &[
                "X-Forwarded-For",
                "x-real-ip",
                "CF-Connecting-IP",
                &"x".repeat(64),
            ],
            &[
                "",
                "Forwarded",
                "forwarded",
                "X Forwarded",
                "X-Förwarded",
                "-X",
                "X:",
                &"x".repeat(65),
            ],
        ),
    ];
    agree::<McpAuthServer>("values-mas", &base, table, auth_server).await;

    let developer = json!({ "developmentAutoApprove": { "subject": "developer" } });
    let base = specs::with(base, "/login", developer);
    let base = specs::with(base, "/issuer", json!("http://localhost:9000"));
    let table = vec![
        strings(
            "/issuer",
            &[
                "http://localhost",
                "http://127.0.0.1:1",
                "https://localhost/x",
                "http://[::1]",
            ],
            &[
                "https://auth.example",
                "https://localhost.evil.example",
                "https://127.0.0.2",
            ],
        ),
        strings(
            "/login/developmentAutoApprove/subject",
            &["a", "ä: # 'x' \"y\"", &"ä".repeat(128)],
            &["", &"a".repeat(129)],
        ),
    ];
    agree::<McpAuthServer>("values-dev", &base, table, auth_server).await;
}

#[tokio::test]
async fn protected_servers() {
    use mcpauth_wire::{access, friction, proxy_config, scope};
    let rate = json!({ "calls": 60, "periodSeconds": 60 });
    let base = json!({
        "authServerRef": { "name": "auth" },
        "resource": "https://notes.example/mcp",
        "server": { "template": { "image": "notes", "http": { "port": 8000, "path": "/mcp" } } },
        "scopes": [{ "name": "read" }, { "name": "write", "description": "Write", "implies": ["read"] }],
        "access": { "rules": [{ "tools": ["create_*"], "scopes": ["write"] }] },
        "allowedClients": { "namespaces": {} },
        "friction": {
            "per": "Subject", "rate": rate, "share": 0.2,
            "groups": [{ "name": "writes", "tools": ["create_*"], "rate": rate, "share": 0.1 }],
            "subjectRate": rate, "resourceRate": rate, "hardLimit": rate,
        },
        "limits": {},
    });
    let resources = [
        "https://notes.example",
        "https://notes.example/",
        "HTTPS://Notes.Example:443/MCP/",
        "https://notes.example./mcp",
        "https://192.0.2.1:8443/~x/%7Ey",
        "https://[2001:db8::1]/mcp",
        "http://localhost:9001/mcp",
        "http://127.0.0.1/mcp",
        "HTTP://LOCALHOST:80/",
    ];
    let longest = format!("https://notes.example/{}", "a".repeat(490));
    let many = |count: usize| -> Vec<Value> {
        (0..count)
            .map(|n| json!({ "name": format!("s{n}") }))
            .collect()
    };
    let rules = |count: u32| vec![json!({ "tools": ["x"], "scopes": ["read"] }); count as usize];
    let tools = |count: u32| json!([{ "tools": vec!["x"; count as usize], "anyToken": true }]);
    let named = |name: &str| json!([{ "name": name }, { "name": "read" }, { "name": "write" }]);
    let shares = (
        vec![json!(friction::SHARE_LEAST), json!(friction::SHARE_MOST)],
        vec![
            json!(0.0099),
            json!(0.9901),
            json!(1),
            json!(0),
            json!(-0.5),
            json!("0.2"),
        ],
    );
    let table = vec![
        strings("/resource", &resources, BAD_URLS),
        strings("/resource", &[&longest], &[&format!("{longest}a")]),
        lists(
            "/allowedOrigins",
            &[
                "https://app.example",
                "https://app.example:8443",
                "http://localhost:6274",
                "http://[::1]:3000",
                "vscode-webview://0fn3k2m",
                "moz-extension://a1b2-c3",
            ],
            &[
                "",
                "*",
                "null",
                "app.example",
                "https://",
                "https://*.example.com",
                "https://app.example/",
                "https://app.example/path",
                "https://app.example?x",
                "https://u@app.example",
                "https://App.example",
                "https://app.example:443",
                "http://localhost:80",
                "https://app.example:0",
                "https://app.example:65536",
                "https://a b",
                "vscode-webview://",
                "vscode-webview://a/b",
            ],
        ),
        values(
            "/scopes",
            vec![
                named("notes:read"),
                named("!"),
                named("~"),
                named(&"a".repeat(128)),
                json!([{ "name": "read", "implies": ["write"] }, { "name": "write", "implies": ["read"] }]),
                json!([{ "name": "read", "description": "a: b # 'c'\n\"d\" {}" }, { "name": "write" }]),
            ],
            vec![
                named(""),
                named("a b"),
                named("a\"b"),
                named("a\\b"),
                named("ä"),
                named("openid"),
                named("offline_access"),
                named(&"a".repeat(129)),
                named("read"),
                json!([{ "name": "read" }, { "name": "write", "implies": ["other"] }]),
                json!([{ "name": "read", "description": "a".repeat(257) }, { "name": "write" }]),
            ],
        ),
        values(
            "/scopes",
            vec![json!(
                [
                    [json!({ "name": "read" }), json!({ "name": "write" })].as_slice(),
                    &many(30)
                ]
                .concat()
            )],
            vec![json!(
                [
                    [json!({ "name": "read" }), json!({ "name": "write" })].as_slice(),
                    &many(31)
                ]
                .concat()
            )],
        ),
        values(
            "/access/rules",
            vec![
                json!([]),
                json!([{ "tools": ["*"], "anyToken": true }]),
                json!([{ "tools": ["ä b"], "scopes": ["read", "write"], "anyToken": false }]),
                json!([{ "resources": ["notes://*"], "scopes": ["read"] }, { "prompts": ["*"], "anyToken": true }]),
                json!([{ "methods": ["acme/export", "a".repeat(128)], "scopes": ["read"] }]),
                json!([{ "resources": ["a".repeat(512)], "scopes": ["read"] }]),
                json!(rules(access::RULE_COUNT.most)),
                tools(access::PATTERN_COUNT.most),
            ],
            vec![
                json!([{ "tools": ["x"] }]),
                json!([{ "tools": ["x"], "scopes": [] }]),
                json!([{ "tools": ["x"], "anyToken": false }]),
                json!([{ "tools": ["x"], "scopes": ["read"], "anyToken": true }]),
                json!([{ "scopes": ["read"] }]),
                json!([{ "tools": ["x"], "resources": ["x"], "scopes": ["read"] }]),
                json!([{ "prompts": ["x"], "methods": ["x"], "anyToken": true }]),
                json!([{ "resources": [""], "anyToken": true }]),
                json!([{ "resources": ["a".repeat(513)], "anyToken": true }]),
                json!([{ "prompts": ["a".repeat(129)], "anyToken": true }]),
                json!([{ "methods": ["a".repeat(129)], "anyToken": true }]),
                json!([{ "tools": [""], "anyToken": true }]),
                json!([{ "tools": ["a".repeat(129)], "anyToken": true }]),
                json!([{ "tools": ["x"], "scopes": ["other"] }]),
                json!([{ "tools": ["x"], "scopes": [""] }]),
                json!([{ "tools": ["x"], "scopes": vec!["read"; scope::REFERENCES.most as usize + 1] }]),
                json!(rules(access::RULE_COUNT.most + 1)),
                tools(0),
                tools(access::PATTERN_COUNT.most + 1),
            ],
        ),
        values(
            "/access/unmatched",
            vec![json!("RequireAllScopes"), json!("Deny"), json!("AnyToken")],
            vec![json!("Allow"), json!("")],
        ),
        values(
            "/access/lists",
            vec![json!("Held"), json!("Grantable"), json!("All")],
            vec![json!("Some"), json!("")],
        ),
        values(
            "/access/initialScopes",
            vec![json!(["read"]), json!(["read", "write"])],
            vec![
                json!([]),
                json!(["other"]),
                json!(["read", ""]),
                json!("read"),
            ],
        ),
        values(
            "/service",
            vec![
                json!({}),
                json!({ "type": "ClusterIP", "port": 8080, "ipFamilyPolicy": "RequireDualStack" }),
                json!({ "type": "NodePort", "nodePort": 30001, "externalTrafficPolicy": "Local" }),
                json!({ "type": "LoadBalancer", "loadBalancerClass": "x.example/y" }),
                json!({ "type": "LoadBalancer", "loadBalancerSourceRanges": ["2001:db8::/32"] }),
                json!({ "sessionAffinity": "ClientIP", "annotations": { "a": "b" }, "labels": { "c": "d" } }),
            ],
            vec![],
        ),
        values(
            "/allowedClients",
            vec![
                json!({}),
                json!({ "selfRegistered": false }),
                json!({ "namespaces": { "from": "All" } }),
                json!({ "namespaces": { "names": ["team-a", "0x"] } }),
                json!({ "namespaces": { "from": "Selector", "selector": { "matchLabels": { "a": "b" } } } }),
                json!({ "withoutConsent": {} }),
                json!({ "withoutConsent": { "from": "None" } }),
                json!({ "withoutConsent": { "from": "Same", "names": ["team-a"] } }),
                json!({ "withoutConsent": { "from": "All" } }),
                json!({ "withoutConsent": { "from": "Selector", "selector": { "matchLabels": { "a": "b" } } } }),
            ],
            vec![
                json!({ "withoutConsent": { "from": "none" } }),
                json!({ "withoutConsent": { "names": ["team_a"] } }),
            ],
        ),
        lists(
            "/allowedClients/namespaces/names",
            &["a", "team-a", &"a".repeat(63)],
            &["", "-a", "a-", "A", "a.b", "a_b", &"a".repeat(64)],
        ),
        telemetry(),
        values(
            "/identity",
            vec![json!({ "headers": {} })],
            vec![json!({}), json!({ "header": {} })],
        ),
        bounds(
            "/limits/responseHeaderSeconds",
            proxy_config::RESPONSE_HEADER_SECONDS,
        ),
        values(
            "/server/template/env",
            vec![
                json!([{ "name": "A.B-c 1", "value": "" }, { "name": "B" }]),
                json!([{ "name": "A", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } }]),
                json!([{ "name": "A", "valueFrom": { "configMapKeyRef": { "name": "c", "key": "k" } } }]),
            ],
            vec![json!({ "A": "b" }), json!([{ "name": 1 }])],
        ),
        values(
            "/server/template/envFrom",
            vec![json!([{ "secretRef": { "name": "s", "optional": true } }])],
            vec![json!([{ "secretRef": "s" }])],
        ),
        values(
            "/server/template/imagePullPolicy",
            vec![json!("Always"), json!("IfNotPresent"), json!("Never")],
            vec![json!("always"), json!("")],
        ),
        values(
            "/server/template/volumes",
            vec![
                json!([{ "name": "data", "persistentVolumeClaim": { "claimName": "c" } }]),
                json!([{ "name": "cache", "emptyDir": { "sizeLimit": 1 } }]),
            ],
            vec![
                json!([{ "name": "tmp", "emptyDir": {} }]),
                json!([{ "name": "mcpauth-x", "emptyDir": {} }]),
            ],
        ),
        values(
            "/server/template/volumeMounts",
            vec![json!([{ "name": "tmp", "mountPath": "/var/cache" }])],
            vec![json!([{ "name": "mcpauth-token", "mountPath": "/x" }])],
        ),
        values(
            "/server/template/livenessProbe",
            vec![json!({ "httpGet": { "port": "http" }, "periodSeconds": 5 })],
            vec![json!({ "periodSeconds": "often" })],
        ),
        values(
            "/podTemplate",
            vec![
                json!({}),
                json!({ "metadata": { "labels": { "a": "b" }, "annotations": { "c": "d" } } }),
                json!({ "spec": { "nodeSelector": { "a": "b" }, "priorityClassName": "high" } }),
            ],
            vec![
                json!({ "spec": "x" }),
                json!({ "metadata": { "labels": ["a"] } }),
            ],
        ),
        strings(
            "/server/template/http/path",
            &["/", "/mcp", "/%7Ex", "/{x}"],
            &["mcp", "/mcp?x", "/mcp#x"],
        ),
        bounds("/friction/rate/calls", friction::CALLS),
        bounds("/friction/rate/periodSeconds", friction::PERIOD_SECONDS),
        bounds("/friction/subjectRate/calls", friction::CALLS),
        bounds("/friction/halfLifeSeconds", friction::HALF_LIFE_SECONDS),
        bounds(
            "/friction/maxDelayMilliseconds",
            friction::MAX_DELAY_MILLISECONDS,
        ),
        bounds("/friction/warmupCalls", friction::WARMUP_CALLS),
        bounds("/friction/hardLimit/calls", friction::CALLS),
        strings(
            "/friction/per",
            &["Subject", "ClientAndSubject"],
            &["Client", "subject", ""],
        ),
        values("/friction/share", shares.0.clone(), shares.1.clone()),
        values("/friction/groups/0/share", shares.0, shares.1),
        values(
            "/friction",
            vec![
                json!({ "rate": rate }),
                json!({ "rate": rate, "groups": [{ "name": "a", "tools": ["x"], "rate": rate }] }),
            ],
            vec![
                json!({ "rate": rate, "share": 0.2 }),
                json!({ "rate": rate, "groups": [
                    { "name": "a", "tools": ["x"], "rate": rate, "share": 0.2 },
                ] }),
            ],
        ),
        values(
            "/friction/groups",
            vec![
                json!([]),
                json!([{ "name": "ä".repeat(63), "tools": vec!["x"; 64], "rate": rate }]),
            ],
            vec![
                json!([{ "name": "", "tools": ["x"], "rate": rate }]),
                json!([{ "name": "a".repeat(64), "tools": ["x"], "rate": rate }]),
                json!([{ "name": "a", "tools": [], "rate": rate }]),
                json!([{ "name": "a", "tools": [""], "rate": rate }]),
                json!([{ "name": "a", "tools": vec!["x"; 65], "rate": rate }]),
                json!([
                    { "name": "a", "tools": ["x"], "rate": rate }, { "name": "a", "tools": ["y"], "rate": rate },
                ]),
            ],
        ),
        bounds("/limits/bodyBytes", proxy_config::BODY_BYTES),
    ];
    agree::<ProtectedMcpServer>("values-pms", &base, table, protected_server).await;
}

#[tokio::test]
async fn oauth_clients() {
    let base = json!({
        "authServerRef": { "name": "auth" },
        "clientName": "App",
        "tokenEndpointAuthMethod": "client_secret_basic",
        "grantTypes": ["authorization_code"],
        "redirectUris": ["https://app.example/callback"],
        "resources": [{ "name": "notes" }],
        "jwks": null,
    });
    let base = specs::with(base, "/jwks", Value::Null);
    let key = json!({ "kty": "EC", "crv": "P-256",
        "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM" });
    let uris = |list: &[&str]| {
        list.iter()
            .map(|uri| json!([{ "uri": uri }]))
            .collect::<Vec<_>>()
    };
    let pages = [
        "http://a.example",
        "https://a.example/x?y#z",
        "https://a.example:8443/",
    ];
    let no_pages = [
        "javascript:alert(1)",
        "a.example",
        "https://",
        "https://u@a.example/",
        "https://a b",
        "ftp://a.example",
        "https://a.example:0",
    ];
    let table = vec![
        strings(
            "/clientName",
            &["App", "Ä: # 'x'", &"ä".repeat(256)],
            &[&"a".repeat(257)],
        ),
        strings("/clientUri", &pages, &no_pages),
        strings("/logoUri", &pages[1..], &no_pages),
        strings("/logoUri", &[], &pages[..1]),
        lists(
            "/redirectUris",
            &[
                "https://claude.ai/api/mcp/auth_callback",
                "https://app.example?x=1",
                "http://localhost:54321/callback",
                "http://127.0.0.1/",
                "http://[::1]:1/cb",
                "cursor://anysphere.cursor-mcp/oauth/callback",
                "com.example.app:/oauth",
                &format!("https://a.example/{}", "a".repeat(2030)),
            ],
            &[
                "",
                "/callback",
                "no-uri",
                "https:x.example",
                "HTTPS://x.example",
                "https:///x.example",
                "http://app.example/cb",
                "HTTP://app.example/cb",
                "http://localhost.evil.example/",
                "http://LOCALHOST/",
                "https://app.example/#x",
                "https://u@app.example/",
                "https://good.example@evil.example/",
                "https://*.example/cb",
                "https://a.example/{x}",
                "https://a b/",
                "https://a\\@b/",
                "https://ä.example/",
                "https://a.example:0/cb",
                "javascript:alert(1)",
                "JavaScript://x/%0aalert(1)",
                "data:text/html,x",
                "file:///etc/passwd",
                "vbscript:x",
                "cursor://u@x/y",
                "cursor://a:x/cb",
                &format!("https://a.example/{}", "a".repeat(2031)),
            ],
        ),
        values("/redirectUris", vec![], vec![json!([]), Value::Null]),
        values(
            "/resources",
            uris(&[
                "https://a.example",
                "HTTPS://A.example:443/mcp/",
                "http://localhost:9001/mcp",
            ]),
            uris(BAD_URLS),
        ),
        lists(
            "/resources/0/scopes",
            &["notes:read", "openid", &"a".repeat(128)],
            &["", "a b", "a\"b", "ä", &"a".repeat(129)],
        ),
        values(
            "/resources/0/scopes",
            vec![json!((0..32).map(|n| n.to_string()).collect::<Vec<_>>())],
            vec![json!((0..33).map(|n| n.to_string()).collect::<Vec<_>>())],
        ),
        values(
            "/resources",
            vec![
                json!([]),
                json!([{ "name": "notes" }, { "name": "notes", "namespace": "other", "scopes": ["a"] }]),
                json!(vec![
                    json!({ "name": "notes" });
                    RESOURCE_COUNT.most as usize
                ]),
            ],
            vec![json!(vec![
                json!({ "name": "notes" });
                RESOURCE_COUNT.most as usize + 1
            ])],
        ),
        values(
            "/grantTypes",
            vec![
                json!(["authorization_code", "refresh_token"]),
                json!(["client_credentials"]),
                json!(["authorization_code", "refresh_token", "client_credentials"]),
            ],
            vec![
                json!([]),
                json!(["refresh_token"]),
                json!(["password"]),
                json!(["client_credentials", "refresh_token"]),
            ],
        ),
        strings(
            "/tokenEndpointAuthMethod",
            &["none", "client_secret_post"],
            &["private_key_jwt", "client_secret_jwt", ""],
        ),
        values("/jwks", vec![], vec![json!({ "keys": [key] })]),
        strings("/consent", &["Ask", "Trusted"], &["trusted", ""]),
        strings(
            "/assertionAudience",
            &["Issuer"],
            &["TokenEndpoint", "issuer", ""],
        ),
    ];
    agree::<McpOAuthClient>("values-moc", &base, table, oauth_client).await;

    let public = specs::with(base.clone(), "/tokenEndpointAuthMethod", json!("none"));
    let trusted = specs::with(public, "/consent", json!("Trusted"));
    let table = vec![lists(
        "/redirectUris",
        &["https://a.example/cb", "https://localhost.example/cb"],
        &[
            "http://localhost/cb",
            "http://[::1]:9/cb",
            "https://localhost:9/cb",
            "https://127.0.0.1",
            "cursor://x/y",
        ],
    )];
    agree::<McpOAuthClient>("values-trusted", &trusted, table, oauth_client).await;

    let rsa =
        |length, e: &str| json!({ "keys": [{ "kty": "RSA", "n": "Q".repeat(length), "e": e }] });
    let base = specs::with(base, "/tokenEndpointAuthMethod", json!("private_key_jwt"));
    let base = specs::with(base, "/jwks", json!({ "keys": [key] }));
    let table = vec![
        values(
            "/jwks",
            vec![
                json!({ "keys": [key] }),
                json!({ "keys": vec![&key; 16] }),
                rsa(342, "Aw"),
                rsa(683, "AQAB"),
            ],
            vec![
                rsa(341, "AQAB"),
                rsa(684, "AQAB"),
                rsa(342, "AQABAQ"),
                json!({ "keys": [] }),
                json!({ "keys": vec![&key; 17] }),
                Value::Null,
            ],
        ),
        strings(
            "/assertionAudience",
            &["Issuer", "TokenEndpoint"],
            &["Both"],
        ),
    ];
    agree::<McpOAuthClient>("values-jwt", &base, table, oauth_client).await;
}
