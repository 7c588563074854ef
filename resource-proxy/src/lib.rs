//! OAuth 2.1 in front of one MCP server.

pub mod friction;
pub mod glob;
