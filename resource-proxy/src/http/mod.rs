//! HTTP on both sides of the proxy: what is answered here, and what goes on to the MCP server.

pub mod body;
pub mod connection;
pub mod cors;
pub mod filter;
pub mod hard_limit;
pub mod host;
pub mod media_type;
pub mod metadata;
pub mod observer;
pub mod refusal;
pub mod stream;
pub mod upstream;
