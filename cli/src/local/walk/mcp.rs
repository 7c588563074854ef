//! A minimal MCP client for the scripted flow (Streamable HTTP, 2025-06-18).

use anyhow::{Context, bail, ensure};
use futures::StreamExt;
use reqwest::{Client, Response, header};
use serde_json::{Map, Value, json};

const VERSION: &str = "2025-06-18";
/// Maximum size of a response.
const ANSWER_BYTES: usize = 4 << 20;

/// A session with an MCP server.
pub struct Session {
    http: Client,
    url: String,
    token: String,
    id: Option<String>,
    requests: u64,
}

/// A tool call.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The tool.
    pub name: String,
    /// Its arguments.
    pub arguments: Value,
}

impl Session {
    /// Initializes a session.
    pub async fn start(http: Client, url: &str, token: String) -> anyhow::Result<Self> {
        let mut session = Self {
            http,
            url: url.to_owned(),
            token,
            id: None,
            requests: 0,
        };
        let client = json!({ "name": "kubectl-mcpauth", "version": env!("CARGO_PKG_VERSION") });
        let parameters =
            json!({ "protocolVersion": VERSION, "capabilities": {}, "clientInfo": client });
        session.request("initialize", parameters).await?;
        let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        let response = session.post(&initialized).await?;
        ensure!(
            response.status().is_success(),
            "notifications/initialized: {}",
            response.status()
        );
        Ok(session)
    }

    /// The access token.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Lists the server's tools.
    pub async fn tools(&mut self) -> anyhow::Result<Vec<Value>> {
        let result = self.request("tools/list", json!({})).await?;
        Ok(result["tools"].as_array().cloned().unwrap_or_default())
    }

    /// Calls a tool. An error that the tool returns is also a result.
    pub async fn call(&mut self, call: &Call) -> anyhow::Result<Value> {
        let parameters = json!({ "name": call.name, "arguments": call.arguments });
        self.request("tools/call", parameters).await
    }

    async fn request(&mut self, method: &str, params: Value) -> anyhow::Result<Value> {
        self.requests += 1;
        let id = self.requests;
        let message = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let response = self.post(&message).await?;
        let status = response.status();
        if !status.is_success() {
            bail!(
                "{method}: {status} {}",
                response.text().await.unwrap_or_default()
            );
        }
        if let Some(session) = response.headers().get("mcp-session-id") {
            self.id = Some(session.to_str()?.to_owned());
        }
        let mut answer = answer(response, id)
            .await
            .with_context(|| method.to_owned())?;
        if let Some(error) = answer.get("error") {
            bail!("{method}: {error}");
        }
        Ok(answer["result"].take())
    }

    async fn post(&self, message: &Value) -> reqwest::Result<Response> {
        let mut request = self
            .http
            .post(&self.url)
            .bearer_auth(&self.token)
            .header(header::ACCEPT, "application/json, text/event-stream")
            .json(message);
        if self.requests > 1 || message.get("id").is_none() {
            request = request.header("mcp-protocol-version", VERSION);
        }
        if let Some(id) = &self.id {
            request = request.header("mcp-session-id", id);
        }
        request.send().await
    }
}

/// The response to request `id`: the body's JSON, or the first such message of an event stream.
async fn answer(response: Response, id: u64) -> anyhow::Result<Value> {
    let content_type = response
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok());
    if !content_type.is_some_and(|value| value.starts_with("text/event-stream")) {
        return response
            .json()
            .await
            .context("the response body is not JSON");
    }
    let mut text = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        text.extend_from_slice(&chunk?);
        ensure!(
            text.len() <= ANSWER_BYTES,
            "the response is longer than {ANSWER_BYTES} bytes"
        );
        if let Some(answer) = find_event(&text, id) {
            return Ok(answer);
        }
    }
    bail!("the event stream ended without a response to this request")
}

/// The message with `id` among the complete lines of an event stream.
fn find_event(text: &[u8], id: u64) -> Option<Value> {
    let complete = text.iter().rposition(|byte| *byte == b'\n')?;
    String::from_utf8_lossy(&text[..complete])
        .lines()
        .filter_map(|line| line.strip_prefix("data:"))
        .filter_map(|data| serde_json::from_str::<Value>(data.trim_start()).ok())
        .find(|message| message["id"] == id)
}

/// The interesting part of a tool's result.
pub fn content(answer: &Value) -> &Value {
    answer
        .get("structuredContent")
        .or_else(|| answer.get("content"))
        .unwrap_or(answer)
}

/// A call of the first tool that is not destructive and whose arguments can be made up.
pub fn choose(tools: &[Value]) -> Option<Call> {
    tools
        .iter()
        .filter(|tool| tool["annotations"]["destructiveHint"] != true)
        .find_map(made_up)
}

/// A call that can be repeated: of a read-only tool that needs no arguments.
pub fn choose_for_burst(tools: &[Value]) -> Option<Call> {
    tools
        .iter()
        .filter(|tool| tool["annotations"]["readOnlyHint"] == true)
        .filter_map(made_up)
        .find(|call| call.arguments == json!({}))
}

/// A call with made-up values for the required arguments, which must all be strings.
fn made_up(tool: &Value) -> Option<Call> {
    let schema = &tool["inputSchema"];
    let mut arguments = Map::new();
    for name in schema["required"].as_array().into_iter().flatten() {
        let name = name.as_str()?;
        if schema["properties"][name]["type"] != "string" {
            return None;
        }
        let is_id = name == "id" || name.ends_with("_id") || name.ends_with("Id");
        if is_id {
            return None;
        }
        arguments.insert(name.to_owned(), "Hello from kubectl mcpauth".into());
    }
    let name = tool["name"].as_str()?.to_owned();
    Some(Call {
        name,
        arguments: Value::Object(arguments),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_found_among_events() {
        let text = b"event: message\ndata: {\"id\":1}\n\ndata:{\"id\":2,\"result\":3}\n\n";
        assert_eq!(find_event(text, 2).unwrap()["result"], 3);
        assert_eq!(find_event(text, 3), None);
        assert_eq!(find_event(b"data: {\"id\":2", 2), None);
    }

    #[test]
    fn a_tool_is_called_only_with_what_can_be_made_up() {
        let tool = |name: &str, required: Value, hints: Value| {
            json!({ "name": name, "annotations": hints, "inputSchema": { "required": required,
                "properties": { "id": { "type": "string" }, "title": { "type": "string" } } } })
        };
        let tools = [
            tool("delete_note", json!([]), json!({ "destructiveHint": true })),
            tool("read_note", json!(["id"]), json!({ "readOnlyHint": true })),
            tool("create_note", json!(["title"]), json!({})),
            tool("list_notes", json!([]), json!({ "readOnlyHint": true })),
        ];
        let call = choose(&tools).unwrap();
        assert_eq!(
            (call.name.as_str(), &call.arguments),
            (
                "create_note",
                &json!({ "title": "Hello from kubectl mcpauth" })
            )
        );
        assert_eq!(choose_for_burst(&tools).unwrap().name, "list_notes");
    }
}
