//! The five tools, served over Streamable HTTP.

use std::sync::{Arc, Mutex, PoisonError};

use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{CallToolResult, ContentBlock, Implementation, ServerCapabilities, ServerConfig};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ServerHandler, tool, tool_handler, tool_router};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::notes::{Note, NoteError, Notes};

/// The router with the MCP endpoint at `/mcp`; sessions end when `stop` is cancelled.
///
/// Loopback `Host` headers are always answered (the guard against DNS rebinding); `allowed_hosts`
/// adds others.
pub fn app(allowed_hosts: Vec<String>, stop: CancellationToken) -> axum::Router {
    let notes = Arc::new(Mutex::new(Notes::default()));
    let mut config = StreamableHttpServerConfig::default().with_cancellation_token(stop);
    config.allowed_hosts.extend(allowed_hosts);
    let service = StreamableHttpService::new(
        move || {
            Ok(Server {
                notes: Arc::clone(&notes),
            })
        },
        Arc::new(LocalSessionManager::default()),
        config,
    );
    axum::Router::new().nest_service("/mcp", service)
}

#[derive(Clone)]
struct Server {
    notes: Arc<Mutex<Notes>>,
}

#[derive(Deserialize, JsonSchema)]
struct NewNote {
    /// One line, at most 200 bytes.
    title: String,
    /// Any text, at most 64 KiB.
    body: String,
}

#[derive(Deserialize, JsonSchema)]
struct NoteId {
    /// The note's id.
    id: u64,
}

#[derive(Deserialize, JsonSchema)]
struct NoteChange {
    /// The note's id.
    id: u64,
    /// The new title; absent: unchanged.
    title: Option<String>,
    /// The new body; absent: unchanged.
    body: Option<String>,
}

#[tool_router]
impl Server {
    #[tool(
        description = "Create a note.",
        annotations(
            read_only_hint = false,
            destructive_hint = false,
            open_world_hint = false
        )
    )]
    async fn create_note(&self, Parameters(new): Parameters<NewNote>) -> CallToolResult {
        self.with_notes(|notes| notes.create(new.title, new.body))
    }

    #[tool(
        description = "Read one note.",
        annotations(read_only_hint = true, open_world_hint = false)
    )]
    async fn read_note(&self, Parameters(NoteId { id }): Parameters<NoteId>) -> CallToolResult {
        self.with_notes(|notes| notes.read(id))
    }

    #[tool(
        description = "List all notes.",
        annotations(read_only_hint = true, open_world_hint = false)
    )]
    async fn list_notes(&self) -> CallToolResult {
        let notes = self
            .notes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .list();
        CallToolResult::structured(json!({ "notes": notes }))
    }

    #[tool(
        description = "Change a note's title, body or both.",
        annotations(
            read_only_hint = false,
            idempotent_hint = true,
            open_world_hint = false
        )
    )]
    async fn update_note(&self, Parameters(change): Parameters<NoteChange>) -> CallToolResult {
        self.with_notes(|notes| notes.update(change.id, change.title, change.body))
    }

    #[tool(
        description = "Delete a note.",
        annotations(
            read_only_hint = false,
            destructive_hint = true,
            open_world_hint = false
        )
    )]
    async fn delete_note(&self, Parameters(NoteId { id }): Parameters<NoteId>) -> CallToolResult {
        self.with_notes(|notes| notes.delete(id))
    }
}

impl Server {
    /// Runs one operation under the lock; a refusal becomes a tool error that the model can read.
    fn with_notes(
        &self,
        operation: impl FnOnce(&mut Notes) -> Result<Note, NoteError>,
    ) -> CallToolResult {
        // A panic elsewhere cannot leave `Notes` half-changed: every method checks, then writes.
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        match operation(&mut notes) {
            Ok(note) => CallToolResult::structured(json!(note)),
            Err(error) => CallToolResult::error(vec![ContentBlock::text(error.to_string())]),
        }
    }
}

#[tool_handler]
impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("notes", env!("CARGO_PKG_VERSION")))
            .with_instructions("Create, read, list, update and delete short notes.")
    }
}
