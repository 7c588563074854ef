//! The answer to messages of which one asks for something that is denied to everybody: as if the server did not have
//! it. Nothing of them reaches the server.

use http::StatusCode;
use serde_json::{Value, json};

use crate::auth::authorize::Operation;
use crate::mcp::era::Era;
use crate::mcp::guard::{Guarded, Target};
use crate::mcp::message::{Message, Messages};

/// The answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Absent {
    /// The status.
    pub status: StatusCode,
    /// The body; none where nothing asked for an answer.
    pub body: Option<Value>,
    /// Why, for logs.
    pub because: &'static str,
}

impl Absent {
    /// To messages of which this one is denied.
    pub fn new(era: Era, messages: &Messages<'_>, denied: Guarded<'_>) -> Self {
        let (code, text) = describe(denied.target);
        let answer = |message: &Message<'_>| {
            let id = message.id.as_ref()?;
            let (code, text) = if std::ptr::eq(message, denied.message) {
                (code, &*text)
            } else {
                (
                    -32600,
                    "not processed, because another message of the batch was refused",
                )
            };
            Some(json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": text } }))
        };
        let body = match messages {
            Messages::Single(message) => answer(message),
            Messages::Batch(batch) => {
                let answers: Vec<Value> = batch.iter().filter_map(answer).collect();
                (!answers.is_empty()).then_some(Value::Array(answers))
            }
        };
        Self {
            status: match (&body, era) {
                (None, _) => StatusCode::ACCEPTED,
                // Before 2026-07-28 a 404 means that the session is gone.
                (Some(_), Era::Stateless) if code == METHOD_NOT_FOUND => StatusCode::NOT_FOUND,
                (Some(_), _) => StatusCode::OK,
            },
            body,
            because: match denied.target {
                Target::Operation(_) => "access.unmatched denies it",
                Target::Task(_) => "the caller has begun no such task in this process",
            },
        }
    }
}

impl Absent {
    /// To messages of which this one has a method that the revision no longer has.
    pub fn removed(era: Era, messages: &Messages<'_>, removed: Guarded<'_>) -> Self {
        Self {
            because: "this revision of MCP has no such method",
            ..Self::new(era, messages, removed)
        }
    }
}

/// JSON-RPC: there is no such method.
const METHOD_NOT_FOUND: i32 = -32601;
/// JSON-RPC: what the parameters name does not exist.
const INVALID_PARAMS: i32 = -32602;

/// The JSON-RPC error code and its message.
fn describe(target: Target<'_>) -> (i32, String) {
    match target {
        Target::Task(_) => (INVALID_PARAMS, "task not found".into()),
        Target::Operation(operation) => match operation {
            Operation::Method(_) => (METHOD_NOT_FOUND, "Method not found".into()),
            Operation::Tool(name) => (INVALID_PARAMS, format!("Unknown tool: {name}")),
            Operation::Prompt(name) => (INVALID_PARAMS, format!("Unknown prompt: {name}")),
            Operation::Resource(uri) => (INVALID_PARAMS, format!("Resource not found: {uri}")),
        },
    }
}
