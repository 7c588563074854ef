//! What the log says of a request.
//!
//! A refusal is a line at info, with its reason and what a person searches for. The span around a request is
//! at debug: a request that nobody traces pays for nothing but a check of the level.

use http::Request;
use mcpauth_service::trace::{subject_hash, trace_id};
use tracing::Span;
use tracing::field::Empty;

use crate::auth::identity::Identity;
use crate::http::refusal::Refusal;

/// The span of a request.
pub fn span<B>(request: &Request<B>) -> Span {
    tracing::debug_span!(
        "request",
        method = %request.method(),
        trace_id = trace_id(request.headers()),
        client = Empty,
        subject = Empty,
        tool = Empty,
        outcome = Empty,
    )
}

/// Says in the span who calls.
pub fn caller(span: &Span, identity: &Identity) {
    if !span.is_disabled() {
        span.record("client", identity.client_id.as_str());
        span.record("subject", subject_hash(&identity.subject));
    }
}

/// Says in the span which tools are called.
pub fn tools<'a>(span: &Span, tools: impl Iterator<Item = &'a str>) {
    if !span.is_disabled() {
        span.record("tool", tools.collect::<Vec<_>>().join(" "));
    }
}

/// What a refusal's line has from the request, taken before the request is gone.
#[derive(Debug)]
pub struct Refused {
    method: http::Method,
    trace_id: Option<String>,
}

impl Refused {
    /// From a request that may be refused. It costs an allocation only where there is a trace id.
    pub fn new<B>(request: &Request<B>) -> Self {
        Self {
            method: request.method().clone(),
            trace_id: trace_id(request.headers()).map(str::to_owned),
        }
    }

    /// Writes the line.
    pub fn log(&self, refusal: &Refusal, caller: Option<&Identity>) {
        tracing::info!(
            outcome = refusal.outcome(),
            reason = %refusal.reason(),
            method = %self.method,
            trace_id = self.trace_id.as_deref(),
            client = caller.map(|caller| caller.client_id.as_str()),
            subject = caller.map(|caller| subject_hash(&caller.subject)),
            "refused"
        );
    }
}
