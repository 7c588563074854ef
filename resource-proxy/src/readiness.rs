//! Whether the MCP server answers: what the readiness probe asks.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use tokio::sync::Mutex;

use crate::http::upstream::Upstream;
use crate::proxy::Proxy;

/// How long the server may take. Less than the probe's own timeout.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How long an answer holds, so that whoever asks the health port often does not ask the server as often.
const HOLDS: Duration = Duration::from_secs(1);
/// What is posted to a server that knows no GET.
const PING: &[u8] = br#"{"jsonrpc":"2.0","id":"mcpauth-readiness","method":"ping"}"#;

/// Asks the server.
#[derive(Debug)]
pub struct Readiness {
    proxy: Arc<Proxy>,
    last: Mutex<Option<Seen>>,
}

#[derive(Clone, Debug)]
struct Seen {
    at: Duration,
    upstream: Upstream,
    verdict: Result<(), String>,
}

impl Readiness {
    /// Of the server behind this proxy.
    pub fn new(proxy: Arc<Proxy>) -> Self {
        Self {
            proxy,
            last: Mutex::default(),
        }
    }

    /// Whether the server answers at its path.
    ///
    /// # Errors
    /// What it does instead, on one line, with the field that may be wrong.
    pub async fn check(&self) -> Result<(), String> {
        // One question at a time.
        let mut last = self.last.lock().await;
        let upstream = self.proxy.compiled().upstream.clone();
        let before = last.clone().filter(|seen| seen.upstream == upstream);
        let now = self.proxy.runtime().clock.monotonic();
        let seen = match before {
            Some(seen) if now < seen.at + HOLDS => seen,
            before => Seen {
                verdict: self.ask(&upstream, before.map(|seen| seen.verdict)).await,
                // After the question: the probes that waited for a slow answer share it.
                at: self.proxy.runtime().clock.monotonic(),
                upstream,
            },
        };
        let verdict = seen.verdict.clone();
        *last = Some(seen);
        verdict
    }

    async fn ask(
        &self,
        upstream: &Upstream,
        before: Option<Result<(), String>>,
    ) -> Result<(), String> {
        match tokio::time::timeout(TIMEOUT, self.question(upstream)).await {
            Ok(verdict) => verdict,
            // A server that has answered before is busy, not away: its calls may take all it has.
            Err(_) if before.is_some_and(|verdict| verdict.is_ok()) => Ok(()),
            Err(_) => Err(format!(
                "the MCP server at {upstream} did not respond within {} s",
                TIMEOUT.as_secs()
            )),
        }
    }

    async fn question(&self, upstream: &Upstream) -> Result<(), String> {
        let mut status = self.status(upstream, Method::GET, &[]).await?;
        // Some servers know nothing but POST, and say so by 404.
        if status == StatusCode::NOT_FOUND {
            status = self.status(upstream, Method::POST, PING).await?;
        }
        verdict(status).map_err(|problem| format!("the MCP server at {upstream} {problem}"))
    }

    async fn status(
        &self,
        upstream: &Upstream,
        method: Method,
        body: &'static [u8],
    ) -> Result<StatusCode, String> {
        let request = upstream.probe(method, Bytes::from_static(body));
        let request = request.map_err(|error| format!("{upstream} cannot be asked: {error}"))?;
        let answer = self.proxy.runtime().client.request(request).await;
        // Its body is not read: it may be an event stream.
        let answer = answer.map_err(|error| match error.is_connect() {
            true => format!("nothing listens at {upstream}: the MCP server has not started, or listens on another port"),
            false => format!("the MCP server at {upstream} closes the connection without a response"),
        })?;
        Ok(answer.status())
    }
}

/// An answer from the server's MCP endpoint, even a refusal, shows that it is there.
fn verdict(status: StatusCode) -> Result<(), String> {
    match status {
        StatusCode::NOT_FOUND => {
            Err("responds with 404: its MCP endpoint is at another path".into())
        }
        // It does not know the method.
        StatusCode::NOT_IMPLEMENTED => Ok(()),
        status if status.is_server_error() => Err(format!("responds with {}", status.as_u16())),
        _ => Ok(()),
    }
}
