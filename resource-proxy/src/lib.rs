//! OAuth 2.1 in front of one MCP server: a reverse proxy that lets through who has a token for it.
//!
//! A request goes health → metadata and CORS preflight → `Origin` and `Host` → token → path and
//! method → session → room → body → scopes → friction → server ([`proxy`]). Nothing of it reaches the
//! server before it passed all of them.

pub mod bearer;
pub mod body;
pub mod clock;
pub mod config;
pub mod connection;
pub mod cors;
pub mod forward;
pub mod friction;
pub mod glob;
pub mod health;
pub mod host;
pub mod introspect;
pub mod message;
pub mod metadata;
pub mod metrics;
pub mod mirror;
pub mod policy;
pub mod proxy;
pub mod refusal;
pub mod reload;
pub mod resource;
pub mod room;
pub mod scopes;
pub mod server;
pub mod session;
pub mod settings;
pub mod stream;
pub mod verify;
