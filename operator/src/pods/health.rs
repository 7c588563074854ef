//! Asks pods: why one is not ready, and which configuration a proxy runs.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use mcpauth_wire::proxy_health::{self, InForce};

use crate::text::{one_line, shorten};

/// Timeout of the request. Short, because an unresponsive pod delays the reconciles of others.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum size of a response that is read and shown, in bytes.
const ANSWER: usize = 300;

/// Asks the health ports of pods.
pub struct Health(Client<HttpConnector, Empty<Bytes>>);

impl Default for Health {
    fn default() -> Self {
        // Pods are short-lived: keep no connections.
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build_http();
        Self(client)
    }
}

impl Health {
    /// Why the program at `address` is not ready: the one line in its 503 response. None for any other response
    /// or no response, because then there is nothing to show.
    pub async fn ask(&self, address: SocketAddr) -> Option<String> {
        let uri: Uri = format!("http://{address}/readyz").parse().ok()?;
        tokio::time::timeout(TIMEOUT, self.answer(uri)).await.ok()?
    }

    /// Which configuration the proxy at `address` runs. None if it does not say.
    pub async fn configuration(&self, address: SocketAddr) -> Option<InForce> {
        let path = proxy_health::CONFIGURATION;
        let uri: Uri = format!("http://{address}{path}").parse().ok()?;
        let answer = async {
            let response = self.0.get(uri).await.ok()?;
            if response.status() != StatusCode::OK {
                return None;
            }
            let body = Limited::new(response.into_body(), 4096);
            let bytes = body.collect().await.ok()?.to_bytes();
            serde_json::from_slice(&bytes).ok()
        };
        tokio::time::timeout(TIMEOUT, answer).await.ok()?
    }

    async fn answer(&self, uri: Uri) -> Option<String> {
        let response = self.0.get(uri).await.ok()?;
        if response.status() != StatusCode::SERVICE_UNAVAILABLE {
            return None;
        }
        let body = Limited::new(response.into_body(), 16 * ANSWER);
        let bytes = body.collect().await.ok()?.to_bytes();
        let line = std::str::from_utf8(&bytes).ok()?.lines().next()?.trim();
        (!line.is_empty()).then(|| one_line(shorten(line, ANSWER)))
    }
}
