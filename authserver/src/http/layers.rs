//! Shared by the routes of both ports: limits, metrics, responses for unknown paths and methods.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use http::StatusCode;
use http::request::Parts;
use mcpauth_service::audit::Audit;
use mcpauth_service::otlp;
use tokio::time::Instant;
use tower_http::timeout::TimeoutLayer;
use tracing::{Instrument as _, Span};

use crate::http::audit;
use crate::http::error::{HttpError, Refused};
use crate::http::peer::Peer;
use crate::http::route::Route;
use crate::http::trace;
use crate::metrics::Metrics;

/// Timeout of a request including its body, so that slow clients do not occupy connections.
pub(super) const REQUEST_TIME: Duration = Duration::from_secs(30);

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
    let route = matched.map_or(Route::Known("other"), Route::Matched);
    let (mut head, body) = request.into_parts();
    let telling = told.begin(route.clone(), Peer::of(&head.extensions), &mut head);
    let answered = pin!(next.run(Request::from_parts(head, body)));
    let (response, took) = telling.answer(answered).await;
    let status = response.status().as_u16();
    let route = route.as_str();
    told.metrics.request(told.port, route, status, took);
    response
}

/// A request that is told of.
pub(super) struct Telling {
    port: &'static str,
    route: Route,
    began: Instant,
    span: Span,
    under_way: Option<audit::UnderWay>,
}

impl Told {
    /// A request begins.
    pub(super) fn begin(&self, route: Route, peer: Option<Peer>, head: &mut Parts) -> Telling {
        let began = Instant::now();
        let span = otlp::request_span(&head.method, route.as_str(), self.port, &head.headers);
        // Also of a trace that begins here: log and audit name it.
        if let Some(traceparent) = otlp::traceparent(&span) {
            head.headers.insert("traceparent", traceparent);
        }
        Telling {
            port: self.port,
            under_way: audit::UnderWay::new(&self.audit, route.clone(), peer, head),
            route,
            began,
            span,
        }
    }
}

impl Telling {
    /// The response, and how long it took. What answers is pinned by the caller, as every future that it goes through
    /// would copy it.
    pub(super) async fn answer<F: Future<Output = Response>>(
        self,
        answered: Pin<&mut F>,
    ) -> (Response, Duration) {
        let Self {
            port,
            route,
            began,
            span,
            under_way,
        } = self;
        let answered = audit::request(under_way, answered);
        let mut response = answered.instrument(span.clone()).await;
        if let Some(refused) = response.extensions_mut().remove::<Refused>()
            && !refused.logged
        {
            trace::refusal_without_span(port, route.as_str(), &refused);
        }
        otlp::answered(&span, response.status().as_u16());
        (response, began.elapsed())
    }
}
