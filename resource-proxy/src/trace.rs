//! What is logged about a request.
//!
//! A refusal is logged at info, with its reason and the fields that people search for. The span around a request is
//! at debug, so that a request that is not traced costs only a check of the level.
//!
//! The same goes to the collector and, for calls, to the audit and the metrics. A request belongs to the trace of its
//! `traceparent` header; without one, to that of `params._meta` of its first message (MCP 2026-07-28); otherwise, where
//! traces are collected, to one that begins here.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, Request, StatusCode};
use mcpauth_service::otlp::{self, RemoteSpan};
use mcpauth_service::trace::{TraceParent, subject_hash};
use mcpauth_wire::invalid::printable;
use tracing::Span;
use tracing::field::Empty;

use crate::auth::authorize::{Decision, Operation};
use crate::auth::identity::Identity;
use crate::calls::Calls;
use crate::compiled::Runtime;
use crate::http::refusal::Refusal;
use crate::mcp::guard::Target;
use crate::mcp::message::Messages;
use crate::mcp::session::Fingerprint;
use crate::resource::Resource;

/// What is known of a request: for its spans, for the line of its refusal, and for what is told of its calls. Without an
/// audit, a request that calls nothing allocates nothing here.
#[derive(Debug)]
pub struct Trace {
    span: Span,
    /// What the collector gets.
    collected: Span,
    /// The caller's span, by the body, if the header has none.
    by_body: Option<RemoteSpan>,
    has_header: bool,
    method: &'static str,
    trace_id: Option<[u8; 32]>,
    caller: Option<Arc<Identity>>,
    operation: Name,
    tool: Name,
    calls: Calls,
}

impl Trace {
    /// For a new request.
    pub fn new<B>(request: &Request<B>, resource: &Resource, runtime: &Runtime) -> Self {
        let (method, headers) = (method(request.method()), request.headers());
        let route = match resource.serves(request.uri().path()) {
            true => resource.path(),
            false => "other",
        };
        let collected = otlp::request_span(request.method(), route, "proxy", headers);
        let caller = TraceParent::of(headers);
        let begun = otlp::traceparent(&collected).filter(|_| caller.is_none());
        let begun = begun.as_ref().map(HeaderValue::to_str);
        let begun = begun.and_then(Result::ok).and_then(TraceParent::parse);
        let trace_id = caller.or(begun).map(|parent| parent.trace_id);
        Self {
            span: tracing::debug_span!(
                "request",
                method,
                trace_id,
                client = Empty,
                subject = Empty,
                operation = Empty,
                tool = Empty,
                rule = Empty,
                outcome = Empty,
            ),
            collected,
            by_body: None,
            has_header: caller.is_some(),
            method,
            trace_id: trace_id.and_then(|id| id.as_bytes().try_into().ok()),
            caller: None,
            operation: Name::default(),
            tool: Name::default(),
            calls: Calls::new(runtime),
        }
    }

    /// The request's span in the log.
    pub fn span(&self) -> Span {
        self.span.clone()
    }

    /// The request's span for the collector. It is the inner one, so that what is sent from here finds it.
    pub fn collected(&self) -> Span {
        self.collected.clone()
    }

    /// The span of the call to the server. Where only the body names the caller's span, it belongs to that trace.
    pub fn call(&self) -> Span {
        let span = otlp::call_span("MCP server");
        if let Some(caller) = &self.by_body {
            otlp::move_to(&span, caller);
        }
        span
    }

    /// Records the caller.
    pub fn caller(&mut self, identity: &Arc<Identity>) {
        self.caller = Some(Arc::clone(identity));
        self.calls.caller(identity);
        if !self.span.is_disabled() {
            self.span.record("client", identity.client_id.as_str());
            self.span.record("subject", subject_hash(&identity.subject));
        }
    }

