//! How the internal port of an authorization server is reached.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, ResponseFuture};
use hyper_util::rt::TokioExecutor;
use mcpauth_service::tls::{Ca, Connector};

use crate::desired::names;

/// How long one call may take, from connecting to the last byte.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

/// With TLS or without; by the spec and the status of its McpAuthServer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Internal {
    /// Without.
    #[default]
    Clear,
    /// With a certificate of this CA, in PEM.
    Tls(Arc<str>),
    /// With TLS, and the CA is not known yet.
    Unknown,
}

impl Internal {
    /// `tls`: whether the spec wants it; `ca`: the CA, as far as it is known.
    #[must_use]
    pub fn new(tls: bool, ca: Option<&str>) -> Self {
        match (tls, ca) {
            (false, _) => Self::Clear,
            (true, Some(ca)) => Self::Tls(ca.into()),
            (true, None) => Self::Unknown,
        }
    }
}

/// A client for a server's internal port.
#[derive(Clone)]
pub enum InternalClient {
    /// Without TLS.
    Clear(Client<HttpConnector, Full<Bytes>>),
    /// With TLS.
    Tls(Client<Connector, Full<Bytes>>),
}

impl InternalClient {
    /// Without TLS, for all servers.
    pub fn clear() -> Client<HttpConnector, Full<Bytes>> {
        Client::builder(TokioExecutor::new()).build(connector())
    }

    /// For the server `name` in `namespace`, whatever address it is reached at.
    ///
    /// # Errors
    /// The CA cannot be used.
    pub fn with_ca(ca: &str, namespace: &str, name: &str) -> Result<Self, String> {
        let host = names::internal_host(namespace, name);
        let parsed = Ca::parse(ca.as_bytes());
        let connector = parsed.and_then(|ca| ca.connector(Some(&host), connector()));
        let connector = connector.map_err(|error| format!("its status.internalCa: {error}"))?;
        Ok(Self::Tls(
            Client::builder(TokioExecutor::new()).build(connector),
        ))
    }

    /// Whether it speaks TLS.
    pub const fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Sends a request.
    pub fn request(&self, request: http::Request<Full<Bytes>>) -> ResponseFuture {
        match self {
            Self::Clear(client) => client.request(request),
            Self::Tls(client) => client.request(request),
        }
    }
}

fn connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(TIMEOUT));
    connector
}
