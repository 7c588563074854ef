//! Builds Kubernetes objects and configuration files from a spec and what it references. Pure: nothing here talks to
//! a cluster, reads a clock or uses randomness.

pub mod auth_server;
pub mod authserver_config;
pub mod environment;
pub mod injection;
pub mod labels;
pub mod names;
mod network_policy;
pub mod oauth_client;
mod pod;
pub mod pod_security;
pub mod pod_template;
#[cfg(test)]
mod pod_tests;
pub mod postgres;
pub mod protected_server;
pub mod proxy_config;
pub mod registration;
pub mod telemetry;
#[cfg(test)]
mod tests;

use std::net::{Ipv6Addr, SocketAddr};

use k8s_openapi::{
    ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use mcpauth_wire::Invalid;
use serde::Serialize;

use crate::text::hex;

/// What the pods of all objects have in common: default images, and how they are pulled and run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// Of the authorization server.
    pub authserver: String,
    /// Of the resource-proxy.
    pub resource_proxy: String,
    /// Of the managed PostgreSQL.
    pub postgres: String,
    /// Names of the image pull Secrets for every pod.
    pub pull_secrets: Vec<String>,
    /// Whether pods name the uid and gid that they run as; not where the platform sets them.
    pub fixed_user_ids: bool,
}

/// A ServiceAccount that may use the admin API of authorization servers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Admin {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub service_account: String,
}

impl Admin {
    /// Its principal, as authorization servers see it.
    #[must_use]
    pub fn principal(&self) -> String {
        names::service_account_principal(&self.namespace, &self.service_account)
    }
}

/// What a ProtectedMcpServer needs to know about its McpAuthServer. It comes from that object, so nothing
/// waits for the authserver to be ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthServerFacts {
    /// Its issuer.
    pub issuer: String,
    /// URL of its internal port ([`names::internal_url`]).
    pub internal_url: String,
    /// The CA of the internal port's certificate, in PEM, if it speaks TLS.
    pub internal_ca: Option<String>,
}

/// Why objects could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The program that reads a configuration file would reject it.
    #[error("the configuration that results from this spec is invalid: {0}")]
    Refused(#[from] Invalid),
    /// The spec changes pods in a way that is not allowed.
    #[error(transparent)]
    Pod(#[from] pod_template::Refused),
    /// A configuration file cannot be serialized.
    #[error("cannot serialize the configuration file as YAML: {0}")]
    Yaml(#[from] serde_saphyr::SerializeError),
}

/// A port on all addresses of the host, of both IP families if it has both.
#[must_use]
pub fn everywhere(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))
}

/// A configuration file's text.
///
/// # Errors
/// When a value cannot be represented in YAML, which does not happen with our types.
pub fn yaml(config: &impl Serialize) -> Result<String, BuildError> {
    Ok(serde_saphyr::to_string(config)?)
}

/// A Secret with these values, by their keys.
fn secret<'a>(metadata: ObjectMeta, values: impl IntoIterator<Item = (&'a str, String)>) -> Secret {
    let entry = |(key, value): (&str, String)| (key.to_owned(), ByteString(value.into_bytes()));
    Secret {
        metadata,
        data: Some(values.into_iter().map(entry).collect()),
        ..Secret::default()
    }
}

/// A short hash of several parts, for annotations; it changes when any part changes.
#[must_use]
pub fn hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for part in parts {
        // The length distinguishes ("ab", "c") from ("a", "bc").
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    hex(&context.finish().as_ref()[..16])
}
