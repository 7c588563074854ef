//! The child of a McpOAuthClient: the Secret with its credentials.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use mcpauth_api::McpOAuthClientSpec;

use super::{
    labels::{Component, Owner},
    names,
};

/// Key of the client's id in the Secret.
pub const CLIENT_ID: &str = "client_id";
/// Key of the client's secret in the Secret.
pub const CLIENT_SECRET: &str = "client_secret";

/// Annotation of a Secret that was written with a client secret; without it, the Secret was a public client's.
pub const ISSUED: &str = "mcpauth.io/client-secret-issued";

/// Name of the Secret of the McpOAuthClient `name`.
#[must_use]
pub fn secret_name(name: &str, spec: &McpOAuthClientSpec) -> String {
    spec.secret
        .as_ref()
        .map_or_else(|| names::client_secret(name), |secret| secret.name.clone())
}

/// The Secret. `client_secret` is generated once, for methods that have one; `issuer` is the issuer of the
/// client's McpAuthServer.
#[must_use]
pub fn secret(
    owner: &Owner,
    spec: &McpOAuthClientSpec,
    client_secret: Option<&str>,
    issuer: &str,
) -> Secret {
    let client_id = names::client_id(&owner.namespace, &owner.name);
    let mut values = vec![
        (CLIENT_ID, client_id),
        ("issuer", issuer.to_owned()),
        ("token_endpoint", format!("{issuer}/token")),
    ];
    let mut metadata = owner.kept(secret_name(&owner.name, spec), Component::OAuthClient);
    if let Some(client_secret) = client_secret {
        values.push((CLIENT_SECRET, client_secret.to_owned()));
        metadata.annotations = Some(BTreeMap::from([(ISSUED.to_owned(), "true".to_owned())]));
    }
    super::secret(metadata, values)
}
