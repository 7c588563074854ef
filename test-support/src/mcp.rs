//! A small MCP client over Streamable HTTP. It shows the HTTP answers as they are, which the SDKs
//! hide.

use anyhow::{Context as _, Result, ensure};
use reqwest::{
    RequestBuilder, Response, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, WWW_AUTHENTICATE},
};
use serde_json::{Value, json};

/// A session with an MCP server. Every request carries the same token.
pub struct Session {
    http: reqwest::Client,
    url: String,
    token: String,
    id: Option<String>,
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: StatusCode,
    /// The `WWW-Authenticate` challenge.
    pub challenge: Option<String>,
    /// The JSON-RPC message, or null where there is none.
    pub message: Value,
}

impl Session {
    /// Initializes a session (MCP 2025-06-18).
    ///
    /// # Errors
    /// When the server refuses; the error has the status.
    pub async fn begin(url: &str, token: &str) -> Result<Self> {
        let mut session = Self {
            http: crate::oauth::http()?,
            url: url.to_owned(),
            token: token.to_owned(),
            id: None,
        };
        let (reply, id) = session
            .exchange(&json!({
                "jsonrpc": "2.0", "id": 0, "method": "initialize",
                "params": {
                    "protocolVersion": "2025-06-18", "capabilities": {},
                    "clientInfo": { "name": "tests", "version": "1" },
                },
            }))
            .await?;
        ensure!(reply.status == StatusCode::OK, "initialize: {reply:?}");
        ensure!(
            reply.message["result"]["protocolVersion"].is_string(),
            "initialize: {reply:?}"
        );
        session.id = id;
        session
            .exchange(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }))
            .await?;
        Ok(session)
    }

    /// Listens for what the server sends by itself (GET).
    ///
    /// # Errors
    /// When there is no answer. A refusal is an answer.
    pub async fn listen(&self) -> Result<Response> {
        let mut request = self
            .http
            .get(&self.url)
            .header(ACCEPT, "text/event-stream")
            .header("mcp-protocol-version", "2025-06-18")
            .bearer_auth(&self.token);
        if let Some(id) = &self.id {
            request = request.header("mcp-session-id", id);
        }
        request.send().await.context("no answer")
    }

    /// The same session with another token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self {
            http: self.http.clone(),
            url: self.url.clone(),
            token: token.to_owned(),
            id: self.id.clone(),
        }
    }

    /// Calls a tool, and gives whatever answer there is.
    ///
    /// # Errors
    /// When there is no answer, or one that is not HTTP or JSON.
    pub async fn call(&self, tool: &str, arguments: &Value) -> Result<Reply> {
        let (reply, _) = self
            .exchange(&json!({
                "jsonrpc": "2.0", "id": 1, "method": "tools/call",
                "params": { "name": tool, "arguments": arguments },
            }))
            .await?;
        Ok(reply)
    }

    /// Calls a tool, and insists that it succeeds. Gives the result.
    ///
    /// # Errors
    /// When it does not.
    pub async fn must_call(&self, tool: &str, arguments: &Value) -> Result<Value> {
        let reply = self.call(tool, arguments).await?;
        let result = &reply.message["result"];
        ensure!(
            reply.status == StatusCode::OK && result.is_object() && result["isError"] != true,
            "{tool}: {reply:?}"
        );
        Ok(result.clone())
    }

    async fn exchange(&self, message: &Value) -> Result<(Reply, Option<String>)> {
        let mut request: RequestBuilder = self
            .http
            .post(&self.url)
            .header(ACCEPT, "application/json, text/event-stream")
            .header("mcp-protocol-version", "2025-06-18")
            .bearer_auth(&self.token)
            .json(message);
        if let Some(id) = &self.id {
            request = request.header("mcp-session-id", id);
        }
        let response = request.send().await.context("no answer")?;
        let header = |name: &str| {
            response
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        let (status, id) = (response.status(), header("mcp-session-id"));
        let challenge = header(WWW_AUTHENTICATE.as_str());
        let stream = header(CONTENT_TYPE.as_str())
            .is_some_and(|value| value.starts_with("text/event-stream"));
        let body = response.text().await?;
        let message = if stream {
            answer_in_stream(&body)
        } else {
            serde_json::from_str(&body).unwrap_or(Value::Null)
        };
        let reply = Reply {
            status,
            challenge,
            message,
        };
        Ok((reply, id))
    }
}

/// The last JSON message with an id in a stream of server-sent events: the answer.
fn answer_in_stream(body: &str) -> Value {
    body.lines()
        .filter_map(|line| line.strip_prefix("data:"))
        .filter_map(|data| serde_json::from_str::<Value>(data.trim()).ok())
        .rfind(|message| message.get("id").is_some())
        .unwrap_or(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_found_behind_notifications() {
        let body = "id: 0\ndata:\n\ndata: {\"method\":\"x\"}\n\ndata: {\"id\":1,\"result\":{}}\n\n";
        assert_eq!(answer_in_stream(body), json!({ "id": 1, "result": {} }));
        assert_eq!(answer_in_stream(""), Value::Null);
    }
}
