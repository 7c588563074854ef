//! OAuth 2.1 in front of one MCP server: a reverse proxy that requires a valid access token.
//!
//! The checks of a request: metadata and CORS preflight → `Origin` and `Host` → token → path and method → session →
//! capacity → body → access rules → friction → server ([`proxy`]). No part of a request reaches the server before
//! it has passed all of them.

pub mod auth;
pub mod calls;
pub mod client;
pub mod compiled;
pub mod config;
pub mod drain;
pub mod glob;
pub mod http;
pub mod keys;
pub mod limits;
pub mod mcp;
pub mod metrics;
pub mod pacing;
pub mod proxy;
pub mod readiness;
pub mod reload;
pub mod reload_keys;
pub mod resource;
pub mod server;
pub mod tool_label;
pub mod trace;
