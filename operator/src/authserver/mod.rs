//! A client for the admin API of authorization servers.
//!
//! The operator authenticates with a token of its own ServiceAccount, requested for the server's internal URL as
//! audience: a token stolen by one server works neither at another nor at the Kubernetes API.

mod client;
mod error;
mod internal;
mod server;
mod tokens;

pub use client::{AuthServers, Endpoint};
pub use error::CallError;
pub use internal::Internal;
pub use mcpauth_wire::admin::{Collection, Outcome};
pub use server::Server;
