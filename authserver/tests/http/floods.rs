//! What a known user feels while somebody else floods the server: sign-in, token and introspection succeed, and the
//! server's memory stays as it is. A process, sockets, and an address of its own for each attacker, so that limits by network
//! can tell them from the user.
//!
//! Each flood lasts ten seconds; `make test-long` repeats them.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Method, header};
use mcp_authserver::keys::signing_key::SigningKey;
use mcpauth_service::clock::Clock;
use mcpauth_test_support::memory::Memory;
use mcpauth_test_support::postgres::Postgres;
use mcpauth_wire::authserver_config::SigningAlgorithm;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, interval, timeout};

use crate::assertion;
use crate::process::{Running, on_postgres};
use crate::server::{
    FORM, LOOPBACK, PASSWORD, VERIFIER, authorize_path, basic, configuration, notes, query, text,
};

const FLOOD: Duration = Duration::from_secs(10);
/// After which the server's memory has what the flood makes it hold.
const WARM_UP: Duration = Duration::from_secs(4);
/// How often the user does all that they do.
const PACE: Duration = Duration::from_millis(250);
/// No limit of what is good: the end of a test that hangs.
const HANGS: Duration = Duration::from_secs(25);
/// How many requests are under way at once, and from how many addresses.
const ATTACKERS: u8 = 64;
const ADDRESSES: u8 = 16;
/// How many sockets of an attacker stay open: all together, twice as many as the port takes.
const HELD: usize = 64;

#[derive(Clone, Copy, Debug)]
enum Flood {
    MadeUpLogins,
    IdleSockets,
    SlowReaders,
    Registrations,
    Discovery,
    FailingTokenRequests,
    WrongSecrets,
    BadAssertions,
    JunkBearersInside,
    Refreshes,
}

macro_rules! floods {
    ($store:ident, $storage:expr, $($name:ident: $flood:ident,)+) => {
        mod $store {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::withstand(super::Flood::$flood, $storage).await;
            })+
        }
    };
}

floods! {
    in_memory, None,
    made_up_logins: MadeUpLogins,
    idle_sockets: IdleSockets,
    slow_readers: SlowReaders,
    registrations: Registrations,
    discovery: Discovery,
    failing_token_requests: FailingTokenRequests,
    wrong_client_secrets: WrongSecrets,
    bad_assertions: BadAssertions,
    junk_bearers_inside: JunkBearersInside,
    refreshes: Refreshes,
}

// Those that the database is asked about: its connections are fewer than the requests.
floods! {
    on_postgres, Some(super::Postgres::shared()),
    registrations: Registrations,
    failing_token_requests: FailingTokenRequests,
    wrong_client_secrets: WrongSecrets,
    refreshes: Refreshes,
}

/// An answer as it came.
struct Raw {
    status: u16,
    head: String,
    body: String,
}

impl Raw {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    fn ticket(&self) -> String {
        let (_, rest) = self.body.split_once(r#"name="ticket" value=""#).unwrap();
        rest.split('"').next().unwrap().to_owned()
    }
}

/// The ports of the server.
#[derive(Clone, Copy)]
struct Target {
    public: SocketAddr,
    internal: SocketAddr,
}

async fn connect(from: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((IpAddr::from(from), 0).into())?;
    socket.connect(to).await
}

/// One request on a connection of its own.
async fn ask(
    from: Ipv4Addr,
    to: SocketAddr,
    (method, path): (Method, &str),
    headers: &[(header::HeaderName, &str)],
    body: &str,
) -> io::Result<Raw> {
    let mut stream = connect(from, to).await?;
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    stream
        .write_all(format!("{request}\r\n{body}").as_bytes())
        .await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.get(9..12).and_then(|status| status.parse().ok());
    Ok(Raw {
        status: status.ok_or(io::ErrorKind::InvalidData)?,
        head: head.to_owned(),
        body: body.to_owned(),
    })
}

async fn post(
    from: Ipv4Addr,
    to: SocketAddr,
    path: &str,
    authorization: &str,
    form: &[(&str, &str)],
) -> io::Result<Raw> {
    let headers = [
        (header::CONTENT_TYPE, FORM),
        (header::AUTHORIZATION, authorization),
    ];
    let headers = if authorization.is_empty() {
        &headers[..1]
    } else {
        &headers
    };
    ask(from, to, (Method::POST, path), headers, &query(form)).await
}

/// A user with a browser and a client. Every step must succeed.
struct User {
    at: Ipv4Addr,
    name: &'static str,
    target: Target,
    cookies: BTreeMap<String, String>,
}

impl User {
    fn new(target: Target, at: Ipv4Addr, name: &'static str) -> Self {
        Self {
            at,
            name,
            target,
            cookies: BTreeMap::new(),
        }
    }

