//! The admin API of authorization servers, as a client.
//!
//! The operator proves who it is with a token of its own ServiceAccount, made by TokenRequest for the
//! audience that is the server's internal URL: a token stolen by one server is of no use at another, nor
//! at the Kubernetes API.

mod client;
mod error;
mod server;
mod tokens;

pub use client::{AuthServers, Endpoint};
pub use error::CallError;
pub use mcpauth_wire::admin::{Collection, Outcome};
pub use server::Server;
