//! A load generator: so many connections, each with one request under way, so many requests.

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
use tokio::{net::TcpStream, task::JoinSet, time::Instant};

use crate::programs::{CREDENTIAL, SECRET};

/// A request that is sent over and over.
#[derive(Clone)]
pub struct Request {
    port: u16,
    path: &'static str,
    authorization: String,
    content_type: &'static str,
    body: Bytes,
}

impl Request {
    /// A tools/call at a protected server.
    pub fn tools_call(port: u16, token: &str) -> Self {
        let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read_note","arguments":{"id":"0192d0a3-6d2f-7c4b-9c41-2f3b8c5d7e90"}}}"#;
        Self {
            port,
            path: "/mcp",
            authorization: format!("Bearer {token}"),
            content_type: "application/json",
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    /// An introspection request (RFC 7662).
    pub fn introspect(port: u16, token: &str) -> Self {
        let credential = STANDARD.encode(format!("{CREDENTIAL}:{SECRET}"));
        Self {
            port,
            path: "/introspect",
            authorization: format!("Basic {credential}"),
            content_type: "application/x-www-form-urlencoded",
            body: Bytes::from(format!("token={token}")),
        }
    }

    fn build(&self) -> Result<hyper::Request<Full<Bytes>>> {
        Ok(hyper::Request::post(self.path)
            .header(HOST, format!("localhost:{}", self.port))
            .header(AUTHORIZATION, &self.authorization)
            .header(CONTENT_TYPE, self.content_type)
            .header(ACCEPT, "application/json, text/event-stream")
            .body(Full::new(self.body.clone()))?)
    }
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

/// Sends `requests` requests over `connections` connections. Any answer but 200 is an error: a
/// refusal is quicker than an answer.
pub async fn run(request: &Request, connections: usize, requests: usize) -> Result<Sample> {
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        tasks.spawn(connection(request.clone(), requests / connections));
    }
    let mut latencies = Vec::with_capacity(requests);
    while let Some(done) = tasks.join_next().await {
        latencies.extend(done??);
    }
    Sample::of(latencies, begin.elapsed().as_secs_f64())
}

async fn connection(request: Request, requests: usize) -> Result<Vec<u64>> {
    let stream = TcpStream::connect(("127.0.0.1", request.port)).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let mut latencies = Vec::with_capacity(requests);
    for _ in 0..requests {
        let request = request.build()?;
        let begin = Instant::now();
        sender.ready().await.context("the connection was closed")?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        latencies.push(u64::try_from(begin.elapsed().as_micros())?);
        ensure!(
            status == StatusCode::OK && !body.starts_with(br#"{"active":false"#),
            "answered {status} {}",
            String::from_utf8_lossy(&body)
        );
    }
    drop(sender);
    driver.abort();
    Ok(latencies)
}
