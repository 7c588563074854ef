//! What the log says of a request.
//!
//! A refusal is a line at info, with its reason and what a person searches for. The span around a request is
//! at debug: a request that nobody traces pays for nothing but a check of the level.

use http::{Method, Request};
use mcpauth_service::trace::{subject_hash, trace_id};
use tracing::Span;
use tracing::field::Empty;

use crate::auth::identity::Identity;
use crate::http::refusal::Refusal;

/// The span of a request.
pub fn span<B>(request: &Request<B>) -> Span {
    tracing::debug_span!(
        "request",
        method = method(request.method()),
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
    method: &'static str,
    trace_id: Option<[u8; 32]>,
}

impl Refused {
    /// From a request that may be refused. It allocates nothing: most requests are not.
    pub fn new<B>(request: &Request<B>) -> Self {
        Self {
            method: method(request.method()),
            trace_id: trace_id(request.headers()).and_then(|id| id.as_bytes().try_into().ok()),
        }
    }

    /// Writes the line.
    pub fn log(&self, refusal: &Refusal, caller: Option<&Identity>) {
        let trace_id = self.trace_id.as_ref().map(|id| str::from_utf8(id));
        tracing::info!(
            outcome = refusal.outcome(),
            reason = %refusal.reason(),
            method = self.method,
            trace_id = trace_id.and_then(Result::ok),
            client = caller.map(|caller| caller.client_id.as_str()),
            subject = caller.map(|caller| subject_hash(&caller.subject)),
            "refused"
        );
    }
}

/// The method, or `other`: a stranger may make one up, as long as a head may be.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        _ => "other",
    }
}
