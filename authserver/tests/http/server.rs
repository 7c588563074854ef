//! A server on loopback with two resources and some clients, and short words for what tests do with it.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use argon2::password_hash::{PasswordHasher, SaltString};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use mcp_authserver::config::Config;
use mcp_authserver::http as routes;
use mcp_authserver::http::app::{App, StartError};
use mcp_authserver::http::internal::InternalPort;
use mcp_authserver::http::serve::{serve, serve_internal};
use mcp_authserver::metrics::Metrics;
use mcp_authserver::store::{MemoryStore, Store, Unused};
use mcpauth_service::audit::Audit;
use mcpauth_service::clock::{Clock, UnixTime};
use mcpauth_service::listener::{Limits, Listener};
use mcpauth_service::shutdown::Shutdown;
use mcpauth_wire::authserver_config::DynamicRegistration;
use serde_json::{Value, json};
use tempfile::TempDir;

pub const NOTES: &str = "http://localhost:9001/mcp";
pub const MAIL: &str = "https://mail.example";
/// Redirect URIs of the client `app`.
pub const LOOPBACK: &str = "http://127.0.0.1:7777/callback";
pub const WEB: &str = "https://app.example/callback?app=1";
pub const SECRET: &str = "s3cret+with:odd%characters";
// RFC 7636, appendix B.
pub const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
pub const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
pub const USER_AGENT: &str = "client/1.0";
pub const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
pub const PASSWORD: &str = "correct horse";

pub struct TestServer {
    pub app: Arc<App>,
    pub clock: Clock,
    pub public: SocketAddr,
    pub internal: SocketAddr,
    audit: Audit,
    audit_lines: AuditLines,
    http: Client<HttpConnector, Full<Bytes>>,
    shutdown: Shutdown,
    files: TempDir,
}

/// What the audit has written.
#[derive(Clone, Default)]
struct AuditLines(Arc<Mutex<Vec<u8>>>);

impl Write for AuditLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What differs from the usual server.
pub struct Setup {
    /// `{PORT}` stands for the public port.
    pub issuer: &'static str,
    pub local_users: bool,
    pub store: Arc<dyn Store>,
    pub connections: usize,
    /// `{FILES}` stands for the folder of its files.
    pub more: &'static str,
    /// The content of the keys file.
    pub pepper: String,
}

/// A line of the keys file, which is another for each version.
pub fn pepper(version: u8) -> String {
    format!("{version}:{}\n", STANDARD.encode([version; 32]))
}

/// The id and the secret of a resource server elsewhere, which introspects tokens for `NOTES`.
pub const REMOTE: (&str, &str) = ("remote-notes", "5f0c1d8e9b7a4632aa10fe5d7c3b9841");

/// In the file `{FILES}/initial-access-token`.
pub const INITIAL_ACCESS_TOKEN: &str = "d1c3a0f2b45e4978a6ce50b1f7398e24";

impl Default for Setup {
    fn default() -> Self {
        Self {
            issuer: "http://localhost:{PORT}",
            local_users: false,
            store: Arc::new(MemoryStore::default()),
            connections: Limits::PUBLIC.connections,
            more: "registration: { dynamic: {}, allowedRedirectSchemes: [cursor] }",
            pepper: pepper(1),
        }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.shutdown.cut();
    }
}

impl TestServer {
    /// Everybody is `developer`.
    pub async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    /// `alice` and `bob` log in.
    pub async fn with_users() -> Self {
        Self::with(Setup {
            issuer: "https://auth.example",
            local_users: true,
            ..Setup::default()
        })
        .await
    }

    /// The same on plain http, which browsers can reach.
    pub async fn with_users_on_loopback() -> Self {
        Self::with(Setup {
            local_users: true,
            ..Setup::default()
        })
        .await
    }

    pub async fn with(setup: Setup) -> Self {
        Self::try_with(setup).await.unwrap()
    }

