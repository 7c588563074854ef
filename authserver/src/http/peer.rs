//! Where a request comes from.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts};
use http::request::Parts;
use mcpauth_service::connections::network;

use crate::http::error::HttpError;
use crate::oauth::error::OAuthError;

/// The address of the connection. Forwarded headers are not trusted.
pub struct Peer(pub IpAddr);

impl Peer {
    /// The peer of a connection.
    pub fn of(peer: &ConnectInfo<SocketAddr>) -> Self {
        Self(peer.0.ip().to_canonical())
    }

    /// The key for rate limits: the address, or for IPv6 its /64 network, which is assigned as a
    /// whole.
    pub fn network(&self) -> IpAddr {
        network(self.0)
    }
}

impl<S: Sync> FromRequestParts<S> for Peer {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, HttpError> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        peer.map(Self::of)
            .ok_or_else(|| OAuthError::ServerError.into())
    }
}
