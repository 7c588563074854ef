//! The operator: three controllers that reconcile McpAuthServer, ProtectedMcpServer and McpOAuthClient.
//!
//! Each reconcile has the steps dereference → validate → build → apply → status. Decisions are pure functions that
//! take no client: [`framework::leader::decide`], [`framework::status::next`], [`framework::backoff::delay`],
//! [`pods`], [`desired`].

pub mod authserver;
pub mod config;
pub mod controllers;
pub mod desired;
pub mod framework;
pub mod metrics;
pub mod platform;
pub mod pods;
pub mod probe;
pub mod problem;
pub mod random;
pub mod run;
pub mod text;
pub mod time;
