//! The answer to calls beyond the hard limit: what the model that made them can read, and when to try again.

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::http::refusal::json_response;
use crate::http::stream::Body;
use crate::limits::friction::TooMany;
use crate::mcp::message::{Message, Messages};

/// JSON-RPC error code for methods whose results cannot be errors. It is from the range that MCP leaves to servers.
const TOO_MANY: i32 = -32000;

/// Answers every message of a request. `has_types` says whether results have a type: since MCP 2026-07-28.
pub fn answer(messages: &Messages<'_>, refused: &TooMany, has_types: bool) -> Response<Body> {
    let seconds = refused.retry_after;
    let seconds = seconds.map(|seconds| seconds.as_secs_f64().ceil().max(1.0));
    let advice = match seconds {
        Some(seconds) => format!("Try again in {seconds} seconds."),
        None => {
            "This batch has more, so it will never be accepted. Send fewer calls at once.".into()
        }
    };
    let text = format!(
        "Too many calls: at most {} in {} seconds are allowed. {advice}",
        refused.limit.calls, refused.limit.period_seconds
    );
    let one = |message: &Message<'_>| message_answer(message, &text, has_types);
    let mut answers: Vec<Value> = messages.iter().filter_map(one).collect();
    let body = match messages {
        Messages::Batch(_) => json!(answers),
        Messages::Single(_) => answers.pop().unwrap_or_default(),
    };
    let is_empty = body.is_null() || body.as_array().is_some_and(Vec::is_empty);
    let mut response = if is_empty {
        // Notifications have no answer.
        let mut response = Response::new(Body::Left(Full::new(Bytes::new())));
        *response.status_mut() = StatusCode::ACCEPTED;
        response
    } else {
        json_response(StatusCode::OK, &body)
    };
    let seconds = seconds.map(|seconds| HeaderValue::try_from(seconds.to_string()));
    if let Some(Ok(seconds)) = seconds {
        response.headers_mut().insert(RETRY_AFTER, seconds);
    }
    response
}

fn message_answer(message: &Message<'_>, text: &str, has_types: bool) -> Option<Value> {
    let (id, method) = (message.id.as_ref()?, message.method.as_deref()?);
    if method != "tools/call" {
        let error = json!({ "code": TOO_MANY, "message": text });
        return Some(json!({ "jsonrpc": "2.0", "id": id, "error": error }));
    }
    let mut result = json!({ "content": [{ "type": "text", "text": text }], "isError": true });
    if has_types {
        result["resultType"] = json!("complete");
    }
    Some(json!({ "jsonrpc": "2.0", "id": id, "result": result }))
}