    pub async fn try_with(setup: Setup) -> Result<Self, StartError> {
        let public = Listener::bind("test", "127.0.0.1:0").await.unwrap();
        let internal = Listener::bind("test", "127.0.0.1:0").await.unwrap();
        let (public_at, internal_at) = (public.address(), internal.address());
        let port = public_at.port().to_string();
        let issuer = setup.issuer.replace("{PORT}", &port);
        let files = tempfile::tempdir().unwrap();
        let more = setup
            .more
            .replace("{FILES}", &files.path().display().to_string());
        let text = configuration(&files, &issuer, setup.local_users, &more);
        std::fs::write(files.path().join("pepper"), setup.pepper).unwrap();
        let config = Config::parse(&text).unwrap();
        let clock = Clock::manual(UnixTime::from_seconds(1_800_000_000));
        let metrics = Arc::new(Metrics::default());
        let audit_lines = AuditLines::default();
        let audit = match config.audit {
            true => Audit::start(
                audit_lines.clone(),
                clock.clone(),
                metrics.audit_lines.clone(),
            ),
            false => Ok(Audit::off()),
        };
        let audit = audit.unwrap();
        let app = App::new(config, setup.store, clock.clone(), metrics, audit.clone());
        let app = Arc::new(app.await?);
        let shutdown = Shutdown::default();
        let limits = Limits {
            connections: setup.connections,
            ..Limits::PUBLIC
        };
        let routes = routes::public::router(app.public.clone());
        tokio::spawn(serve(public, routes, limits, shutdown.clone()));
        let port = InternalPort::new(app.internal.clone());
        tokio::spawn(serve_internal(internal, port, limits, shutdown.clone()));
        Ok(Self {
            app,
            clock,
            public: public_at,
            internal: internal_at,
            audit,
            audit_lines,
            http: Client::builder(TokioExecutor::new()).build_http(),
            shutdown,
            files,
        })
    }

    /// The audit lines since the last call.
    pub fn audited(&self) -> Vec<Value> {
        assert!(self.audit.flush(Duration::from_secs(10)));
        let text = std::mem::take(&mut *self.audit_lines.0.lock().unwrap());
        let text = String::from_utf8(text).unwrap();
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        text.lines().map(parse).collect()
    }

    pub fn issuer(&self) -> &str {
        self.app.core.issuer.as_str()
    }

