//! The child of a McpOAuthClient: the Secret with its credentials.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use mcpauth_api::McpOAuthClientSpec;

use super::{
    labels::{Component, Owner},
    names,
};

/// Key of the client's id in the Secret.
pub const CLIENT_ID: &str = "client_id";
/// Key of the client's secret in the Secret.
pub const CLIENT_SECRET: &str = "client_secret";

/// Annotation of a Secret that was written with a client secret: one without was a public client's.
pub const ISSUED: &str = "mcpauth.io/client-secret-issued";

/// Name of the Secret of the McpOAuthClient `name`.
#[must_use]
pub fn secret_name(name: &str, spec: &McpOAuthClientSpec) -> String {
    spec.secret
        .as_ref()
        .map_or_else(|| names::client_secret(name), |secret| secret.name.clone())
}

/// The Secret. `client_secret` is made once, for methods that have one; `issuer` is that of the
/// client's McpAuthServer.
#[must_use]
pub fn secret(
    owner: &Owner,
    spec: &McpOAuthClientSpec,
    client_secret: Option<&str>,
    issuer: &str,
) -> Secret {
    let entry = |key: &str, value: &str| (key.to_owned(), ByteString(value.as_bytes().to_vec()));
    let mut data = BTreeMap::from([
        entry(CLIENT_ID, &names::client_id(&owner.namespace, &owner.name)),
        entry("issuer", issuer),
        entry("token_endpoint", &format!("{issuer}/token")),
    ]);
    let mut metadata = owner.child(secret_name(&owner.name, spec), Component::OAuthClient);
    if let Some(client_secret) = client_secret {
        data.extend([entry(CLIENT_SECRET, client_secret)]);
        metadata.annotations = Some(BTreeMap::from([(ISSUED.to_owned(), "true".to_owned())]));
    }
    Secret {
        metadata,
        data: Some(data),
        ..Secret::default()
    }
}
