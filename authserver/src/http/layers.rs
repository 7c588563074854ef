//! What the routes of both ports have in common: limits, counting, answers for what is not there.

use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use http::StatusCode;
use tower_http::timeout::TimeoutLayer;

use crate::http::error::HttpError;
use crate::http::state::Shared;

/// A request that is not there completely after this time is refused: slow clients hold no place.
const REQUEST_TIME: Duration = Duration::from_secs(30);

/// Limits, counts and the state for all routes of a port.
pub(super) fn finish(
    routes: Router<Shared>,
    app: Shared,
    port: &'static str,
    body: usize,
) -> Router {
    let counted = (app.clone(), port);
    routes
        .layer(DefaultBodyLimit::max(body))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::REQUEST_TIMEOUT,
            REQUEST_TIME,
        ))
        .layer(middleware::from_fn_with_state(counted, count))
        .with_state(app)
}

pub(super) async fn not_found() -> HttpError {
    HttpError::NotFound("there is no such endpoint")
}

pub(super) async fn method_not_allowed() -> HttpError {
    HttpError::MethodNotAllowed
}

async fn count(
    State((app, port)): State<(Shared, &'static str)>,
    request: Request,
    next: Next,
) -> Response {
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let start = tokio::time::Instant::now();
    let response = next.run(request).await;
    let route = matched.as_ref().map_or("other", |path| path.as_str());
    let status = response.status().as_u16();
    app.metrics.request(port, route, status, start.elapsed());
    response
}
