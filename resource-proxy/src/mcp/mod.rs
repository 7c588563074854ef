//! MCP messages: what a request asks for, and its session.

pub mod header_match;
pub mod message;
pub mod session;
