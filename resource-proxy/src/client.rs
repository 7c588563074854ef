//! The HTTP client for everything that the proxy calls.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use mcpauth_service::listener::MAX_HEAD;

/// The client for the MCP server and for the authorization server.
pub type HttpClient = Client<HttpConnector, Full<Bytes>>;

/// A client with an empty pool of connections.
pub fn new() -> HttpClient {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(Duration::from_secs(5)));
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        // Common servers close idle connections after 5 s; a request must not be sent on one that
        // is about to close.
        .pool_idle_timeout(Duration::from_secs(4))
        .pool_max_idle_per_host(64)
        .http1_max_buf_size(MAX_HEAD)
        .build(connector)
}

/// An error with its causes, on one line.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
