//! A load generator: connections, each with one request under way, so many requests.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    StatusCode,
    client::conn::http1,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpStream, task::JoinSet, time::Instant};

use crate::programs::{Authserver, CONNECTIONS, CREDENTIAL, SECRET, client_id};

/// Requests of one kind, which are sent over and over.
#[derive(Clone)]
pub struct Request {
    port: u16,
    path: &'static str,
    /// Of each connection.
    authorization: Arc<[String]>,
    content_type: &'static str,
    bodies: Bodies,
}

#[derive(Clone)]
enum Bodies {
    /// One after the other, from a place of its own for each connection.
    InTurn(Arc<[Bytes]>),
    /// A connection's refresh token, which the answer replaces.
    Refreshes {
        client: String,
        tokens: Arc<[Mutex<String>]>,
    },
}

impl Bodies {
    fn same(body: impl Into<Bytes>) -> Self {
        Self::InTurn([body.into()].into())
    }

    /// The body of a connection's next request.
    fn next(&self, connection: usize, number: usize) -> Result<Bytes> {
        match self {
            Self::InTurn(bodies) => {
                let begin = connection * bodies.len() / CONNECTIONS;
                Ok(bodies[(begin + number) % bodies.len()].clone())
            }
            Self::Refreshes { client, tokens } => {
                let token = lock(&tokens[connection]);
                let token = token.as_str();
                let form = "grant_type=refresh_token&client_id=";
                Ok(format!("{form}{client}&refresh_token={token}").into())
            }
        }
    }

    fn answered(&self, connection: usize, answer: &Bytes) -> Result<()> {
        if let Self::Refreshes { tokens, .. } = self {
            *lock(&tokens[connection]) = text(answer, "refresh_token")?;
        }
        Ok(())
    }
}

fn lock(token: &Mutex<String>) -> MutexGuard<'_, String> {
    token.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A member of a JSON answer.
fn text(answer: &Bytes, member: &str) -> Result<String> {
    let answer: Value = serde_json::from_slice(answer)?;
    let text = answer[member].as_str();
    Ok(text.with_context(|| format!("no {member}"))?.to_owned())
}

const FORM: &str = "application/x-www-form-urlencoded";

impl Request {
    /// A tools/call at a protected server.
    pub fn tools_call(port: u16, token: &str) -> Self {
        let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read_note","arguments":{"id":"0192d0a3-6d2f-7c4b-9c41-2f3b8c5d7e90"}}}"#;
        Self {
            port,
            path: "/mcp",
            authorization: [format!("Bearer {token}")].into(),
            content_type: "application/json",
            bodies: Bodies::same(body),
        }
    }

    /// Introspection (RFC 7662) of these tokens.
    pub fn introspect(port: u16, tokens: &[String]) -> Self {
        let bodies = tokens.iter().map(|token| format!("token={token}").into());
        Self {
            port,
            path: "/introspect",
            authorization: [basic(CREDENTIAL, SECRET)].into(),
            content_type: FORM,
            bodies: Bodies::InTurn(bodies.collect()),
        }
    }

    /// A token for a client itself; each connection is a client.
    pub fn client_credentials(authserver: &Authserver) -> Self {
        let clients = 0..CONNECTIONS;
        Self {
            port: authserver.program.port,
            path: "/token",
            authorization: clients.map(|n| basic(&client_id(n), SECRET)).collect(),
            content_type: FORM,
            bodies: Bodies::same("grant_type=client_credentials"),
        }
    }

    /// Refreshes, of a family of tokens for each connection.
    pub fn refresh(authserver: &Authserver, client: &str, tokens: Vec<String>) -> Self {
        Self {
            port: authserver.program.port,
            path: "/token",
            authorization: Arc::default(),
            content_type: FORM,
            bodies: Bodies::Refreshes {
                client: client.to_owned(),
                tokens: tokens.into_iter().map(Mutex::new).collect(),
            },
        }
    }

    fn build(&self, connection: usize, number: usize) -> Result<hyper::Request<Full<Bytes>>> {
        let mut request = hyper::Request::post(self.path)
            .header(HOST, format!("localhost:{}", self.port))
            .header(CONTENT_TYPE, self.content_type)
            .header(ACCEPT, "application/json, text/event-stream");
        if !self.authorization.is_empty() {
            let authorization = &self.authorization[connection % self.authorization.len()];
            request = request.header(AUTHORIZATION, authorization);
        }
        Ok(request.body(Full::new(self.bodies.next(connection, number)?))?)
    }
}

fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")))
}

/// What one measurement gave.
#[derive(Clone, Copy)]
pub struct Sample {
    /// Requests per second.
    pub rate: f64,
    /// Half of the requests took at most so many microseconds.
    pub p50: f64,
    /// 99 in a hundred requests took at most so many microseconds.
    pub p99: f64,
}

impl Sample {
    /// From the latencies of all requests, in microseconds, and the seconds that they took together.
    pub fn of(mut latencies: Vec<u64>, seconds: f64) -> Result<Self> {
        ensure!(!latencies.is_empty(), "nothing was measured");
        latencies.sort_unstable();
        let at = |percent: usize| latencies[(latencies.len() - 1) * percent / 100] as f64;
        Ok(Self {
            rate: latencies.len() as f64 / seconds,
            p50: at(50),
            p99: at(99),
        })
    }
}

/// Sends so many requests over [`CONNECTIONS`] connections. Any answer but 200 is an error: a refusal is quicker than an
/// answer.
pub async fn run(request: &Request, requests: usize) -> Result<Sample> {
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for number in 0..CONNECTIONS {
        let request = request.clone();
        tasks.spawn(connection(request, number, requests / CONNECTIONS, |_| ()));
    }
    let mut latencies = Vec::with_capacity(requests);
    while let Some(done) = tasks.join_next().await {
        latencies.extend(done??);
    }
    Sample::of(latencies, begin.elapsed().as_secs_f64())
}

/// The access tokens of so many answers.
pub async fn tokens(request: &Request, count: usize) -> Result<Vec<String>> {
    let answers = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = JoinSet::new();
    for number in 0..CONNECTIONS {
        let answers = Arc::clone(&answers);
        let keep = move |answer: &Bytes| {
            answers
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(answer.clone());
        };
        let each = count.div_ceil(CONNECTIONS);
        tasks.spawn(connection(request.clone(), number, each, keep));
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
    let answers = answers.iter().take(count);
    answers.map(|answer| text(answer, "access_token")).collect()
}

async fn connection(
    request: Request,
    number: usize,
    requests: usize,
    keep: impl Fn(&Bytes),
) -> Result<Vec<u64>> {
    let stream = TcpStream::connect(("127.0.0.1", request.port)).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let mut latencies = Vec::with_capacity(requests);
    for turn in 0..requests {
        let built = request.build(number, turn)?;
        let begin = Instant::now();
        sender.ready().await.context("the connection was closed")?;
        let response = sender.send_request(built).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        latencies.push(u64::try_from(begin.elapsed().as_micros())?);
        ensure!(
            status == StatusCode::OK && !body.starts_with(br#"{"active":false"#),
            "answered {status} {}",
            String::from_utf8_lossy(&body)
        );
        request.bodies.answered(number, &body)?;
        keep(&body);
    }
    drop(sender);
    driver.abort();
    Ok(latencies)
}
