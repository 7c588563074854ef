//! Where a request comes from.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::request::Parts;
use http::{Extensions, HeaderMap};
use mcpauth_service::connections::network;
use mcpauth_wire::client_address::TrustedProxies;

use crate::http::error::HttpError;
use crate::oauth::error::OAuthError;

/// The address that a request comes from: that of the connection, or behind trusted proxies the one that they name.
#[derive(Clone, Copy)]
pub struct Peer(pub IpAddr);

impl Peer {
    /// Where a request with these extensions comes from.
    pub(super) fn of(extensions: &Extensions) -> Option<Self> {
        let peer = extensions.get().copied();
        peer.or_else(|| connection(extensions))
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
        Self::of(&parts.extensions).ok_or_else(|| OAuthError::ServerError.into())
    }
}

/// Takes the word of the proxies in front of the port for where a request comes from.
pub(super) async fn behind_proxies(
    State(proxies): State<Arc<TrustedProxies>>,
    mut request: Request,
    next: Next,
) -> Response {
    if let Some(Peer(connection)) = connection(request.extensions()) {
        let client = proxies.client(connection, values(request.headers(), proxies.header()));
        request.extensions_mut().insert(Peer(client));
    }
    next.run(request).await
}

fn connection(extensions: &Extensions) -> Option<Peer> {
    let peer = extensions.get::<ConnectInfo<SocketAddr>>()?;
    Some(Peer(peer.0.ip().to_canonical()))
}

/// The values of a header. One that is no text is an empty one: it names no address.
fn values<'a>(headers: &'a HeaderMap, name: &str) -> impl DoubleEndedIterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter();
    values.map(|value| value.to_str().unwrap_or_default())
}
