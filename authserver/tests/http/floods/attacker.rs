//! Those who flood.

use std::net::Ipv4Addr;
use std::time::Duration;

use http::{Method, header};
use mcp_authserver::keys::signing_key::SigningKey;
use mcpauth_service::clock::Clock;
use mcpauth_wire::authserver_config::SigningAlgorithm;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Flood;
use super::requests::{Line, Target, connect};
use super::user::User;
use crate::assertion;
use crate::server::{FORM, LOOPBACK, authorize_path, basic, query, text};

/// How many sockets of an attacker stay open: all together, twice as many as the port takes.
const HELD: usize = 64;

/// One of those who flood.
pub(super) struct Attacker {
    flood: Flood,
    at: Ipv4Addr,
    target: Target,
    count: usize,
    held: Vec<TcpStream>,
    /// For requests: a flood of connections is another matter.
    line: Line,
    /// The page that a stranger gets.
    ticket: String,
    cookie: String,
    /// Of a user who floods.
    tokens: Value,
    key: SigningKey,
}

impl Attacker {
    pub async fn new(flood: Flood, at: Ipv4Addr, target: Target) -> Self {
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
            line: Line::new(at),
            ticket: page.ticket(),
            cookie,
            tokens,
            key: SigningKey::generate(SigningAlgorithm::Es256).unwrap(),
        }
    }

    /// One request, or one connection. Whether it arrived; whatever else comes of it is the server's affair.
    pub async fn strike(&mut self) -> bool {
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
                let login = (Method::POST, "/login");
                self.line.ask(public, login, &headers, &query(&form)).await
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
                let register = (Method::POST, "/register");
                self.line
                    .ask(public, register, &[], &body.to_string())
                    .await
            }
            Flood::Discovery => {
                let path = "/.well-known/oauth-authorization-server";
                self.line.ask(public, (Method::GET, path), &[], "").await
            }
            Flood::FailingTokenRequests => {
                let form = [
                    ("grant_type", "refresh_token"),
                    ("client_id", "app"),
                    ("refresh_token", "mrt_guess"),
                ];
                self.line.post(public, "/token", "", &form).await
            }
            Flood::WrongSecrets => {
                let form = [("grant_type", "client_credentials")];
                self.line
                    .post(public, "/token", &basic("robot", "guess"), &form)
                    .await
            }
            Flood::BadAssertions => {
                let jwt = self.assertion();
                let form = [
                    ("grant_type", "client_credentials"),
                    ("client_assertion_type", assertion::TYPE),
                    ("client_assertion", &jwt),
                ];
                self.line.post(public, "/token", "", &form).await
            }
            Flood::JunkBearersInside => {
                let junk = format!("Bearer junk-{}", self.count);
                self.line
                    .post(internal, "/introspect", &junk, &[("token", "x")])
                    .await
            }
            Flood::Refreshes => {
                let token = text(&self.tokens["refresh_token"]);
                let form = [
                    ("grant_type", "refresh_token"),
                    ("client_id", "app"),
                    ("refresh_token", &token),
                ];
                let answer = self.line.post(public, "/token", "", &form).await;
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
