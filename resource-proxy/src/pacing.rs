//! Friction on requests: their calls wait, and what the server answers is counted.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use mcpauth_service::clock::Clock;
use serde::Deserialize;

use crate::auth::authorize::Operation;
use crate::auth::identity::Identity;
use crate::drain::Drain;
use crate::http::stream::{Reader, answer_format};
use crate::limits::friction::{
    Caller, Counted, Friction, FrictionConfig, Receipt, RetryKey, Slot, TooMany,
};
use crate::mcp::answers::{Answer, Answers};
use crate::mcp::guard::{self, Target};
use crate::mcp::message::{Message, Messages};
use crate::metrics::Metrics;
use crate::tool_label::ToolLabels;

/// How metrics name the methods about tasks.
const TASKS: &str = "tasks";
/// How metrics name the methods that MCP does not define.
const OTHER: &str = "other_methods";

/// Friction with its surroundings. It outlives a version of the configuration.
#[derive(Debug)]
pub struct Pacing {
    /// Locked for microseconds, never across an await.
    friction: Mutex<Option<Friction>>,
    clock: Clock,
    metrics: Metrics,
    drain: Arc<Drain>,
}

/// A request whose calls are to be paced.
#[derive(Clone, Copy, Debug)]
pub struct Calls<'a> {
    /// Who sent it.
    pub caller: &'a Identity,
    /// What was read of its body.
    pub messages: &'a Messages<'a>,
    /// Its body.
    pub body: &'a [u8],
    /// Whether its revision of MCP has retries with `requestState`: 2026-07-28.
    pub has_retries: bool,
}

impl Pacing {
    /// Without a configuration, no call waits.
    pub fn new(
        config: Option<&FrictionConfig>,
        clock: Clock,
        metrics: Metrics,
        drain: Arc<Drain>,
    ) -> Self {
        Self {
            friction: Mutex::new(config.map(Friction::new)),
            clock,
            metrics,
            drain,
        }
    }

    /// Applies new targets. What was observed is kept.
    pub fn reconfigure(&self, config: Option<&FrictionConfig>) {
        match (&mut *self.lock(), config) {
            (Some(friction), Some(config)) => friction.reconfigure(config),
            (slot, config) => *slot = config.map(Friction::new),
        }
    }

    /// Delays a request, and does not count its calls if the client disconnects in the meantime. Returns what the
    /// server's response is needed for, if it is.
    ///
    /// # Errors
    /// Its calls are refused.
    pub async fn hold_back(
        self: &Arc<Self>,
        calls: Calls<'_>,
        labels: &ToolLabels,
    ) -> Result<Option<Sent>, TooMany> {
        let (mut waiting, sent) = self.admit(calls, labels)?;
        if !waiting.delay.is_zero() {
            tokio::select! {
                () = self.clock.sleep(waiting.delay) => {}
                // The server behind is about to stop.
                () = self.drain.begun() => {}
            }
        }
        // They go to the server now, so they count, even if the drain cut their wait short.
        waiting.slots.clear();
        Ok(sent)
    }

