//! The formats that the programs of this project exchange: the two configuration files, the admin API,
//! the introspection response, and the types in them.
//!
//! Each document is one type that its writer serializes and its reader deserializes. Rules that
//! depend only on the document are checked here, by its `check`; rules that need a file, a key or the
//! network are checked by the program that has them. So the operator validates what it renders with the rules
//! of the program that will read it.
//!
//! Nothing here knows Kubernetes or HTTP. The resources' own types (`mcpauth-api`) use the bounds and
//! patterns of this crate in their schemas.

pub mod access;
pub mod admin;
pub mod authserver_config;
pub mod client;
pub mod client_address;
pub mod friction;
pub mod introspection;
pub mod invalid;
pub mod issuer;
mod locate;
pub mod namespace;
pub mod origin;
pub mod pepper_file;
pub mod principal;
pub mod proxy_config;
pub mod proxy_health;
pub mod proxy_keys;
pub mod read;
pub mod redirect_uri;
pub mod resource_uri;
pub mod scope;
pub mod secret;
pub mod telemetry;
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
