//! From a port's connections to its routes.

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use http::Request;
use hyper::body::Incoming;
use mcpauth_service::listener::{Limits, Listener};
use mcpauth_service::shutdown::Shutdown;
use tower::ServiceExt as _;

/// Serves the port's routes until `shutdown` closes it, and lets requests under way end.
pub async fn serve(listener: Listener, routes: Router, limits: Limits, shutdown: Shutdown) {
    let answer = move |mut request: Request<Incoming>, peer| {
        request.extensions_mut().insert(ConnectInfo(peer));
        routes.clone().oneshot(request.map(Body::new))
    };
    listener.serve_http1(limits, shutdown, answer).await;
}
