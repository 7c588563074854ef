//! OAuth 2.1 in front of one MCP server: a reverse proxy that lets through who has a token for it.
//!
//! A request goes health → metadata and CORS preflight → `Origin` and `Host` → token → path and
//! method → session → room → body → scopes → friction → server ([`proxy`]). Nothing of it reaches the
//! server before it passed all of them.

pub mod auth;
pub mod clock;
pub mod compiled;
pub mod config;
pub mod glob;
pub mod health;
pub mod http;
pub mod limits;
pub mod mcp;
pub mod metrics;
pub mod proxy;
pub mod reload;
pub mod resource;
pub mod server;
