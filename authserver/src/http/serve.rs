//! From a port's connections to its routes.

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::Response;
use http::Request;
use hyper::body::Incoming;
use mcpauth_service::listener::{Limits, Listener};
use mcpauth_service::shutdown::Shutdown;
use tower::ServiceExt as _;

use crate::http::internal::InternalPort;

/// Serves the port's routes until `shutdown` closes it, and lets requests under way end.
pub async fn serve(listener: Listener, routes: Router, limits: Limits, shutdown: Shutdown) {
    let answer = move |request, peer| route(routes.clone(), request, peer);
    listener.serve_http1(limits, shutdown, answer).await;
}

/// As [`serve`], for the internal port.
pub async fn serve_internal(
    listener: Listener,
    port: InternalPort,
    limits: Limits,
    shutdown: Shutdown,
) {
    let answer = move |request, peer| {
        let port = port.clone();
        async move {
            match port.introspection(&request) {
                Some(introspection) => Ok(introspection.answer(request, peer).await),
                // Larger than the other, which is not to be moved about with its size.
                None => Box::pin(route(port.into_routes(), request, peer)).await,
            }
        }
    };
    listener.serve_http1(limits, shutdown, answer).await;
}

async fn route(
    routes: Router,
    mut request: Request<Incoming>,
    peer: SocketAddr,
) -> Result<Response, Infallible> {
    request.extensions_mut().insert(ConnectInfo(peer));
    routes.oneshot(request.map(Body::new)).await
}
