//! The OpenAPI documents in `docs/reference/openapi`: their routes, every response in them, and whatever a client may send.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use http::{Method, header};
use mcp_authserver::store::PostgresStore;
use mcpauth_test_support::postgres::Postgres;
use serde_json::{Value, json};
use sqlx::Executor as _;

use crate::browser::{Browser, ticket};
use crate::process::Running;
use crate::server::{
    Answer, FORM, INITIAL_ACCESS_TOKEN, LOOPBACK, MAIL, NOTES, PASSWORD, REMOTE, SECRET, Setup,
    TestServer, authorize_path, basic, configuration, query, text,
};

fn folder() -> PathBuf {
    PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../docs/reference/openapi")
}

fn document(name: &str) -> Value {
    let text = std::fs::read_to_string(folder().join(name)).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

/// What a `$ref` stands for.
fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(target) => document.pointer(&target[1..]).unwrap(),
        None => value,
    }
}

/// The operations with their responses: method and path, status, and the codes of its errors.
fn operations(document: &Value) -> BTreeMap<String, &Value> {
    let mut operations = BTreeMap::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if method != "parameters" {
                let name = format!("{} {path}", method.to_uppercase());
                operations.insert(name, &operation["responses"]);
            }
        }
    }
    operations
}

/// A response: the operation, its status, and the code of an error that is JSON.
type Response = (String, u16, String);

fn documented(document: &Value) -> BTreeSet<Response> {
    let mut all = BTreeSet::new();
    for (operation, responses) in operations(document) {
        for (status, response) in responses.as_object().unwrap() {
            let content = &resolve(document, response)["content"];
            let mut codes = codes(document, content);
            if codes.is_empty() || !content["text/html"].is_null() {
                codes.push(String::new());
            }
            let status = status.parse().unwrap();
            all.extend(
                codes
                    .into_iter()
                    .map(|code| (operation.clone(), status, code)),
            );
        }
    }
    all
}

fn codes(document: &Value, content: &Value) -> Vec<String> {
    let schema = resolve(document, &content["application/json"]["schema"]);
    let parts = schema["allOf"].as_array().into_iter().flatten();
    let error = parts.map(|part| &part["properties"]["error"]);
    let codes = error.flat_map(|error| match &error["const"] {
        Value::Null => error["enum"].as_array().cloned().unwrap_or_default(),
        code => vec![code.clone()],
    });
    codes.map(|code| text(&code)).collect()
}

/// The responses that came.
#[derive(Default)]
struct Seen(BTreeSet<Response>);

impl Seen {
    fn note(&mut self, operation: &str, answer: &Answer) {
        let is_json = answer.header(header::CONTENT_TYPE) == "application/json";
        let code = match is_json && answer.status.as_u16() >= 400 {
            true => text(&answer.json()["error"]),
            false => String::new(),
        };
        self.0
            .insert((operation.to_owned(), answer.status.as_u16(), code));
    }

    fn is_all_of(&self, name: &str) {
        let documented = documented(&document(name));
        let missing: Vec<_> = documented.difference(&self.0).collect();
        assert!(
            missing.is_empty(),
            "documented, and did not come: {missing:#?}"
        );
        let more: Vec<_> = self.0.difference(&documented).collect();
        assert!(more.is_empty(), "came, and is not documented: {more:#?}");
    }
}

