//! Lists that show what could be granted, with the real authorization server and the notes.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, Request, StatusCode};
use mcpauth_service::clock::Clock;
use mcpauth_test_support::logs;
use mcpauth_test_support::postgres::Postgres;
use mcpauth_test_support::process::Process;
use serde_json::{Value, json};
use url::Url;
use url::form_urlencoded::Serializer;

use crate::common::introspection::active;
use crate::common::programs::{notes, program, start};
use crate::common::{Answer, RESOURCE, World};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const PEPPER: &str = "1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n";
const CALLBACK: &str = "http://127.0.0.1:7777/callback";
// RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const SCOPES: &str = "scopes: [{ name: notes:read }, { name: notes:write, implies: [notes:read] }, { name: notes:admin, implies: [notes:write] }]";
const ACCESS: &str = "access: { lists: Grantable, rules: [{ tools: [list_*, read_*], scopes: [notes:read] }, { tools: [create_*, update_*], scopes: [notes:write] }, { tools: [delete_*], scopes: [notes:admin] }] }";
const READERS: &[&str] = &["list_notes", "read_note"];
const WRITERS: &[&str] = &["create_note", "list_notes", "read_note", "update_note"];

/// The proxy in this process, the authorization server and the notes beside it.
struct Stack {
    world: World,
    public: String,
    internal: String,
    _processes: [Process; 2],
}

fn authserver(world: &World, storage: &Value) -> (Process, Value) {
    let write = |name: &str, content: &str| {
        let path = world.directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let secret = write("secret", SECRET);
    let scope = |name: &str, implies: &[&str]| json!({ "name": name, "implies": implies });
    let config = json!({
        "issuer": "http://localhost:9000",
        "listen": { "public": "127.0.0.1:0", "internal": "127.0.0.1:0", "health": "127.0.0.1:0" },
        "keysFile": write("pepper", PEPPER),
        "storage": storage,
        "login": { "developmentAutoApprove": { "subject": "developer" } },
        "signingKeys": { "algorithms": ["ES256"] },
        "internal": {
            "credentials": [{ "id": "proxy", "secretFile": secret }, { "id": "operator", "secretFile": secret }],
            "admins": ["credential:operator"],
        },
        "resources": [{
            "id": "notes", "resource": RESOURCE, "name": "notes", "introspectors": ["credential:proxy"],
            "allowedClients": { "namespaces": ["team"] },
            "scopes": [
                scope("notes:read", &[]), scope("notes:write", &["notes:read"]), scope("notes:admin", &["notes:write"]),
            ],
        }],
    });
    let file = write("authserver.yaml", &config.to_string());
    start(program("mcp-authserver").arg("--config").arg(file))
}

impl Stack {
    async fn start(storage: &Value) -> Self {
        let world = World::at(Clock::manual(Clock::system().now()), "").await;
        let (authserver, at) = authserver(&world, storage);
        let (notes, upstream) = notes().await;
        let stack = Self {
            public: at["public"].as_str().unwrap().to_owned(),
            internal: at["internal"].as_str().unwrap().to_owned(),
            world,
            _processes: [authserver, notes],
        };
        let secret = stack.world.directory.path().join("secret");
        let credential = json!({ "id": "proxy", "secretFile": secret });
        let endpoint = format!("http://{}/introspect", stack.internal);
        stack.world.reconfigure(&format!(
            "upstream: {{ url: {upstream} }}\n\
             introspection: {{ endpoint: {endpoint}, basic: {credential} }}\n{SCOPES}\n{ACCESS}"
        ));
        stack
    }

    /// From now on the clients `app` and `robot` may have these scopes.
    async fn allow(&self, scopes: &[&str]) {
        let resources = json!([{ "uri": RESOURCE, "scopes": scopes }]);
        let app = json!({
            "tokenEndpointAuthMethod": "none", "redirectUris": [CALLBACK],
            "grantTypes": ["authorization_code"], "namespace": "team", "resources": resources,
        });
        let robot = json!({
            "tokenEndpointAuthMethod": "client_secret_basic", "clientSecret": SECRET,
            "grantTypes": ["client_credentials"], "namespace": "team", "resources": resources,
        });
        for (id, client) in [("app", app), ("robot", robot)] {
            let request = Request::builder()
                .method(Method::PUT)
                .uri(format!("http://{}/admin/v1/clients/{id}", self.internal))
                .header("authorization", basic("operator"))
                .header("content-type", "application/json");
            let answer = self.world.send(request, client.to_string()).await;
            assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        }
    }

    /// A token with this scope that the user has given to `app`.
    async fn of_user(&self, scope: &str) -> String {
        let query = form(&[
            ("response_type", "code"),
            ("client_id", "app"),
            ("redirect_uri", CALLBACK),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
            ("scope", scope),
            ("resource", RESOURCE),
        ]);
        let request = Request::builder().uri(format!("http://{}/authorize?{query}", self.public));
        let answer = self.world.send(request, "").await;
        let location = Url::parse(answer.header("location")).unwrap();
        let mut pairs = location.query_pairs();
        let code = pairs.find(|(name, _)| name == "code");
        let (_, code) = code.unwrap_or_else(|| panic!("{location}"));
        let form = form(&[
            ("grant_type", "authorization_code"),
            ("client_id", "app"),
            ("redirect_uri", CALLBACK),
            ("code", &code),
            ("code_verifier", VERIFIER),
        ]);
        token(&self.token(None, form).await)
    }

    /// A token with this scope for `robot` itself.
    async fn of_client(&self, scope: &str) -> String {
        let form = form(&[("grant_type", "client_credentials"), ("scope", scope)]);
        token(&self.token(Some(basic("robot")), form).await)
    }

    async fn token(&self, credential: Option<String>, form: String) -> Answer {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://{}/token", self.public))
            .header("content-type", "application/x-www-form-urlencoded");
        if let Some(credential) = credential {
            request = request.header("authorization", credential);
        }
        self.world.send(request, form).await
    }

    /// The tools that the list shows.
    async fn tools(&self, token: &str) -> Vec<String> {
        let list = self.world.post_stateless(token, "tools/list", json!({}));
        let list = list.await["result"].take();
        assert_eq!(list["cacheScope"], "private", "{list}");
        let tools = list["tools"].as_array().unwrap().iter();
        let mut names: Vec<_> = tools.map(|tool| text(&tool["name"])).collect();
        names.sort_unstable();
        names
    }
}

fn basic(id: &str) -> String {
    let pair = STANDARD.encode(format!("{id}:{SECRET}"));
    format!("Basic {pair}")
}

fn form(pairs: &[(&str, &str)]) -> String {
    Serializer::new(String::new()).extend_pairs(pairs).finish()
}

fn token(answer: &Answer) -> String {
    text(&answer.json()["access_token"])
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value}"))
        .to_owned()
}

