//! The operator against a real API server.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says so when it fails"
)]

#[expect(dead_code, reason = "the other program uses the rest")]
#[path = "../support/mod.rs"]
mod support;

mod auth_server;
mod configuration;
mod crds;
mod leader;
mod oauth_client;
mod protected_server;
mod secrets;
mod trouble;
mod values;