    pub fn users_file(&self) -> PathBuf {
        self.file("users.yaml")
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// By a client with [`USER_AGENT`], in the trace [`TRACE`].
    pub async fn send(&self, mut request: Request<Full<Bytes>>) -> Answer {
        let headers = request.headers_mut();
        let agent = HeaderValue::from_static(USER_AGENT);
        headers.entry(header::USER_AGENT).or_insert(agent);
        let trace = format!("00-{TRACE}-00f067aa0ba902b7-01").parse().unwrap();
        headers.entry("traceparent").or_insert(trace);
        let response = self.http.request(request).await.unwrap();
        Answer::of(response).await
    }

    /// A request to the public port; `path` may be a URL under the issuer.
    pub fn public(&self, method: Method, path: &str) -> http::request::Builder {
        let path = path.strip_prefix(self.issuer()).unwrap_or(path);
        let uri = format!("http://{}{path}", self.public);
        Request::builder().method(method).uri(uri)
    }

    /// A request to the internal port by `credential:ID`.
    pub fn internal(&self, method: Method, path: &str, id: &str) -> http::request::Builder {
        let uri = format!("http://{}{path}", self.internal);
        let request = Request::builder().method(method).uri(uri);
        request.header(header::AUTHORIZATION, basic(id, &format!("secret-of-{id}")))
    }

    pub async fn get(&self, path: &str) -> Answer {
        let request = self.public(Method::GET, path);
        self.send(request.body(Full::default()).unwrap()).await
    }

    pub async fn post(&self, path: &str, form: &[(&str, &str)]) -> Answer {
        self.post_with(path, &[], form).await
    }

    pub async fn post_with(
        &self,
        path: &str,
        headers: &[(header::HeaderName, &str)],
        form: &[(&str, &str)],
    ) -> Answer {
        let mut request = self
            .public(Method::POST, path)
            .header(header::CONTENT_TYPE, FORM);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        self.send(request.body(query(form).into()).unwrap()).await
    }

    pub async fn token(&self, form: &[(&str, &str)]) -> Answer {
        self.post("/token", form).await
    }

    /// `/authorize` with a good request, in which these parameters are changed or added; an empty value
    /// takes a parameter out.
    pub async fn authorize(&self, changes: &[(&str, &str)]) -> Answer {
        self.get(&authorize_path(changes)).await
    }

    /// A code for the client `app`.
    pub async fn code(&self, changes: &[(&str, &str)]) -> String {
        let answer = self.authorize(changes).await;
        answer
            .location_param("code")
            .unwrap_or_else(|| panic!("no code: {answer:?}"))
    }

    /// Redeems a code as the client `app`.
    pub async fn redeem(&self, code: &str) -> Answer {
        self.token(&[
            ("grant_type", "authorization_code"),
            ("client_id", "app"),
            ("code", code),
            ("code_verifier", VERIFIER),
        ])
        .await
    }

    /// Refreshes as the client `app`.
    pub async fn refresh(&self, refresh_token: &str) -> Answer {
        self.token(&[
            ("grant_type", "refresh_token"),
            ("client_id", "app"),
            ("refresh_token", refresh_token),
        ])
        .await
    }

    /// Tokens for the client `app`.
    pub async fn tokens(&self, changes: &[(&str, &str)]) -> Value {
        let code = self.code(changes).await;
        self.redeem(&code).await.ok()
    }

    pub async fn introspect_as(&self, id: &str, token: &str) -> Answer {
        self.introspect_with(id, &[("token", token)]).await
    }

    pub async fn introspect_with(&self, id: &str, form: &[(&str, &str)]) -> Answer {
        let request = self
            .internal(Method::POST, "/introspect", id)
            .header(header::CONTENT_TYPE, FORM);
        self.send(request.body(query(form).into()).unwrap()).await
    }

    /// Whether the resource NOTES takes this token.
    pub async fn is_active(&self, token: &str) -> bool {
        let answer = self.introspect_as("notes-proxy", token).await;
        answer.ok()["active"].as_bool().unwrap()
    }

    /// What a replica with this clock removes.
    pub async fn remove_expired(&self, now: UnixTime) {
        let limits = DynamicRegistration::default();
        let unused = Unused {
            never_used_since: now.minus(limits.never_used()),
            idle_since: now.minus(limits.idle()),
        };
        let store = &self.app.core.store;
        while store.remove_expired(unused, now).await.unwrap() {}
    }

    pub async fn admin(&self, method: Method, path: &str, body: &Value) -> Answer {
        let request = self.internal(method, path, "operator");
        self.send(request.body(body.to_string().into()).unwrap())
            .await
    }

    /// Puts a client with these fields in place of the usual ones.
    pub async fn put_client(&self, id: &str, changes: Value) {
        let mut client = json!({
            "clientName": id, "tokenEndpointAuthMethod": "none", "redirectUris": [LOOPBACK],
            "grantTypes": ["authorization_code", "refresh_token"],
            "namespace": "team", "resources": everything(),
        });
        for (name, value) in changes.as_object().unwrap() {
            client[name] = value.clone();
        }
        let path = format!("/admin/v1/clients/{id}");
        self.admin(Method::PUT, &path, &client).await.ok();
    }
}

/// What a client may have at `NOTES`.
pub fn notes(scopes: &[&str]) -> Value {
    json!({ "uri": NOTES, "scopes": scopes })
}

/// All that there is.
fn everything() -> Value {
    json!([notes(&["notes:read", "notes:write"]), { "uri": MAIL, "scopes": ["mail:send"] }])
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    pub async fn of<B>(response: http::Response<B>) -> Self
    where
        B: hyper::body::Body<Error: std::fmt::Debug>,
    {
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Self {
            status: parts.status,
            headers: parts.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    pub fn header(&self, name: header::HeaderName) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body of a 200.
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{self:?}");
        self.json()
    }

    /// Asserts an OAuth error.
    pub fn is_error(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.json()["error"], code, "{self:?}");
        assert_eq!(self.header(header::CACHE_CONTROL), "no-store");
    }

    pub fn location_param(&self, name: &str) -> Option<String> {
        let location =
            url::Url::parse(self.headers.get(header::LOCATION)?.to_str().unwrap()).unwrap();
        let found = location.query_pairs().find(|(known, _)| known == name)?;
        Some(found.1.into_owned())
    }
}

pub const FORM: &str = "application/x-www-form-urlencoded";

pub fn query(params: &[(&str, &str)]) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(params).finish()
}

