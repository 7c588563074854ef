//! The HTTP client for everything that the proxy calls.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Builder, Client, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use mcpauth_service::listener::MAX_HEAD;
use mcpauth_service::tls::{Ca, Connector, TlsError};

/// The client for the MCP server and, without TLS, for the authorization server.
pub type HttpClient = Client<HttpConnector, Full<Bytes>>;

/// The client for the authorization server.
#[derive(Clone, Debug)]
pub enum IntrospectionClient {
    /// Without TLS.
    Clear(HttpClient),
    /// With TLS: the server must have a certificate of one CA.
    Tls(Client<Connector, Full<Bytes>>),
}

impl IntrospectionClient {
    /// A client that trusts this CA alone.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn with_ca(ca: &str) -> Result<Self, TlsError> {
        let connector = Ca::parse(ca.as_bytes())?.connector(None, connector())?;
        Ok(Self::Tls(builder().build(connector)))
    }

    /// Sends a request.
    pub fn request(&self, request: Request<Full<Bytes>>) -> ResponseFuture {
        match self {
            Self::Clear(client) => client.request(request),
            Self::Tls(client) => client.request(request),
        }
    }
}

/// A client with an empty pool of connections.
pub fn new() -> HttpClient {
    builder().build(connector())
}

fn connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(Duration::from_secs(5)));
    connector
}

fn builder() -> Builder {
    let mut builder = Client::builder(TokioExecutor::new());
    builder
        .pool_timer(TokioTimer::new())
        // Common servers close idle connections after 5 s; a request must not be sent on one that
        // is about to close.
        .pool_idle_timeout(Duration::from_secs(4))
        .pool_max_idle_per_host(64)
        .http1_max_buf_size(MAX_HEAD);
    builder
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
