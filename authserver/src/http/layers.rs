//! Shared by the routes of both ports: limits, metrics, responses for unknown paths and methods.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use http::StatusCode;
use tower_http::timeout::TimeoutLayer;

use crate::http::error::{HttpError, Refused};
use crate::http::trace;
use crate::metrics::Metrics;

/// Timeout of a request including its body, so that slow clients do not occupy connections.
const REQUEST_TIME: Duration = Duration::from_secs(30);

/// Limits and counts for all routes of a port.
pub(super) fn finish(
    routes: Router,
    metrics: Arc<Metrics>,
    port: &'static str,
    body: usize,
) -> Router {
    let timeout = TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, REQUEST_TIME);
    routes
        .layer(DefaultBodyLimit::max(body))
        .layer(timeout)
        .layer(middleware::from_fn_with_state((metrics, port), count))
}

pub(super) async fn not_found() -> HttpError {
    HttpError::NotFound(
        "no such endpoint; /.well-known/oauth-authorization-server lists the endpoints",
    )
}

pub(super) async fn method_not_allowed() -> HttpError {
    HttpError::MethodNotAllowed
}

async fn count(
    State((metrics, port)): State<(Arc<Metrics>, &'static str)>,
    request: Request,
    next: Next,
) -> Response {
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let start = tokio::time::Instant::now();
    let mut response = next.run(request).await;
    let route = matched.as_ref().map_or("other", |path| path.as_str());
    if let Some(refused) = response.extensions_mut().remove::<Refused>() {
        trace::refusal_without_span(port, route, &refused);
    }
    let status = response.status().as_u16();
    metrics.request(port, route, status, start.elapsed());
    response
}