pub fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

pub fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value}"))
        .to_owned()
}

pub fn authorize_path(changes: &[(&str, &str)]) -> String {
    let usual = [
        ("response_type", "code"),
        ("client_id", "app"),
        ("redirect_uri", LOOPBACK),
        ("state", "st&te"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
        ("resource", NOTES),
        ("scope", "notes:read"),
    ];
    let kept = usual
        .into_iter()
        .filter(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
    let added = changes
        .iter()
        .copied()
        .filter(|(_, value)| !value.is_empty());
    format!(
        "/authorize?{}",
        query(&kept.chain(added).collect::<Vec<_>>())
    )
}

pub fn password_hash(password: &str) -> String {
    // The cheapest parameters: many tests hash.
    let params = argon2::Params::new(8, 1, 1, None).unwrap();
    let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let salt = SaltString::encode_b64(b"salt of the tests").unwrap();
    argon2
        .hash_password(password.as_bytes(), &salt)
        .unwrap()
        .to_string()
}

pub fn configuration(files: &TempDir, issuer: &str, local_users: bool, more: &str) -> String {
    let write = |name: &str, content: &str| {
        let path = files.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let pepper = write("pepper", "1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n");
    let login = if local_users {
        let hash = password_hash(PASSWORD);
        let user = |name| json!({ "name": name, "passwordHash": hash });
        let users = json!({ "users": [user("alice"), user("bob")] });
        json!({ "localUsers": { "file": write("users.yaml", &users.to_string()) } })
    } else {
        json!({ "developmentAutoApprove": { "subject": "developer" } })
    };
    let credential = |id: &str| {
        let file = write(id, &format!("secret-of-{id}\n"));
        json!({ "id": id, "secretFile": file })
    };
    write(REMOTE.0, REMOTE.1);
    write("initial-access-token", INITIAL_ACCESS_TOKEN);
    let rest = json!({
        "issuer": issuer,
        "listen": { "public": "127.0.0.1:0", "internal": "127.0.0.1:0", "health": "127.0.0.1:0" },
        "keysFile": pepper,
        "storage": { "memory": {} },
        "login": login,
        "internal": {
            "credentials": [credential("operator"), credential("notes-proxy"), credential("mail-proxy")],
            "admins": ["credential:operator"],
        },
        "resources": [
            { "id": "notes", "resource": NOTES, "name": "notes", "introspectors": ["credential:notes-proxy", "credential:remote-notes"],
              "allowedClients": { "namespaces": ["team"], "selfRegistered": true },
              "scopes": [
                { "name": "notes:read", "description": "Read notes" },
                { "name": "notes:write", "description": "Change notes", "implies": ["notes:read"] },
              ] },
            { "id": "mail", "resource": MAIL, "name": "mail", "introspectors": ["credential:mail-proxy"],
              "allowedClients": { "namespaces": ["team"], "selfRegistered": true },
              "scopes": [{ "name": "mail:send", "description": "Send mail" }] },
        ],
        "clients": [
            { "clientId": "app", "clientName": "The app", "tokenEndpointAuthMethod": "none",
              "redirectUris": [LOOPBACK, WEB], "grantTypes": ["authorization_code", "refresh_token"],
              "namespace": "team", "resources": everything() },
            { "clientId": "robot", "clientName": "Robot", "tokenEndpointAuthMethod": "client_secret_basic",
              "clientSecret": SECRET, "grantTypes": ["client_credentials"],
              "namespace": "team", "resources": [notes(&["notes:write"])] },
            { "clientId": "poster", "tokenEndpointAuthMethod": "client_secret_post",
              "clientSecret": SECRET, "grantTypes": ["client_credentials"],
              "namespace": "team", "resources": [notes(&["notes:read"])] },
        ],
    });
    // JSON is YAML; members of the object without its braces are not, so each goes on a line.
    let members = rest.as_object().unwrap().iter();
    let lines = members.map(|(key, value)| format!("{key}: {value}\n"));
    let text = lines.collect::<String>() + more + "\n";
    match more.contains("signingKeys") {
        true => text,
        // An RSA key takes as long to make as many a test.
        false => text + "signingKeys: { algorithms: [ES256] }\n",
    }
}
