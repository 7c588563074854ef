//! The operator: three controllers that make McpAuthServer, ProtectedMcpServer and McpOAuthClient real.
//!
//! Each reconcile goes dereference → validate → build → apply → status. What decides is pure and takes no
//! client: [`leader::decide`], [`status::next`], [`pods`], [`backoff::delay`], `build`.

pub mod apply;
pub mod authserver_api;
pub mod backoff;
pub mod build;
pub mod clock;
pub mod config;
pub mod context;
pub mod controllers;
pub mod error;
pub mod events;
pub mod health;
pub mod leader;
pub mod metrics;
pub mod pods;
pub mod random;
pub mod references;
pub mod run;
pub mod status;
