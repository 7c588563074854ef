//! The proxy between real sockets: a client, an MCP server and an introspection endpoint.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

mod common;

mod audit;
mod body;
mod browser;
mod discover;
mod drain;
mod era;
mod friction;
mod grantable;
mod guard;
mod introspection;
mod lists;
mod logs;
mod memory;
mod metadata;
mod program;
mod raw;
mod readers;
mod readiness;
mod reload;
mod session;
mod tasks;
mod token;
mod traces;
mod upstream;