    /// Records what is asked for: of a batch, the first message that is guarded.
    pub fn message(&mut self, messages: &Messages<'_>) {
        self.calls.asked(messages);
        self.of_body(messages);
        let guarded = messages.guarded().next();
        let first = guarded
            .map(|guarded| guarded.message)
            .or_else(|| messages.iter().next());
        if let Some(method) = first.and_then(|message| message.method.as_deref()) {
            self.operation = Name::new(method);
        }
        if let Some(Target::Operation(Operation::Tool(name))) =
            guarded.map(|guarded| guarded.target)
        {
            self.tool = Name::new(name);
        }
        if !self.span.is_disabled() {
            self.span.record("operation", self.operation.printable());
            self.span.record("tool", self.tool.printable());
        }
    }

    /// The trace that the body names, if the header names none.
    fn of_body(&mut self, messages: &Messages<'_>) {
        let params = messages.iter().next().map(|message| &message.params);
        let Some(params) = params.filter(|_| !self.has_header) else {
            return;
        };
        let parent = params.traceparent.as_deref().and_then(TraceParent::parse);
        let Some(parent) = parent else { return };
        self.trace_id = parent.trace_id.as_bytes().try_into().ok();
        if !self.span.is_disabled() {
            self.span.record("trace_id", parent.trace_id);
        }
        if !self.collected.is_disabled() {
            let state = params.tracestate.as_deref();
            self.by_body = Some(RemoteSpan::new(&parent, state));
        }
    }

    /// In which session the request is.
    pub fn session(&mut self, fingerprint: impl FnOnce() -> Option<Fingerprint>) {
        self.calls.session(fingerprint);
    }

    /// How long friction held it back.
    pub fn delayed(&mut self, delay: Duration) {
        self.calls.delayed(delay);
    }

    /// Records what the rules say of the operation at this place: in the log, of the first.
    pub fn decided(&mut self, place: usize, operation: Operation<'_>, decision: &Decision<'_>) {
        self.calls.decided(place, operation, decision);
        if place == 0 && !self.span.is_disabled() {
            self.span.record("rule", tracing::field::display(decision));
        }
    }

    /// The end of the request.
    pub fn ended(&mut self, outcome: &'static str, status: StatusCode) {
        self.span.record("outcome", outcome);
        self.collected.record("mcpauth.outcome", outcome);
        otlp::answered(&self.collected, status.as_u16());
        let forwarded = outcome == "forwarded";
        let trace_id = self.trace_id.as_ref().map(|id| str::from_utf8(id));
        self.calls
            .ended(forwarded, status, trace_id.and_then(Result::ok));
    }

    /// Writes the line of a refusal.
    pub fn refused(&mut self, refusal: &Refusal) {
        self.calls.refused(refusal);
        let caller = self.caller.as_deref();
        let trace_id = self.trace_id.as_ref().map(|id| str::from_utf8(id));
        tracing::info!(
            outcome = refusal.outcome(),
            reason = %refusal.reason(),
            method = self.method,
            operation = self.operation.printable(),
            tool = self.tool.printable(),
            trace_id = trace_id.and_then(Result::ok),
            client = caller.map(|caller| caller.client_id.as_str()),
            subject = caller.map(|caller| subject_hash(&caller.subject)),
            "refused"
        );
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let trace_id = self.trace_id.as_ref().map(|id| str::from_utf8(id));
        self.calls.abandoned(trace_id.and_then(Result::ok));
    }
}

/// The beginning of a name that the client chose; empty where there is none.
#[derive(Clone, Copy, Debug)]
struct Name {
    bytes: [u8; 64],
    length: usize,
}

impl Default for Name {
    fn default() -> Self {
        Self {
            bytes: [0; 64],
            length: 0,
        }
    }
}

impl Name {
    fn new(name: &str) -> Self {
        let mut bytes = [0; 64];
        let length = name.floor_char_boundary(bytes.len());
        bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
        Self { bytes, length }
    }

    /// Characters that could disturb a log are replaced.
    fn printable(&self) -> Option<String> {
        let name = str::from_utf8(&self.bytes[..self.length]).ok()?;
        (!name.is_empty()).then(|| printable(name))
    }
}

/// The method, or `other`, because a client can send any method name.
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
