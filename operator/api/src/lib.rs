//! The Kubernetes API of `mcpauth.io/v1alpha1`: McpAuthServer, ProtectedMcpServer, McpOAuthClient.

pub mod auth_server;
pub mod conditions;
mod crd;
mod kubernetes;
pub mod oauth_client;
pub mod pod;
pub mod protected_server;
pub mod refs;
mod rules;
pub mod telemetry;

pub use auth_server::{McpAuthServer, McpAuthServerSpec, McpAuthServerStatus};
pub use crd::crds;
pub use oauth_client::{McpOAuthClient, McpOAuthClientSpec, McpOAuthClientStatus};
pub use protected_server::{ProtectedMcpServer, ProtectedMcpServerSpec, ProtectedMcpServerStatus};

/// The API group of all kinds.
pub const GROUP: &str = "mcpauth.io";
