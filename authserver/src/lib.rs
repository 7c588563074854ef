//! The authorization server: OAuth 2.1 for MCP clients, introspection for MCP servers.

pub mod client;
pub mod clock;
pub mod code;
pub mod grant;
pub mod pepper;
pub mod random;
pub mod rate_limit;
pub mod resource;
pub mod scope;
pub mod signing_key;
pub mod store;
pub mod token;
