//! What the programs of this project say to each other: the two configuration files, the admin API,
//! introspection's answer, and the words that stand in them.
//!
//! Each document is one type that its writer serializes and its reader deserializes. What can be judged
//! by looking at the document alone is judged here, by its `check`; what needs a file, a key or the
//! network is judged by the program that has them. So the operator checks what it renders by the rules
//! of the program that will read it.
//!
//! Nothing here knows Kubernetes or HTTP. The resources' own types (`mcpauth-api`) use the bounds and
//! patterns of this crate in their schemas.

pub mod access;
pub mod admin;
pub mod authserver_config;
pub mod client;
pub mod friction;
pub mod introspection;
pub mod invalid;
pub mod issuer;
pub mod namespace;
pub mod origin;
pub mod principal;
pub mod proxy_config;
pub mod proxy_health;
pub mod read;
pub mod redirect_uri;
pub mod resource_uri;
pub mod scope;
pub mod secret;
pub mod tool;
pub mod web_url;

pub use authserver_config::AuthServerConfig;
pub use invalid::Invalid;
pub use issuer::Issuer;
pub use proxy_config::ProxyConfig;
pub use resource_uri::ResourceUri;
pub use scope::Scopes;
pub use secret::Secret;

#[cfg(test)]
mod patterns;
