//! What is told about a request: its span has the fields that people search for in the log, which has a line for each refusal;
//! the audit has them, too.
//!
//! No field contains a secret. Users are logged as a hash: the log goes to more people than the audit, which names them.

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use mcpauth_service::trace::{subject_hash, trace_id};
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use crate::http::audit;
use crate::http::error::Refused;

tokio::task_local! {
    static SPAN: Span;
}

/// A request's span. Handlers record in it what they learn: see [`client`], [`subject`] and their like.
pub(super) async fn request(request: Request, next: Next) -> Response {
    let endpoint = request.extensions().get::<MatchedPath>().cloned();
    let span = tracing::info_span!(
        "request",
        endpoint = endpoint.as_ref().map_or("other", |path| path.as_str()),
        trace_id = trace_id(request.headers()),
        caller = Empty,
        client = Empty,
        subject = Empty,
        resource = Empty,
        grant_type = Empty,
        outcome = Empty,
    );
    let answered = span.clone();
    let answer = async {
        let mut response = next.run(request).await;
        answered.record("outcome", response.status().as_u16());
        match response.extensions_mut().get_mut::<Refused>() {
            Some(refused) => {
                refusal(refused);
                refused.logged = true;
            }
            None => tracing::debug!("answered"),
        }
        response
    }
    .instrument(span.clone());
    SPAN.scope(span, answer).await
}

/// The log's span: the current one may be another, which is for traces.
fn span() -> Span {
    SPAN.try_with(Span::clone)
        .unwrap_or_else(|_| Span::current())
}

/// One line for a refusal outside a span: on the internal port, introspection has none by default.
pub(super) fn refusal_without_span(port: &str, endpoint: &str, refused: &Refused) {
    let Refused { error, reason, .. } = refused;
    tracing::info!(port, endpoint, error, reason, "request refused");
}

fn refusal(refused: &Refused) {
    let Refused { error, reason, .. } = refused;
    tracing::info!(error, reason, "request refused");
}

/// The client that the request is of, as far as it is known.
pub(super) fn client(client_id: &str) {
    span().record("client", client_id);
    audit::about(|about| about.client(client_id));
}

/// The user that the request is about.
pub(super) fn subject(subject: &str) {
    let span = span();
    if !span.is_disabled() {
        span.record("subject", subject_hash(subject));
    }
    audit::about(|about| about.subject(subject));
}

/// The resource that the request is for.
pub(super) fn resource(uri: &str) {
    span().record("resource", uri);
    audit::about(|about| about.resource(uri));
}

/// The grant type that is asked for.
pub(super) fn grant_type(name: &'static str) {
    span().record("grant_type", name);
    audit::about(|about| about.grant_type(name));
}

/// The caller of the internal port.
pub(super) fn caller(principal: &str) {
    span().record("caller", principal);
    audit::about(|about| about.caller(principal));
}
