//! The authorization server: OAuth 2.1 for MCP clients, introspection for MCP servers.

pub mod audit;
pub mod config;
pub mod documents;
pub mod http;
pub mod internal_tls;
pub mod issue;
pub mod keys;
pub mod login;
pub mod metrics;
pub mod oauth;
pub mod pepper_use;
pub mod random;
pub mod readiness;
pub mod reloaded;
pub mod run;
pub mod signing;
pub mod store;
