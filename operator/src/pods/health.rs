//! Asking a pod that is not ready why.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::text::shorten;

/// How long the answer may take. Short: a pod that does not answer holds up the reconciles of others.
const TIMEOUT: Duration = Duration::from_secs(1);
/// The largest answer that is read, and shown, in bytes.
const ANSWER: usize = 300;

/// Asks `/readyz`.
pub struct Health(Client<HttpConnector, Empty<Bytes>>);

impl Default for Health {
    fn default() -> Self {
        // Pods come and go: no connection is kept.
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build_http();
        Self(client)
    }
}

impl Health {
    /// Why the program at `address` is not ready: the one line that it answers with 503. None when it
    /// answers anything else or nothing, since then there is nothing to tell.
    pub async fn ask(&self, address: SocketAddr) -> Option<String> {
        let uri: Uri = format!("http://{address}/readyz").parse().ok()?;
        tokio::time::timeout(TIMEOUT, self.answer(uri)).await.ok()?
    }

    async fn answer(&self, uri: Uri) -> Option<String> {
        let response = self.0.get(uri).await.ok()?;
        if response.status() != StatusCode::SERVICE_UNAVAILABLE {
            return None;
        }
        let body = Limited::new(response.into_body(), 16 * ANSWER);
        let bytes = body.collect().await.ok()?.to_bytes();
        let line = std::str::from_utf8(&bytes).ok()?.lines().next()?.trim();
        (!line.is_empty()).then(|| shorten(line, ANSWER).to_owned())
    }
}