    async fn browse(&mut self, method: Method, path: &str, form: &[(&str, &str)]) -> Raw {
        let cookies = self.cookies.iter();
        let cookies: Vec<_> = cookies
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let cookies = cookies.join("; ");
        let headers = [
            (header::CONTENT_TYPE, FORM),
            (header::COOKIE, cookies.as_str()),
        ];
        let body = query(form);
        let asked = ask(self.at, self.target.public, (method, path), &headers, &body);
        let answer = timeout(HANGS, asked).await.expect(path).expect(path);
        for line in answer.head.lines() {
            let Some(cookie) = line.strip_prefix("set-cookie: ") else {
                continue;
            };
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        answer
    }

    async fn log_in(&mut self) {
        let path = authorize_path(&[("prompt", "login")]);
        let page = self.browse(Method::GET, &path, &[]).await;
        assert_eq!(page.status, 200, "{}", page.body);
        let ticket = page.ticket();
        let form = [
            ("ticket", ticket.as_str()),
            ("username", self.name),
            ("password", PASSWORD),
        ];
        let answer = self.browse(Method::POST, "/login", &form).await;
        assert_eq!(answer.status, 303, "{}", answer.body);
    }

    async fn tokens(&mut self) -> Value {
        let page = self.browse(Method::GET, &authorize_path(&[]), &[]).await;
        assert_eq!(page.status, 200, "{}", page.body);
        let ticket = page.ticket();
        let form = [("ticket", ticket.as_str()), ("decision", "allow")];
        let answer = self.browse(Method::POST, "/consent", &form).await;
        let (_, code) = answer.head.split_once("code=").expect(&answer.body);
        let code = code.split('&').next().unwrap();
        let form = [
            ("grant_type", "authorization_code"),
            ("client_id", "app"),
            ("code", code),
            ("code_verifier", VERIFIER),
        ];
        let asked = post(self.at, self.target.public, "/token", "", &form);
        let answer = timeout(HANGS, asked).await.unwrap().unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    }

    /// What a resource server asks.
    async fn introspect(&self, tokens: &Value) {
        let caller = basic("notes-proxy", "secret-of-notes-proxy");
        let token = text(&tokens["access_token"]);
        let form = [("token", token.as_str())];
        let asked = post(self.at, self.target.internal, "/introspect", &caller, &form);
        let answer = timeout(HANGS, asked).await.unwrap().unwrap();
        assert_eq!(answer.json()["active"], true, "{}", answer.body);
    }
}

/// One of those who flood.
struct Attacker {
    flood: Flood,
    at: Ipv4Addr,
    target: Target,
    count: usize,
    held: Vec<TcpStream>,
    /// The page that a stranger gets.
    ticket: String,
    cookie: String,
    /// Of a user who floods.
    tokens: Value,
    key: SigningKey,
}

impl Attacker {
    async fn new(flood: Flood, at: Ipv4Addr, target: Target) -> Self {
        let mut user = User::new(target, at, "bob");
        let page = user.browse(Method::GET, &authorize_path(&[]), &[]).await;
        let cookie = user.cookies.iter().next().unwrap();
        let cookie = format!("{}={}", cookie.0, cookie.1);
        let mut tokens = Value::Null;
        if matches!(flood, Flood::Refreshes) {
            user.log_in().await;
            tokens = user.tokens().await;
        }
        Self {
            flood,
            at,
            target,
            count: 0,
            held: Vec::new(),
            ticket: page.ticket(),
            cookie,
            tokens,
            key: SigningKey::generate(SigningAlgorithm::Es256).unwrap(),
        }
    }