    fn admit(
        self: &Arc<Self>,
        request: Calls<'_>,
        labels: &ToolLabels,
    ) -> Result<(Waiting<'_>, Option<Sent>), TooMany> {
        let mut waiting = Waiting {
            pacing: self,
            delay: Duration::ZERO,
            slots: Vec::new(),
        };
        let mut friction = self.lock();
        let Some(friction) = &mut *friction else {
            return Ok((waiting, None));
        };
        let caller = Caller {
            client_id: &request.caller.client_id,
            subject: &request.caller.subject,
        };
        let now = self.clock.monotonic();
        let number = counted(request.messages).count();
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        if number > 0 {
            // Retries, too: to the server each is a request.
            friction.limit(&caller, number, now)?;
        }
        let mut sent = Sent::new(self);
        if let (true, Some(call)) = (request.has_retries, only(request.messages)) {
            let key = friction.retry_key(&caller, call);
            let state = request_state(request.body);
            let next = state.and_then(|state| friction.is_retry(key, &state));
            sent.retry = Some(next.unwrap_or(key));
            if next.is_some() {
                return Ok((waiting, Some(sent)));
            }
        }
        for call in counted(request.messages) {
            let decision = friction.admit(&caller, call, now);
            let label = match call {
                Counted::Tool(tool) => labels.of(tool),
                Counted::Method(method) => method,
            };
            self.metrics.friction(label, &decision);
            // Calls of a batch are counted one after the other: the last one's delay is that of
            // all.
            waiting.delay = waiting.delay.max(decision.delay);
            if !decision.delay.is_zero() {
                waiting.slots.push(decision.slot);
            }
            if decision.receipt.matters() {
                sent.receipts.push(decision.receipt);
            }
        }
        if !waiting.delay.is_zero() {
            self.metrics.held_back(1);
        }
        if !only_calls_are_answered(request.messages) {
            sent.receipts.clear();
        }
        let is_needed = sent.retry.is_some() || !sent.receipts.is_empty();
        Ok((waiting, is_needed.then_some(sent)))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Friction>> {
        self.friction.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The calls of a request that count: those that need more than a valid token.
fn counted<'a>(messages: &'a Messages<'_>) -> impl Iterator<Item = Counted<'a>> {
    messages.guarded().map(|guarded| match guarded.target {
        Target::Operation(Operation::Tool(name)) => Counted::Tool(name),
        Target::Task(_) => Counted::Method(TASKS),
        Target::Operation(_) => {
            let method = guarded.message.method.as_deref();
            Counted::Method(method.and_then(guard::known).unwrap_or(OTHER))
        }
    })
}

/// Whether every answer is that of a counted call, and every call has one: which answer is whose is not looked at, so
/// that of a ping in the same batch would count as the success of a call.
fn only_calls_are_answered(messages: &Messages<'_>) -> bool {
    let is_request = |message: &&Message<'_>| message.id.is_some() && message.method.is_some();
    let requests = messages.iter().filter(is_request).count();
    let calls = messages.guarded();
    let calls = calls.filter(|guarded| guarded.message.id.is_some());
    requests == calls.count() && requests == counted(messages).count()
}

/// The call of a request that is not a batch.
fn only<'a>(messages: &'a Messages<'_>) -> Option<Counted<'a>> {
    match messages {
        Messages::Single(_) => counted(messages).next(),
        Messages::Batch(_) => None,
    }
}

/// `params.requestState` of a message.
fn request_state(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Message {
        params: Params,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Params {
        request_state: String,
    }
    let text = str::from_utf8(body).ok()?;
    if !text.contains("\"requestState\"") {
        return None;
    }
    let message: Message = serde_json::from_str(text).ok()?;
    Some(message.params.request_state)
}

/// Calls that friction delays. If they are dropped while they wait, they are not counted.
struct Waiting<'a> {
    pacing: &'a Pacing,
    delay: Duration,
    slots: Vec<Slot>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.delay.is_zero() {
            return;
        }
        self.pacing.metrics.held_back(-1);
        let now = self.pacing.clock.monotonic();
        if let Some(friction) = &mut *self.pacing.lock() {
            for slot in &self.slots {
                friction.release(slot, now);
            }
        }
    }
}

/// Calls that went to the server. How it answers decides what they count for.
#[derive(Debug)]
pub struct Sent {
    pacing: Arc<Pacing>,
    receipts: Vec<Receipt>,
    /// For the call of a request that is not a batch.
    retry: Option<RetryKey>,
    /// How many calls were answered without an error.
    succeeded: usize,
}

impl Sent {
    fn new(pacing: &Arc<Pacing>) -> Self {
        Self {
            pacing: Arc::clone(pacing),
            receipts: Vec::new(),
            retry: None,
            succeeded: 0,
        }
    }

    /// Sees the beginning of the response. Returns what has to see each piece of its body before it goes on to
    /// the client, and says whether it has to see more.
    pub fn read(mut self, status: StatusCode, headers: &HeaderMap) -> Option<Reader> {
        if !status.is_success() {
            return None;
        }
        let Some(format) = answer_format(headers) else {
            // It cannot be read here, which is the server's choice and not the client's.
            let is_empty = matches!(status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT);
            let calls = if is_empty { 0 } else { self.receipts.len() };
            (0..calls).for_each(|_| self.success());
            return None;
        };
        let mut answers = Answers::new(format);
        Some(Box::new(move |bytes| {
            answers.read(bytes, |answer| self.answered(answer));
            self.is_open()
        }))
    }

    /// Whether there is something to learn.
    fn is_open(&self) -> bool {
        self.retry.is_some() || self.succeeded < self.receipts.len()
    }

    fn answered(&mut self, answer: Answer) {
        if let Some(retry) = self.retry.take()
            && let Some(state) = answer.request_state
            && let Some(friction) = &mut *self.pacing.lock()
        {
            friction.asked(retry, &state);
        }
        if !answer.failed {
            self.success();
        }
    }

    fn success(&mut self) {
        let (receipts, last) = (&self.receipts, self.succeeded + 1);
        if self.succeeded < receipts.len() {
            self.succeeded = last;
            let now = self.pacing.clock.monotonic();
            if let Some(friction) = &mut *self.pacing.lock() {
                friction.succeeded(&receipts[last - 1], now);
                if last == receipts.len() {
                    // Which of a batch's calls failed is not known, but now none did.
                    receipts.iter().for_each(|one| friction.proved(one, now));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_proves_something_if_only_calls_are_answered() {
        const CALL: &str = r#"{"id":1,"method":"tools/call","params":{"name":"a"}}"#;
        const SILENT: &str = r#"{"method":"tools/call","params":{"name":"a"}}"#;
        const PING: &str = r#"{"id":2,"method":"ping"}"#;
        for (body, proves) in [
            (CALL.to_owned(), true),
            (format!("[{CALL},{CALL}]"), true),
            (
                format!(r#"[{CALL},{{"method":"notifications/x"}},{{"id":3,"result":{{}}}}]"#),
                true,
            ),
            (format!("[{CALL},{PING}]"), false),
            (format!("[{SILENT},{PING}]"), false),
            (format!("[{SILENT},{CALL}]"), false),
        ] {
            let messages = Messages::read(body.as_bytes()).unwrap();
            assert_eq!(only_calls_are_answered(&messages), proves, "{body}");
        }
    }

    #[test]
    fn every_guarded_method_counts() {
        for (method, expected) in [
            ("tools/call", Some(Counted::Tool("a"))),
            ("resources/read", Some(Counted::Method("resources/read"))),
            (
                "resources/subscribe",
                Some(Counted::Method("resources/subscribe")),
            ),
            ("prompts/get", Some(Counted::Method("prompts/get"))),
            (
                "completion/complete",
                Some(Counted::Method("completion/complete")),
            ),
            ("tasks/get", Some(Counted::Method("tasks"))),
            ("tasks/made-up", Some(Counted::Method("tasks"))),
            ("acme/export", Some(Counted::Method("other_methods"))),
            ("initialize", None),
            ("ping", None),
            ("tools/list", None),
            ("notifications/x", None),
        ] {
            let body = format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{"name":"a","uri":"notes://a","taskId":"1",
                "ref":{{"type":"ref/prompt","name":"a"}}}}}}"#
            );
            let messages = Messages::read(body.as_bytes()).unwrap();
            assert_eq!(counted(&messages).next(), expected, "{method}");
        }
    }
}
