//! What is told of calls, which are the operations that access rules are about: a metric for each rule, and a line of
//! the audit for each call.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use mcpauth_service::audit::budget::Source;
use mcpauth_service::audit::{Audit, bounded};
use mcpauth_service::clock::Clock;
use serde::Serialize;

use crate::auth::authorize::{Decider, Decision, Operation};
use crate::auth::identity::Identity;
use crate::compiled::Runtime;
use crate::http::refusal::Refusal;
use crate::mcp::guard::{self, Guarded, Target};
use crate::mcp::message::Messages;
use crate::mcp::session::Fingerprint;
use crate::metrics::{Metrics, Rule};

/// The event of every line.
const EVENT: &str = "call";
/// How much of a name is kept, in bytes, and how much of a URI or a reason.
const MAX_NAME: usize = 128;
const MAX_TEXT: usize = 512;

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The server has answered it.
    Allowed,
    /// It did not get to the server: the rules, or the way it was sent.
    Refused,
    /// It did not get to the server: friction's hard limit.
    Limited,
    /// The server answered with an error status or not at all, or the token could not be checked again.
    Failed,
    /// The client disconnected before there was an answer. The server may have got it.
    Abandoned,
}

impl Outcome {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Refused => "refused",
            Self::Limited => "limited",
            Self::Failed => "failed",
            Self::Abandoned => "abandoned",
        }
    }

    fn of(refusal: Option<&'static str>, forwarded: bool, status: StatusCode) -> Self {
        match refusal {
            Some(_) if status.is_server_error() => Self::Failed,
            Some(_) => Self::Refused,
            None if !forwarded => Self::Limited,
            None if status.is_client_error() || status.is_server_error() => Self::Failed,
            None => Self::Allowed,
        }
    }
}

/// The calls of a request. They are told of when it ends, or is dropped.
#[derive(Debug)]
pub struct Calls {
    metrics: Metrics,
    audit: Audit,
    clock: Clock,
    began: Duration,
    delay: Duration,
    caller: Option<Arc<Identity>>,
    session: Option<Fingerprint>,
    refusal: Option<(&'static str, String)>,
    calls: Vec<Call>,
}

/// A call, and what the audit says of it if there is one.
#[derive(Debug)]
struct Call {
    rule: Rule,
    about: Option<About>,
}

#[derive(Debug, Serialize)]
struct About {
    method: Cow<'static, str>,
    #[serde(flatten)]
    target: Option<Named>,
    #[serde(flatten)]
    decided: Option<Decided>,
}

/// What a call is about.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Named {
    Tool(String),
    Resource(String),
    Prompt(String),
}

/// What decided, and the scopes that it asks for.
#[derive(Debug, Serialize)]
struct Decided {
    rule: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pattern: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requires: Option<Vec<String>>,
}

#[derive(Serialize)]
struct Line<'a> {
    event: &'static str,
    outcome: Outcome,
    subject: &'a str,
    client_id: &'a str,
    #[serde(flatten)]
    about: &'a About,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay_ms: Option<u128>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'a str>,
}

impl Calls {
    /// Of a request that begins.
    pub fn new(runtime: &Runtime) -> Self {
        Self {
            metrics: runtime.metrics.clone(),
            audit: runtime.audit.clone(),
            began: runtime.clock.monotonic(),
            clock: runtime.clock.clone(),
            delay: Duration::ZERO,
            caller: None,
            session: None,
            refusal: None,
            calls: Vec::new(),
        }
    }

    /// Who calls.
    pub fn caller(&mut self, caller: &Arc<Identity>) {
        self.caller = Some(Arc::clone(caller));
    }

    /// In which session.
    pub fn session(&mut self, fingerprint: impl FnOnce() -> Option<Fingerprint>) {
        if self.audit.is_on() {
            self.session = fingerprint();
        }
    }

    /// How long friction held them back.
    pub fn delayed(&mut self, delay: Duration) {
        self.delay += delay;
    }

    /// What is called. A second time it replaces the first: the rules may have changed meanwhile.
    pub fn asked(&mut self, messages: &Messages<'_>) {
        self.calls.clear();
        let is_on = self.audit.is_on();
        self.calls.extend(messages.guarded().map(|guarded| Call {
            rule: Rule::None,
            about: is_on.then(|| About::new(guarded)),
        }));
    }

    /// What the rules say of the call at this place.
    pub fn decided(&mut self, place: usize, operation: Operation<'_>, decision: &Decision<'_>) {
        let Some(call) = self.calls.get_mut(place) else {
            return;
        };
        call.rule = match decision.by {
            Decider::Rule(index, _) => Rule::At(index),
            Decider::Unmatched => Rule::Unmatched,
        };
        if let Some(about) = &mut call.about {
            about.decided(operation, decision);
        }
    }

    /// Why they are refused.
    pub fn refused(&mut self, refusal: &Refusal) {
        if !self.calls.is_empty() {
            let reason = bounded(&refusal.reason(), MAX_TEXT);
            self.refusal = Some((refusal.outcome(), reason));
        }
    }

    /// There is an answer for the client.
    pub fn ended(&mut self, forwarded: bool, status: StatusCode, trace_id: Option<&str>) {
        let refusal = self.refusal.as_ref().map(|(error, _)| *error);
        let outcome = Outcome::of(refusal, forwarded, status);
        self.tell(outcome, Some(status), trace_id);
    }