    /// One request, or one connection. Whether it arrived; whatever else comes of it is the server's affair.
    async fn strike(&mut self) -> bool {
        self.count += 1;
        let (at, Target { public, internal }) = (self.at, self.target);
        let answer = match self.flood {
            Flood::MadeUpLogins => {
                let name = format!("made-up-{at}-{}", self.count);
                let form = [
                    ("ticket", self.ticket.as_str()),
                    ("username", &name),
                    ("password", "wrong"),
                ];
                let headers = [(header::CONTENT_TYPE, FORM), (header::COOKIE, &self.cookie)];
                ask(
                    at,
                    public,
                    (Method::POST, "/login"),
                    &headers,
                    &query(&form),
                )
                .await
            }
            Flood::IdleSockets => return self.hold("").await,
            Flood::SlowReaders => {
                let requests = "GET /jwks HTTP/1.1\r\nHost: x\r\n\r\n".repeat(64);
                return self.hold(&requests).await;
            }
            Flood::Registrations => {
                let body = json!({
                    "redirect_uris": [LOOPBACK], "client_name": "x".repeat(200),
                    "client_uri": format!("https://a.example/{}", "a".repeat(2000)),
                });
                ask(
                    at,
                    public,
                    (Method::POST, "/register"),
                    &[],
                    &body.to_string(),
                )
                .await
            }
            Flood::Discovery => {
                let path = "/.well-known/oauth-authorization-server";
                ask(at, public, (Method::GET, path), &[], "").await
            }
            Flood::FailingTokenRequests => {
                let form = [
                    ("grant_type", "refresh_token"),
                    ("client_id", "app"),
                    ("refresh_token", "mrt_guess"),
                ];
                post(at, public, "/token", "", &form).await
            }
            Flood::WrongSecrets => {
                let form = [("grant_type", "client_credentials")];
                post(at, public, "/token", &basic("robot", "guess"), &form).await
            }
            Flood::BadAssertions => {
                let jwt = self.assertion();
                let form = [
                    ("grant_type", "client_credentials"),
                    ("client_assertion_type", assertion::TYPE),
                    ("client_assertion", &jwt),
                ];
                post(at, public, "/token", "", &form).await
            }
            Flood::JunkBearersInside => {
                let junk = format!("Bearer junk-{}", self.count);
                post(at, internal, "/introspect", &junk, &[("token", "x")]).await
            }
            Flood::Refreshes => {
                let token = text(&self.tokens["refresh_token"]);
                let form = [
                    ("grant_type", "refresh_token"),
                    ("client_id", "app"),
                    ("refresh_token", &token),
                ];
                let answer = post(at, public, "/token", "", &form).await;
                if let Ok(answer) = answer.as_ref()
                    && answer.status == 200
                {
                    self.tokens = answer.json();
                }
                answer
            }
        };
        answer.is_ok()
    }

    /// Signed by a key that is not the client's.
    fn assertion(&self) -> String {
        let claims = json!({
            "iss": "signer", "sub": "signer", "aud": "https://auth.example",
            "exp": Clock::system().now().as_seconds() + 60, "jti": format!("{}-{}", self.at, self.count),
        });
        assertion::signed(&self.key, &claims)
    }

