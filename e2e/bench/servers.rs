//! The servers that ours are compared with or stand in front of.

use anyhow::Result;
use axum::{Form, Json, Router, http::header::CONTENT_TYPE, routing::post};
use serde_json::{Value, json};
use std::collections::HashMap;
use tokio::net::TcpListener;

/// An MCP server that always gives the same answer.
pub async fn upstream(port: &str) -> Result<()> {
    const ANSWER: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"Buy milk, call the plumber, answer the letter about the roof."}],"isError":false}}"#;
    let answer = || async { ([(CONTENT_TYPE, "application/json")], ANSWER) };
    serve(port, Router::new().route("/mcp", post(answer))).await
}

/// What introspection costs when there is nothing to look up: a form parsed, JSON given.
pub async fn handler(port: &str) -> Result<()> {
    async fn introspect(Form(form): Form<HashMap<String, String>>) -> Json<Value> {
        Json(json!({
            "active": form.contains_key("token"), "scope": "bench:call",
            "client_id": "7b0c2c2f-6a0f-4f4e-9d52-0b1f0a8f8a11", "sub": "developer",
            "aud": "http://localhost/mcp", "iss": "http://localhost:9000",
            "exp": 1_900_000_000, "iat": 1_899_999_100, "token_type": "Bearer",
            "jti": "5d1f0a8f8a117b0c2c2f6a0f4f4e9d52",
        }))
    }
    serve(port, Router::new().route("/introspect", post(introspect))).await
}

async fn serve(port: &str, router: Router) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port.parse()?)).await?;
    Ok(axum::serve(listener, router).await?)
}
