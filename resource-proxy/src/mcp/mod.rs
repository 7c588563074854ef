//! MCP messages and sessions.

pub mod absent;
pub mod answers;
pub mod discover;
pub mod era;
pub mod events;
pub mod guard;
pub mod header_match;
pub mod list_filter;
pub mod message;
pub mod param_headers;
pub mod session;
pub mod spans;
pub mod tasks;
pub mod uri;
