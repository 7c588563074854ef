//! Shared by the routes of both ports: limits, metrics, responses for unknown paths and methods.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use mcpauth_service::audit::Audit;
use mcpauth_service::otlp;
use tower_http::timeout::TimeoutLayer;
use tracing::Instrument as _;

use crate::http::audit;
use crate::http::error::{HttpError, Refused};
use crate::http::trace;
use crate::metrics::Metrics;

/// Timeout of a request including its body, so that slow clients do not occupy connections.
const REQUEST_TIME: Duration = Duration::from_secs(30);

/// What is told of the requests to a port.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) port: &'static str,
    pub(super) metrics: Arc<Metrics>,
    pub(super) audit: Audit,
}

/// Limits for all routes of a port, and what is told of their requests.
pub(super) fn finish(routes: Router, told: Told, body: usize) -> Router {
    let timeout = TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, REQUEST_TIME);
    routes
        .layer(DefaultBodyLimit::max(body))
        .layer(timeout)
        .layer(middleware::from_fn_with_state(told, tell))
}

pub(super) async fn not_found() -> HttpError {
    HttpError::NotFound(
        "no such endpoint; /.well-known/oauth-authorization-server lists the endpoints",
    )
}

pub(super) async fn method_not_allowed() -> HttpError {
    HttpError::MethodNotAllowed
}

async fn tell(State(told): State<Told>, request: Request, next: Next) -> Response {
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or("other", |path| path.as_str());
    answer(&told, route, request, |request| next.run(request)).await
}

/// Answers a request in time, for a route that has no layers.
pub(super) async fn in_time(
    told: &Told,
    route: &'static str,
    request: Request,
    answered: impl AsyncFnOnce(Request) -> Response,
) -> Response {
    let in_time = async |request| {
        let answered = tokio::time::timeout(REQUEST_TIME, answered(request)).await;
        answered.unwrap_or_else(|_| StatusCode::REQUEST_TIMEOUT.into_response())
    };
    answer(told, route, request, in_time).await
}

/// Answers a request and tells of it.
async fn answer(
    told: &Told,
    route: &str,
    mut request: Request,
    answered: impl AsyncFnOnce(Request) -> Response,
) -> Response {
    let start = tokio::time::Instant::now();
    let span = otlp::request_span(request.method(), route, told.port, request.headers());
    // Also of a trace that begins here: log and audit name it.
    if let Some(traceparent) = otlp::traceparent(&span) {
        request.headers_mut().insert("traceparent", traceparent);
    }
    let answer = audit::request(&told.audit, route, request, answered);
    let mut response = answer.instrument(span.clone()).await;
    if let Some(refused) = response.extensions_mut().remove::<Refused>()
        && !refused.logged
    {
        trace::refusal_without_span(told.port, route, &refused);
    }
    let status = response.status().as_u16();
    otlp::answered(&span, status);
    told.metrics
        .request(told.port, route, status, start.elapsed());
    response
}