/// The paths in the routers' source.
fn routes(source: &str) -> BTreeSet<String> {
    let signing_keys = format!("{:?}, get", mcpauth_wire::admin::SIGNING_KEYS_PATH);
    let source = source.replace("SIGNING_KEYS_PATH, get", &signing_keys);
    let source = source.replace("introspect::PATH", r#""/introspect""#);
    let quoted = source.split('"').skip(1).step_by(2);
    let paths = quoted.filter(|text| text.starts_with('/') && !text.ends_with("{path}"));
    paths.map(str::to_owned).collect()
}

/// A path with something in place of its variables.
fn concrete(path: &str) -> String {
    let path = path.replace("{subject}", "local:nobody");
    path.replace("{id}", "nobody")
        .replace("{client_id}", "nobody")
}

/// Everything is switched on.
const OPEN: &str = "registration: { dynamic: {} }
introspection: { public: true, callers: [{ id: remote-notes, secretFile: '{FILES}/remote-notes' }] }
rateLimit: { addressFailuresPerMinute: 20, clientRequestsPerMinute: 30, loginFailuresPerMinute: 3 }";

#[tokio::test]
async fn the_documents_have_every_route_and_method_and_no_other() {
    let setup = Setup {
        more: OPEN,
        ..Setup::default()
    };
    let server = TestServer::with(setup).await;
    for (name, source) in [
        ("public.yaml", include_str!("../../src/http/public/mod.rs")),
        (
            "internal.yaml",
            include_str!("../../src/http/internal/mod.rs"),
        ),
    ] {
        let document = document(name);
        let mut methods: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for operation in operations(&document).keys() {
            let (method, path) = operation.split_once(' ').unwrap();
            let known = methods.entry(path.to_owned()).or_default();
            known.insert(method.to_owned());
            if method == "GET" {
                known.insert("HEAD".to_owned());
            }
        }
        let paths: BTreeSet<String> = methods.keys().cloned().collect();
        assert_eq!(routes(source), paths, "{name}");
        for (path, documented) in methods {
            let request = match name {
                "public.yaml" => server.public(Method::TRACE, &concrete(&path)),
                _ => server.internal(Method::TRACE, &concrete(&path), "operator"),
            };
            let answer = server.send(request.body(Default::default()).unwrap()).await;
            assert_eq!(answer.status, 405, "{path}");
            let allowed = answer.header(header::ALLOW).split(',');
            let allowed: BTreeSet<String> = allowed.map(|one| one.trim().to_owned()).collect();
            assert_eq!(allowed, documented, "{path}");
        }
    }
}

fn resource() -> Value {
    json!({ "resource": "https://files.example/mcp", "name": "files" })
}

fn client() -> Value {
    json!({ "tokenEndpointAuthMethod": "none", "grantTypes": ["authorization_code"], "redirectUris": [LOOPBACK] })
}

/// Asks the internal port for an operation as this caller.
async fn inside(server: &TestServer, operation: &str, caller: &str, body: &str) -> Answer {
    let (method, path) = operation.split_once(' ').unwrap();
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let request = server.internal(method, &concrete(path), caller);
    let request = request.header(header::CONTENT_TYPE, FORM);
    server
        .send(request.body(body.to_owned().into()).unwrap())
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_response_of_the_internal_port_is_documented_and_comes() {
    let mut seen = Seen::default();
    let server = TestServer::start().await;
    let document = document("internal.yaml");
    for operation in operations(&document).keys() {
        let most = if operation.contains("/admin/") {
            1024 * 1024
        } else {
            16 * 1024
        };
        let large = "x".repeat(most + 1);
        seen.note(operation, &inside(&server, operation, "unknown", "").await);
        if operation.contains("/admin/") {
            let refused = inside(&server, operation, "notes-proxy", "").await;
            seen.note(operation, &refused);
        }
        if operation.contains('{') {
            let not_utf8 = concrete(operation).replace("nobody", "%FF");
            seen.note(operation, &inside(&server, &not_utf8, "operator", "").await);
        }
        if operation.starts_with("P") {
            seen.note(
                operation,
                &inside(&server, operation, "operator", &large).await,
            );
        }
    }
    let operator = |operation: &'static str, body: String| {
        let server = &server;
        async move {
            (
                operation,
                inside(server, operation, "operator", &body).await,
            )
        }
    };
    for (operation, body) in [
        ("GET /admin/v1/resources/{id}", String::new()),
        ("GET /admin/v1/clients/{id}", String::new()),
        ("PUT /admin/v1/resources/{id}", "{}".to_owned()),
        ("PUT /admin/v1/clients/{id}", "{}".to_owned()),
        (
            "PUT /admin/v1/resources/{id}",
            json!({ "resource": NOTES, "name": "x" }).to_string(),
        ),
        ("PUT /admin/v1/resources/{id}", resource().to_string()),
        ("PUT /admin/v1/clients/{id}", client().to_string()),
        ("GET /admin/v1/resources/{id}", String::new()),
        ("GET /admin/v1/clients/{id}", String::new()),
        ("DELETE /admin/v1/resources/{id}", String::new()),
        ("DELETE /admin/v1/clients/{id}", String::new()),
        ("DELETE /admin/v1/users/{subject}/grants", String::new()),
        ("GET /admin/v1/signing-keys", String::new()),
        ("POST /introspect", String::new()),
        ("POST /introspect", "token=x".to_owned()),
    ] {
        let (operation, answer) = operator(operation, body).await;
        seen.note(operation, &answer);
    }
    let (server, gone) = on_postgres(OPEN).await;
    gone.drop_it().await;
    for operation in operations(&document).keys() {
        let body = match operation.as_str() {
            "PUT /admin/v1/resources/{id}" => resource().to_string(),
            "PUT /admin/v1/clients/{id}" => client().to_string(),
            _ => format!("token={}", unknown_token()),
        };
        seen.note(
            operation,
            &inside(&server, operation, "operator", &body).await,
        );
    }
    seen.is_all_of("internal.yaml");
}

/// One that the store is asked about.
fn unknown_token() -> String {
    use mcp_authserver::oauth::token::{Token, TokenKind};
    Token::generate(TokenKind::Access, [7; 32])
        .reveal()
        .to_owned()
}

/// The database of a server.
struct Database(&'static Postgres, String);

impl Database {
    async fn drop_it(&self) {
        let name = self.1.split(['/', '?']).nth(3).unwrap();
        let statement = format!("DROP DATABASE {name} WITH (FORCE)");
        let mut session = self.0.connect("postgres").await;
        let statement = sqlx::AssertSqlSafe(statement);
        session.execute(statement).await.unwrap();
    }
}

async fn on_postgres(more: &'static str) -> (TestServer, Database) {
    let postgres = Postgres::shared();
    let url = postgres.create_database().await;
    let store = PostgresStore::new(&url, 4).unwrap();
    store.migrate().await.unwrap();
    let server = TestServer::with(Setup {
        issuer: "https://auth.example",
        local_users: true,
        store: Arc::new(store),
        more,
        ..Setup::default()
    });
    (server.await, Database(postgres, url))
}

/// Asks until there is another status: that of a limit. None of them is higher than this.
async fn until_limited(asking: impl AsyncFn() -> Answer) -> Answer {
    let first = asking().await;
    for _ in 0..100 {
        let answer = asking().await;
        if answer.status != first.status {
            return answer;
        }
    }
    first
}

const REGISTRATION: &str = "/register/{client_id}";

/// A request to the public port with these headers.
async fn ask(
    server: &TestServer,
    method: &str,
    path: &str,
    headers: &[(header::HeaderName, &str)],
    body: String,
) -> Answer {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let mut request = server.public(method, path);
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    server.send(request.body(body.into()).unwrap()).await
}

/// A client that registered itself, and how it manages that.
struct Registered {
    path: String,
    bearer: String,
    id: String,
}

impl Registered {
    async fn new(server: &TestServer, seen: &mut Seen) -> Self {
        let body = json!({ "redirect_uris": [LOOPBACK], "token_endpoint_auth_method": "none" });
        let answer = ask(server, "POST", "/register", &[], body.to_string()).await;
        seen.note("POST /register", &answer);
        let client = answer.json();
        let id = text(&client["client_id"]);
        Self {
            path: format!("/register/{id}"),
            bearer: format!("Bearer {}", text(&client["registration_access_token"])),
            id,
        }
    }

    async fn ask(&self, server: &TestServer, seen: &mut Seen, method: &str, body: String) -> u16 {
        let headers = [(header::AUTHORIZATION, self.bearer.as_str())];
        let answer = ask(server, method, &self.path, &headers, body).await;
        seen.note(&format!("{method} {REGISTRATION}"), &answer);
        answer.status.as_u16()
    }

    fn update(&self) -> Value {
        json!({ "client_id": self.id, "redirect_uris": [LOOPBACK], "token_endpoint_auth_method": "none" })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_response_of_the_public_port_is_documented_and_comes() {
    let mut seen = Seen::default();
    let (server, database) = on_postgres(OPEN).await;
    for path in [
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration",
        "/jwks",
        "/login",
        "/consent",
    ] {
        seen.note(&format!("GET {path}"), &server.get(path).await);
    }
    let large = "x".repeat(32 * 1024 + 1);
    let form = (header::CONTENT_TYPE, FORM);
    for path in [
        "/token",
        "/revoke",
        "/introspect",
        "/login",
        "/consent",
        "/authorize",
    ] {
        let operation = format!("POST {path}");
        let credential = basic(REMOTE.0, REMOTE.1);
        let headers = [form.clone(), (header::AUTHORIZATION, credential.as_str())];
        let headers = if path == "/introspect" {
            &headers[..]
        } else {
            &headers[..1]
        };
        seen.note(
            &operation,
            &ask(&server, "POST", path, headers, large.clone()).await,
        );
        seen.note(
            &operation,
            &ask(&server, "POST", path, headers, "a=1&a=2".into()).await,
        );
        seen.note(
            &operation,
            &ask(
                &server,
                "POST",
                path,
                &headers[..1],
                "client_id=unknown&grant_type=refresh_token&token=x".into(),
            )
            .await,
        );
    }
    tokens(&server, &mut seen).await;
    let (login, consent) = pages(&server, &mut seen).await;
    let registered = registration(&server, &mut seen).await;
    introspection(&server, &mut seen).await;

    // Both are known, so that nothing but the store stands in the way.
    database.drop_it().await;
    seen.note("GET /authorize", &server.authorize(&[]).await);
    let (mut browser, page) = login;
    let answer = browser.log_in(&server, &page, "alice", PASSWORD).await;
    seen.note("POST /login", &answer);
    let (mut browser, page) = consent;
    seen.note(
        "POST /consent",
        &browser.decide(&server, &ticket(&page), "allow").await,
    );
    seen.note("POST /token", &server.refresh("x").await);
    let form = [("client_id", "app"), ("token", "x")];
    seen.note("POST /revoke", &server.post("/revoke", &form).await);
    let token = unknown_token();
    seen.note(
        "POST /introspect",
        &introspect(&server, REMOTE.1, &token).await,
    );
    let body = json!({ "redirect_uris": [LOOPBACK] }).to_string();
    seen.note(
        "POST /register",
        &ask(&server, "POST", "/register", &[], body).await,
    );
    for method in ["GET", "PUT", "DELETE"] {
        registered
            .ask(&server, &mut seen, method, String::new())
            .await;
    }
    seen.is_all_of("public.yaml");
}

async fn tokens(server: &TestServer, seen: &mut Seen) {
    let mut note = |answer: &Answer| seen.note("POST /token", answer);
    let robot = basic("robot", &query(&[("", SECRET)])[1..]);
    let robot = [(header::AUTHORIZATION, robot.as_str())];
    let ask = async |form: &[(&str, &str)]| server.post_with("/token", &robot, form).await;
    note(&ask(&[("grant_type", "client_credentials"), ("resource", NOTES)]).await);
    note(&ask(&[("grant_type", "client_credentials"), ("resource", MAIL)]).await);
    note(&ask(&[("grant_type", "client_credentials"), ("scope", "unknown")]).await);
    note(&ask(&[("grant_type", "password")]).await);
    let foreign = [("grant_type", "client_credentials"), ("resource", MAIL)];
    note(&ask(&[("grant_type", "refresh_token"), ("refresh_token", "x")]).await);
    note(&server.refresh("x").await);
    note(&until_limited(async || ask(&foreign).await).await);
    let poster = [("client_id", "poster"), ("client_secret", SECRET)];
    let answer = until_limited(async || server.post("/revoke", &poster).await).await;
    seen.note("POST /revoke", &answer);
    let form = [("client_id", "app"), ("token", "x")];
    seen.note("POST /revoke", &server.post("/revoke", &form).await);
}

type Open = (Browser, Answer);

/// A login page and a consent page that are still open.
async fn pages(server: &TestServer, seen: &mut Seen) -> (Open, Open) {
    let mut browser = Browser::default();
    let login = browser.get(server, &authorize_path(&[])).await;
    seen.note("GET /authorize", &login);
    let answer = browser.log_in(server, &login, "alice", "wrong").await;
    seen.note("POST /login", &answer);
    let answer = browser.log_in(server, &login, "alice", PASSWORD).await;
    seen.note("POST /login", &answer);
    let consent = browser.get(server, &authorize_path(&[])).await;
    let answer = browser.decide(server, &ticket(&consent), "deny").await;
    seen.note("POST /consent", &answer);
    seen.note(
        "GET /authorize",
        &server.authorize(&[("scope", "unknown")]).await,
    );
    seen.note(
        "GET /authorize",
        &server.authorize(&[("client_id", "")]).await,
    );
    let consent = (browser, consent);
    seen.note("POST /login", &server.post("/login", &[]).await);
    seen.note("POST /consent", &server.post("/consent", &[]).await);
    let params = [("client_id", "app")];
    seen.note("POST /authorize", &server.post("/authorize", &params).await);
    let twice = [("client_id", "app"), ("client_id", "app")];
    seen.note("POST /authorize", &server.post("/authorize", &twice).await);
    let none = ask(server, "POST", "/authorize", &[], String::new()).await;
    seen.note("POST /authorize", &none);
    for path in ["/login", "/consent"] {
        let none = ask(server, "POST", path, &[], String::new()).await;
        seen.note(&format!("POST {path}"), &none);
    }
    let mut browser = Browser::default();
    let login = browser.get(server, &authorize_path(&[])).await;
    for _ in 0..5 {
        let answer = browser.log_in(server, &login, "bob", "wrong").await;
        seen.note("POST /login", &answer);
    }
    ((browser, login), consent)
}

async fn registration(server: &TestServer, seen: &mut Seen) -> Registered {
    let large = "x".repeat(8 * 1024 + 1);
    for body in [
        "{}".to_owned(),
        r#"{"redirect_uris":["x"]}"#.to_owned(),
        "[".to_owned(),
        large.clone(),
    ] {
        let answer = ask(server, "POST", "/register", &[], body).await;
        seen.note("POST /register", &answer);
    }
    for method in ["GET", "PUT", "DELETE"] {
        for path in ["/register/nobody", "/register/%FF"] {
            let answer = ask(server, method, path, &[], String::new()).await;
            seen.note(&format!("{method} {REGISTRATION}"), &answer);
        }
    }
    let client = Registered::new(server, seen).await;
    let mut bad = client.update();
    bad["redirect_uris"] = json!(["x"]);
    for body in [
        client.update().to_string(),
        "{}".to_owned(),
        bad.to_string(),
        large,
    ] {
        client.ask(server, seen, "PUT", body).await;
    }
    for _ in 0..60 {
        client.ask(server, seen, "PUT", "{}".to_owned()).await;
    }
    client.ask(server, seen, "GET", String::new()).await;
    client.ask(server, seen, "DELETE", String::new()).await;
    let client = Registered::new(server, seen).await;
    let body = json!({ "redirect_uris": [LOOPBACK] }).to_string();
    let answer =
        until_limited(async || ask(server, "POST", "/register", &[], body.clone()).await).await;
    seen.note("POST /register", &answer);
    let gated = TestServer::with(Setup {
        more: "registration: { dynamic: { initialAccessTokenFile: '{FILES}/initial-access-token' } }",
        ..Setup::default()
    })
    .await;
    seen.note(
        "POST /register",
        &ask(&gated, "POST", "/register", &[], body.clone()).await,
    );
    let token = format!("Bearer {INITIAL_ACCESS_TOKEN}");
    let headers = [(header::AUTHORIZATION, token.as_str())];
    seen.note(
        "POST /register",
        &ask(&gated, "POST", "/register", &headers, body).await,
    );
    client
}

async fn introspect(server: &TestServer, secret: &str, token: &str) -> Answer {
    let headers = [(header::AUTHORIZATION, &*basic(REMOTE.0, secret))];
    server
        .post_with("/introspect", &headers, &[("token", token)])
        .await
}

async fn introspection(server: &TestServer, seen: &mut Seen) {
    seen.note("POST /introspect", &introspect(server, REMOTE.1, "x").await);
    // From another server, where guesses have not been forgiven.
    let other = TestServer::with(Setup {
        more: OPEN,
        ..Setup::default()
    })
    .await;
    let answer = until_limited(async || introspect(&other, "wrong", "x").await).await;
    seen.note("POST /introspect", &answer);
}

/// Limits that no test reaches.
const UNLIMITED: &str = "registration: { dynamic: {}, allowedRedirectSchemes: [cursor] }
introspection: { public: true, callers: [{ id: remote-notes, secretFile: '{FILES}/remote-notes' }] }
rateLimit: { addressFailuresPerMinute: 1000000, clientRequestsPerMinute: 1000000, loginFailuresPerMinute: 1000000 }";

/// Starts the program and lets schemathesis send what the document allows, and what it does not.
fn schemathesis(text: impl Fn(String) -> String) {
    let files = tempfile::tempdir().unwrap();
    let more = UNLIMITED.replace("{FILES}", &files.path().display().to_string());
    let text = text(configuration(&files, "http://localhost:9000", false, &more));
    let running = Running::with(files, &text, "warn,mcp_authserver=info");
    let body = json!({ "redirect_uris": [LOOPBACK], "token_endpoint_auth_method": "none" });
    let (status, answer) = running
        .ask(
            0,
            "POST",
            "/register",
            "content-type: application/json\r\n",
            &body.to_string(),
        )
        .unwrap();
    assert_eq!(status, 201, "{answer}");
    let client: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let python = std::env::var("SCHEMATHESIS_PYTHON")
        .expect("SCHEMATHESIS_PYTHON is not set: make test-servers sets it");
    let leftovers = tempfile::tempdir().unwrap();
    for (name, port, secret) in [("public", 0, SECRET), ("internal", 1, "secret-of-operator")] {
        let config = folder().join(format!("../../../authserver/tests/openapi/{name}.toml"));
        let output = Command::new(&python)
            .args(["-m", "schemathesis.cli", "--config-file"])
            .arg(config)
            .arg("run")
            .arg(folder().join(format!("{name}.yaml")))
            .env("OPENAPI_URL", format!("http://{}", running.addresses[port]))
            .env("OPENAPI_SECRET", secret)
            .env("OPENAPI_CALLER_SECRET", REMOTE.1)
            .env("OPENAPI_CLIENT_ID", client["client_id"].as_str().unwrap())
            .env(
                "OPENAPI_REGISTRATION_TOKEN",
                client["registration_access_token"].as_str().unwrap(),
            )
            .current_dir(leftovers.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {said}{errors}");
    }
}

#[test]
fn schemathesis_finds_nothing_with_the_memory_store() {
    schemathesis(|text| text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schemathesis_finds_nothing_on_postgres() {
    let url = Postgres::shared().create_database().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), url).unwrap();
    let storage = json!({ "postgres": { "urlFile": file.path() } });
    let on_postgres = move |text: String| {
        let memory = r#"storage: {"memory":{}}"#;
        assert!(text.contains(memory), "{text}");
        text.replacen(memory, &format!("storage: {storage}"), 1)
    };
    let run = tokio::task::spawn_blocking(move || schemathesis(on_postgres));
    run.await.unwrap();
    drop(file);
}