async fn what_a_step_up_would_bring(storage: &Value) {
    let stack = Stack::start(storage).await;
    stack.allow(&["notes:write"]).await;
    let (user, client) = tokio::join!(stack.of_user("notes:read"), stack.of_client("notes:read"));
    for token in [&user, &client] {
        assert_eq!(stack.tools(token).await, WRITERS);
        // Calls depend on what the token holds.
        for (tool, status) in [
            ("list_notes", StatusCode::OK),
            ("create_note", StatusCode::FORBIDDEN),
            ("delete_note", StatusCode::FORBIDDEN),
        ] {
            let message = json!({
                "jsonrpc": "2.0", "id": 1, "method": "tools/call",
                "params": { "name": tool, "arguments": {}, "_meta": {
                    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                    "io.modelcontextprotocol/clientInfo": { "name": "tests", "version": "1" },
                    "io.modelcontextprotocol/clientCapabilities": {},
                } },
            });
            let request = stack
                .world
                .request(Method::POST, Some(token))
                .header("mcp-protocol-version", "2026-07-28")
                .header("mcp-method", "tools/call")
                .header("mcp-name", tool);
            let answer = stack.world.send(request, message.to_string()).await;
            assert_eq!(answer.status, status, "{tool}: {answer:?}");
        }
    }
    // What the list showed is what a step-up brings.
    let more = stack.of_user("notes:read notes:write notes:admin").await;
    assert_eq!(stack.tools(&more).await, WRITERS);

    stack.allow(&["notes:read"]).await;
    for token in [&user, &client] {
        assert_eq!(stack.tools(token).await, WRITERS, "as the proxy knows it");
    }
    stack.world.clock.advance(Duration::from_millis(900));
    for token in [&user, &client] {
        assert_eq!(stack.tools(token).await, READERS);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_shows_what_a_step_up_would_bring_and_not_what_it_would_not() {
    what_a_step_up_would_bring(&json!({ "memory": {} })).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_shows_what_a_step_up_would_bring_on_postgres() {
    let url = Postgres::shared().create_database().await;
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("url");
    std::fs::write(&file, url).unwrap();
    let storage = json!({ "postgres": { "urlFile": file, "maxConnections": 4 } });
    what_a_step_up_would_bring(&storage).await;
}

/// The tools that the list of the World's own server shows.
async fn tools(world: &World, token: &str) -> Vec<String> {
    let message = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {} });
    let answer = world.post(token, &message).await.json();
    let tools = answer["result"]["tools"].as_array().unwrap().iter();
    tools.map(|tool| text(&tool["name"])).collect()
}

fn access(lists: &str) -> String {
    format!(
        "access: {{ lists: {lists}, rules: [{{ tools: [read], scopes: [notes:read] }}, {{ tools: [create_*], scopes: [notes:write] }}] }}"
    )
}

#[tokio::test]
async fn what_could_be_granted_is_asked_for_where_lists_depend_on_it_and_nowhere_else() {
    let world = World::with(&access("Held")).await;
    let mut answer = active("notes:read");
    answer["grantable_scope"] = json!("notes:read notes:write");
    world.introspection.set("token", &answer);
    assert_eq!(tools(&world, "token").await, ["read"]);
    world.reconfigure(&access("All"));
    assert_eq!(tools(&world, "token").await, ["read", "create_note"]);
    assert!(world.introspection.asked_grantable().is_empty());
    // What is cached does not say it.
    world.reconfigure(&access("Grantable"));
    assert_eq!(tools(&world, "token").await, ["read", "create_note"]);
    assert_eq!(world.introspection.asked_grantable(), ["token"]);
    world.reconfigure(&access("Held"));
    assert_eq!(tools(&world, "token").await, ["read"]);
}

#[tokio::test]
async fn without_an_answer_a_list_shows_what_is_held_and_the_log_says_so_once() {
    let logs = logs::capture();
    let world = World::with(&access("Grantable")).await;
    let lines = || logs.containing("does not say which scopes");
    world.introspection.set("gone", &json!({ "active": false }));
    world.path(Method::POST, "/mcp", Some("gone")).await;
    let mut known = active("notes:read");
    known["grantable_scope"] = json!("");
    world.introspection.set("known", &known);
    assert_eq!(tools(&world, "known").await, ["read"]);
    assert!(lines().is_empty(), "{:?}", lines());
    for token in ["one", "two"] {
        world.introspection.grant(token, "notes:read");
        assert_eq!(tools(&world, token).await, ["read"]);
        assert_eq!(lines().len(), 1, "{:?}", lines());
    }
    assert!(lines()[0].starts_with("WARN"), "{:?}", lines());
}