    /// The client is gone before there was one.
    pub fn abandoned(&mut self, trace_id: Option<&str>) {
        self.tell(Outcome::Abandoned, None, trace_id);
    }

    fn tell(&mut self, outcome: Outcome, status: Option<StatusCode>, trace_id: Option<&str>) {
        if self.calls.is_empty() {
            return;
        }
        let took = self.clock.monotonic().saturating_sub(self.began);
        for call in std::mem::take(&mut self.calls) {
            self.metrics.call(call.rule, outcome.as_str(), took);
            let (Some(about), Some(caller)) = (&call.about, &self.caller) else {
                continue;
            };
            let refusal = self.refusal.as_ref();
            let line = Line {
                event: EVENT,
                outcome,
                subject: &caller.subject,
                client_id: &caller.client_id,
                about,
                session: self.session.as_ref().map(Fingerprint::as_str),
                error: refusal.map(|(error, _)| *error),
                reason: refusal.map(|(_, reason)| reason.as_str()),
                status: status.map(|status| status.as_u16()),
                delay_ms: (!self.delay.is_zero()).then_some(self.delay.as_millis()),
                trace_id,
            };
            match outcome {
                // They cost a caller nothing.
                Outcome::Refused | Outcome::Limited => {
                    let source = Source::Subject(caller.subject.clone());
                    self.audit.record_within_budget(EVENT, source, &line);
                }
                Outcome::Allowed | Outcome::Failed | Outcome::Abandoned => self.audit.record(&line),
            }
        }
    }
}

impl About {
    fn new(guarded: Guarded<'_>) -> Self {
        let method = guarded.message.method.as_deref().unwrap_or_default();
        Self {
            method: match guard::known(method) {
                Some(method) => Cow::Borrowed(method),
                None => Cow::Owned(bounded(method, MAX_NAME)),
            },
            target: match guarded.target {
                Target::Operation(operation) => Named::of(operation),
                // Its id is as good as a password to some servers. The call that began it says more.
                Target::Task(_) => None,
            },
            decided: None,
        }
    }

    fn decided(&mut self, operation: Operation<'_>, decision: &Decision<'_>) {
        if self.target.is_none() {
            self.target = Named::of(operation);
        }
        let (rule, pattern) = match decision.by {
            Decider::Rule(index, pattern) => (format!("access.rules[{index}]"), Some(pattern)),
            Decider::Unmatched => ("access.unmatched".to_owned(), None),
        };
        self.decided = Some(Decided {
            rule,
            pattern: pattern.map(str::to_owned),
            requires: decision.needed.map(<[String]>::to_vec),
        });
    }
}

impl Named {
    fn of(operation: Operation<'_>) -> Option<Self> {
        match operation {
            Operation::Tool(name) => Some(Self::Tool(bounded(name, MAX_NAME))),
            Operation::Prompt(name) => Some(Self::Prompt(bounded(name, MAX_NAME))),
            Operation::Resource(uri) => {
                Some(Self::Resource(bounded(&without_secrets(uri), MAX_TEXT)))
            }
            Operation::Method(_) => None,
        }
    }
}

/// A URI without the parts that can hold arguments and passwords: user information, query and fragment.
fn without_secrets(uri: &str) -> Cow<'_, str> {
    let end = uri.find(['?', '#']).unwrap_or(uri.len());
    let (path, rest) = uri.split_at(end);
    let authority = path.find("://").map_or(path.len(), |at| at + 3);
    let (scheme, after) = path.split_at(authority);
    let host_end = after.find('/').unwrap_or(after.len());
    let user = after[..host_end].rfind('@');
    if rest.is_empty() && user.is_none() {
        return Cow::Borrowed(uri);
    }
    let after = user.map_or(after, |at| &after[at..]);
    let hidden = |is_there: bool| if is_there { "…" } else { "" };
    let mark = rest.get(..1).unwrap_or_default();
    Cow::Owned(format!(
        "{scheme}{}{after}{mark}{}",
        hidden(user.is_some()),
        hidden(!rest.is_empty())
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_is_told_without_what_may_be_secret() {
        for (uri, told) in [
            ("notes://a/b", "notes://a/b"),
            ("notes:a@b", "notes:a@b"),
            ("db://root:hunter2@host/t@b", "db://…@host/t@b"),
            ("db://host/t?token=hunter2#x", "db://host/t?…"),
            ("db://u@host#hunter2", "db://…@host#…"),
            ("x?user:hunter2@y", "x?…"),
        ] {
            assert_eq!(without_secrets(uri), told);
        }
    }

    #[test]
    fn an_outcome_says_who_is_to_blame() {
        let of = |refusal, forwarded, status: u16| {
            Outcome::of(refusal, forwarded, StatusCode::from_u16(status).unwrap())
        };
        assert_eq!(of(None, true, 202), Outcome::Allowed);
        assert_eq!(of(None, true, 404), Outcome::Failed);
        assert_eq!(of(None, true, 500), Outcome::Failed);
        assert_eq!(of(None, false, 200), Outcome::Limited);
        assert_eq!(of(Some("denied"), true, 200), Outcome::Refused);
        assert_eq!(of(Some("insufficient_scope"), true, 403), Outcome::Refused);
        assert_eq!(of(Some("upstream_timeout"), true, 504), Outcome::Failed);
    }
}
