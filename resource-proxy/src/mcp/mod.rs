//! MCP messages and sessions.

pub mod answers;
pub mod header_match;
pub mod message;
pub mod session;