    /// Holds a connection, on which this was sent and nothing is read.
    async fn hold(&mut self, sent: &str) -> bool {
        if self.held.len() == HELD {
            self.held.remove(0);
        }
        let connected = timeout(Duration::from_secs(1), connect(self.at, self.target.public));
        let Ok(Ok(mut stream)) = connected.await else {
            return false;
        };
        // As much as goes out at once: the server does not read on while nobody reads its answers.
        let _ = timeout(Duration::from_millis(10), stream.write_all(sent.as_bytes())).await;
        self.held.push(stream);
        true
    }
}

/// A server with users whose passwords cost what they cost, and a client with a key.
fn start(database: Option<&str>) -> Running {
    let files = tempfile::tempdir().unwrap();
    // The user signs in more often than people do.
    let more = "registration: { dynamic: {} }
rateLimit: { loginFailuresPerMinute: 1000 }";
    let text = configuration(&files, "https://auth.example", true, more);
    let text = match database {
        Some(url) => on_postgres(&files, &text, url, 16),
        None => text,
    };
    let line = text
        .lines()
        .find(|line| line.starts_with("clients: "))
        .unwrap();
    let mut clients: Vec<Value> = serde_json::from_str(&line["clients: ".len()..]).unwrap();
    clients.push(json!({
        "clientId": "signer", "tokenEndpointAuthMethod": "private_key_jwt", "grantTypes": ["client_credentials"],
        "jwks": { "keys": [SigningKey::generate(SigningAlgorithm::Es256).unwrap().public_jwk()] },
        "namespace": "team", "resources": [notes(&["notes:read"])],
    }));
    let text = text.replace(line, &format!("clients: {}", json!(clients)));
    let hash = mcp_authserver::login::password::hash(PASSWORD, [7; 16]).unwrap();
    let user = |name: &str| json!({ "name": name, "passwordHash": hash });
    let users = json!({ "users": [user("alice"), user("bob")] });
    std::fs::write(files.path().join("users.yaml"), users.to_string()).unwrap();
    Running::with(files, &text, "error,mcp_authserver::run=info")
}

async fn withstand(flood: Flood, postgres: Option<&Postgres>) {
    let url = match postgres {
        Some(postgres) => Some(postgres.create_database().await),
        None => None,
    };
    let running = start(url.as_deref());
    let port = |number: usize| running.addresses[number].parse().unwrap();
    let target = Target {
        public: port(0),
        internal: port(1),
    };
    let memory = || Memory::of(running.process.id()).unwrap().allocated;
    // In a browser that the user has signed in with before.
    let mut user = User::new(target, Ipv4Addr::LOCALHOST, "alice");
    user.log_in().await;

    let began = Instant::now();
    let strikes = Arc::new(AtomicUsize::new(0));
    let attackers = (0..ATTACKERS).map(|number| {
        let at = Ipv4Addr::new(127, 0, 0, 100 + number % ADDRESSES);
        let strikes = Arc::clone(&strikes);
        tokio::spawn(async move {
            let mut attacker = Attacker::new(flood, at, target).await;
            while began.elapsed() < FLOOD {
                let arrived = timeout(HANGS, attacker.strike()).await;
                strikes.fetch_add(usize::from(arrived == Ok(true)), Ordering::Relaxed);
            }
        })
    });
    let attackers: Vec<_> = attackers.collect();
    let mut pace = interval(PACE);
    let mut warm = None;
    while began.elapsed() < FLOOD {
        pace.tick().await;
        user.log_in().await;
        let tokens = user.tokens().await;
        user.introspect(&tokens).await;
        if warm.is_none() && began.elapsed() > WARM_UP {
            warm = Some(memory());
        }
    }
    let (warm, end) = (warm.unwrap(), memory());
    for attacker in attackers {
        attacker.await.unwrap();
    }
    let strikes = strikes.load(Ordering::Relaxed);
    println!("{flood:?}: {strikes} strikes, {warm} MB, then {end} MB");
    assert!(
        strikes > usize::from(ADDRESSES),
        "{strikes} strikes are no flood"
    );
    assert!(end < warm + 24.0 && end < 160.0, "{warm} MB, then {end} MB");
}
