//! What is logged about a request.
//!
//! A refusal is logged at info, with its reason and the fields that people search for. The span around a request is
//! at debug, so that a request that is not traced costs only a check of the level.

use std::sync::Arc;

use http::{Method, Request};
use mcpauth_service::trace::{subject_hash, trace_id};
use mcpauth_wire::invalid::printable;
use tracing::Span;
use tracing::field::Empty;

use crate::auth::authorize::{AccessRules, Operation};
use crate::auth::identity::Identity;
use crate::http::refusal::Refusal;
use crate::mcp::guard::Target;
use crate::mcp::message::Messages;

/// What is known of a request: for its span, and for the line of its refusal. It allocates nothing, because
/// most requests are not refused.
#[derive(Debug)]
pub struct Trace {
    span: Span,
    method: &'static str,
    trace_id: Option<[u8; 32]>,
    caller: Option<Arc<Identity>>,
    operation: Name,
    tool: Name,
}

impl Trace {
    /// For a new request.
    pub fn new<B>(request: &Request<B>) -> Self {
        let (method, trace_id) = (method(request.method()), trace_id(request.headers()));
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
            method,
            trace_id: trace_id.and_then(|id| id.as_bytes().try_into().ok()),
            caller: None,
            operation: Name::default(),
            tool: Name::default(),
        }
    }

    /// The request's span.
    pub fn span(&self) -> Span {
        self.span.clone()
    }

    /// Records the caller.
    pub fn caller(&mut self, identity: &Arc<Identity>) {
        self.caller = Some(Arc::clone(identity));
        if !self.span.is_disabled() {
            self.span.record("client", identity.client_id.as_str());
            self.span.record("subject", subject_hash(&identity.subject));
        }
    }

    /// Records what is asked for: of a batch, the first message that is guarded.
    pub fn message(&mut self, messages: &Messages<'_>) {
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

    /// Records what the rules say of the first operation, and why.
    pub fn decided<'a>(
        &self,
        rules: &AccessRules,
        mut operations: impl Iterator<Item = Operation<'a>>,
        held: &[String],
    ) {
        if self.span.is_disabled() {
            return;
        }
        if let Some(operation) = operations.next() {
            let decision = rules.decide(operation, held);
            self.span.record("rule", tracing::field::display(decision));
        }
    }

    /// The end of the request.
    pub fn ended(&self, outcome: &'static str) {
        self.span.record("outcome", outcome);
    }

    /// Writes the line of a refusal.
    pub fn refused(&self, refusal: &Refusal) {
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
