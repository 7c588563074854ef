//! A small RFC 7662 endpoint that says what a test wants: also what ours would never say.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mcpauth_service::listener::{Limits, Listener};
use mcpauth_service::shutdown::Shutdown;
use mcpauth_service::tls::ServerTls;
use mcpauth_test_support::certificates::Authority;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::{NOW, RESOURCE};

/// The token that the proxy shows.
pub const CREDENTIAL: &str = "proxy-credential";

#[derive(Clone)]
pub struct IntrospectionServer {
    pub address: SocketAddr,
    state: Arc<State>,
}

struct State {
    answers: Mutex<HashMap<String, (StatusCode, Vec<u8>)>>,
    /// The tokens that were asked for, and the credential that came with it.
    asked: Mutex<Vec<(String, String)>>,
    /// For which tokens the question was also what could be granted.
    asked_grantable: Mutex<Vec<String>>,
    /// A question is answered when it gets a permit.
    gate: Semaphore,
    arrivals: Semaphore,
}

impl IntrospectionServer {
    fn at(address: SocketAddr) -> Self {
        Self {
            address,
            state: Arc::new(State {
                answers: Mutex::default(),
                asked: Mutex::default(),
                asked_grantable: Mutex::default(),
                gate: Semaphore::new(1 << 20),
                arrivals: Semaphore::new(0),
            }),
        }
    }

    /// With a certificate for `host`.
    pub async fn with_tls(authority: &Authority, host: &str) -> Self {
        let (certificate, key) = authority.certify(host);
        let read = |path| std::fs::read(path).unwrap();
        let tls = ServerTls::new(&read(certificate), &read(key)).unwrap();
        let listener = Listener::bind("test", "127.0.0.1:0").await.unwrap();
        let server = Self::at(listener.address());
        let state = Arc::clone(&server.state);
        let answer = move |request, _| answer(Arc::clone(&state), request);
        let listener = listener.with_tls(tls);
        tokio::spawn(listener.serve_http1(Limits::INTERNAL, Shutdown::default(), answer));
        server
    }

    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self::at(listener.local_addr().unwrap());
        let state = Arc::clone(&server.state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&state);
                let service = service_fn(move |request| answer(Arc::clone(&state), request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        server
    }

    /// From now on `token` is good for `scope` of our resource, for an hour, for client and
    /// subject.
    pub fn grant(&self, token: &str, scope: &str) {
        self.set(token, &active(scope));
    }

    /// From now on `token` belongs to this client and subject.
    pub fn grant_to(&self, token: &str, client_id: &str, subject: &str) {
        let mut answer = active("notes:read notes:write");
        answer["client_id"] = json!(client_id);
        answer["sub"] = json!(subject);
        self.set(token, &answer);
    }

    /// From now on `alice` has two tokens with one client and one with another, and `bob` has one.
    pub fn grant_to_alice_and_bob(&self) {
        self.grant_to("alice", "client", "alice");
        self.grant_to("alice-again", "client", "alice");
        self.grant_to("alice-elsewhere", "other", "alice");
        self.grant_to("bob", "client", "bob");
    }

    /// From now on this is the answer for `token`.
    pub fn set(&self, token: &str, answer: &Value) {
        self.respond(token, StatusCode::OK, answer.to_string());
    }

    /// From now on this is the response for `token`.
    pub fn respond(&self, token: &str, status: StatusCode, body: impl Into<Vec<u8>>) {
        let mut answers = self.state.answers.lock().unwrap();
        answers.insert(token.to_owned(), (status, body.into()));
    }

    /// The tokens that were asked for.
    pub fn asked(&self) -> Vec<String> {
        let asked = self.state.asked.lock().unwrap();
        asked.iter().map(|(token, _)| token.clone()).collect()
    }

    /// The tokens for which the question was also what could be granted.
    pub fn asked_grantable(&self) -> Vec<String> {
        self.state.asked_grantable.lock().unwrap().clone()
    }

    /// The credentials that came with the questions.
    pub fn credentials(&self) -> Vec<String> {
        let asked = self.state.asked.lock().unwrap();
        asked
            .iter()
            .map(|(_, credential)| credential.clone())
            .collect()
    }

    /// From now on questions wait for [`Self::open`].
    pub fn close(&self) {
        self.state.gate.forget_permits(usize::MAX);
    }

    /// Lets this many questions through.
    pub fn open(&self, questions: usize) {
        self.state.gate.add_permits(questions);
    }

    /// Waits until this many further questions have arrived.
    pub async fn arrived(&self, questions: u32) {
        self.state
            .arrivals
            .acquire_many(questions)
            .await
            .unwrap()
            .forget();
    }
}

/// An answer about a good token.
pub fn active(scope: &str) -> Value {
    json!({
        "active": true, "scope": scope, "client_id": "client", "sub": "alice", "aud": RESOURCE,
        "iss": "http://localhost:9000", "exp": NOW + 3600, "token_type": "Bearer",
    })
}

async fn answer(
    state: Arc<State>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let credential = request.headers().get("authorization").cloned();
    let credential = credential.map_or(String::new(), |value| value.to_str().unwrap().to_owned());
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let form: HashMap<_, _> = url::form_urlencoded::parse(&body).collect();
    let token = form["token"].to_string();
    state
        .asked
        .lock()
        .unwrap()
        .push((token.clone(), credential.clone()));
    if form
        .get("grantable_scope")
        .is_some_and(|value| value == "true")
    {
        state.asked_grantable.lock().unwrap().push(token.clone());
    }
    state.arrivals.add_permits(1);
    state.gate.acquire().await.unwrap().forget();
    let known = state.answers.lock().unwrap().get(&token).cloned();
    let inactive = || (StatusCode::OK, br#"{"active":false}"#.to_vec());
    let (status, body) = if credential == format!("Bearer {CREDENTIAL}") {
        known.unwrap_or_else(inactive)
    } else {
        (StatusCode::UNAUTHORIZED, Vec::new())
    };
    let response = Response::builder().status(status).body(Full::from(body));
    Ok(response.unwrap())
}
