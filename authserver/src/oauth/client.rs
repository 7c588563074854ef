//! OAuth clients: what is kept about one (RFC 7591, section 2).

use mcpauth_wire::authserver_config::SigningAlgorithm;
use mcpauth_wire::client::{AssertionAudience, Consent, GrantType, TokenEndpointAuthMethod};
use mcpauth_wire::{ResourceUri, Scopes};
use serde::{Deserialize, Serialize};

use crate::keys::pepper::KeyedHash;
use crate::oauth::admission::Owner;
use crate::oauth::resource::{self, Resource, ResourceScope};

/// A registered client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// 1–256 of `[A-Za-z0-9._~-]`, see [`mcpauth_wire::client::is_id`].
    pub client_id: String,
    /// Who registered it.
    pub origin: ClientOrigin,
    /// What it registered.
    pub metadata: ClientMetadata,
    /// Its secret, for the two `client_secret_*` methods.
    pub secret_hash: Option<KeyedHash>,
    /// The token by which it manages its registration (RFC 7592), if it has registered itself.
    pub registration_token: Option<KeyedHash>,
}

/// Who registered a client, and so who may change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientOrigin {
    /// The server's configuration file.
    Config,
    /// The admin API: an McpOAuthClient in Kubernetes.
    Declared,
    /// Dynamic registration (RFC 7591). Only these expire when unused.
    Dynamic,
}

impl ClientOrigin {
    /// The stored form.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Declared => "declared",
            Self::Dynamic => "dynamic",
        }
    }

    /// From the stored form.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Config, Self::Declared, Self::Dynamic]
            .into_iter()
            .find(|origin| origin.as_str() == text)
    }
}

/// A client's metadata, stored as this JSON: fields that an older row lacks take their default, fields
/// of a newer version are ignored, so that two versions of the server work on one store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientMetadata {
    /// Shown on the consent page.
    pub client_name: String,
    /// The client's home page.
    pub client_uri: Option<String>,
    /// The client's logo.
    pub logo_uri: Option<String>,
    /// How it authenticates at the token endpoint.
    pub token_endpoint_auth_method: TokenEndpointAuthMethod,
    /// Its public keys as a JWK set (RFC 7517), for `private_key_jwt`.
    pub jwks: Option<serde_json::Value>,
    /// What its assertions name as their audience.
    pub assertion_audience: AssertionAudience,
    /// Where authorization responses may go.
    pub redirect_uris: Vec<String>,
    /// What it may use at the token endpoint.
    pub grant_types: Vec<GrantType>,
    /// The namespace that a declared client belongs to.
    pub namespace: Option<String>,
    /// What a declared client may ask for; nothing else.
    pub allowed_resources: Vec<AllowedResource>,
    /// Whether users are asked before it gets access.
    pub consent: Consent,
    /// The algorithm that its ID tokens are signed with, by its name; absent: the server's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_token_signed_response_alg: Option<String>,
}

impl ClientMetadata {
    /// The algorithm that it registered for ID tokens, if this version knows it.
    pub fn id_token_signing_algorithm(&self) -> Option<SigningAlgorithm> {
        SigningAlgorithm::parse(self.id_token_signed_response_alg.as_deref()?)
    }
}

/// What a client may have at a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AllowedResource {
    /// The resource's URI (RFC 8707), in any spelling that is equal.
    pub uri: String,
    /// The scopes; empty: none.
    pub scopes: Scopes,
}

impl Client {
    /// The resource's scopes that the client may have; none when it may have no token for it at all: its
    /// owner must admit the client, and a declared client must name it.
    pub fn scopes_at(&self, resource: &Resource) -> Option<Scopes> {
        if !resource.allowed_clients.admit(self.owner()) {
            return None;
        }
        let allowed = &self.metadata.allowed_resources;
        grantable(self.origin, allowed, &resource.resource, &resource.scopes)
    }

    /// Whether the client names the resource with this URI, or needs not to.
    pub fn may_ask_for(&self, resource: &str) -> bool {
        let allowed = &self.metadata.allowed_resources;
        self.owner() == Owner::Itself || named_in(allowed, resource).next().is_some()
    }

    /// Whether users are asked before the client gets access to the resource: both its own declaration and the
    /// resource can insist.
    pub fn needs_consent(&self, resource: &Resource) -> bool {
        let trusted = self.metadata.consent == Consent::Trusted;
        !trusted || !resource.allowed_clients.without_consent(self.owner())
    }

    /// Whose the client is.
    pub fn owner(&self) -> Owner<'_> {
        match self.origin {
            ClientOrigin::Dynamic => Owner::Itself,
            ClientOrigin::Config | ClientOrigin::Declared => {
                Owner::Namespace(self.metadata.namespace.as_deref())
            }
        }
    }
}

/// The scopes that a client may have at a resource, where it is admitted: at issue, at refresh and in the answer of introspection.
/// None when it may have no token at all. What a client may have, every user may grant it.
pub fn grantable(
    origin: ClientOrigin,
    allowed: &[AllowedResource],
    resource: &str,
    known: &[ResourceScope],
) -> Option<Scopes> {
    let all = resource::names(known);
    if origin == ClientOrigin::Dynamic {
        return Some(all);
    }
    let mut named = named_in(allowed, resource).peekable();
    named.peek()?;
    let scopes: Scopes = named.flat_map(Scopes::iter).collect();
    Some(resource::with_implied(known, &scopes).intersection(&all))
}

/// The scopes of each entry that names the resource with this URI.
fn named_in<'a>(
    allowed: &'a [AllowedResource],
    resource: &'a str,
) -> impl Iterator<Item = &'a Scopes> {
    let named = |uri: &str| ResourceUri::parse(uri).is_ok_and(|uri| uri.is_named_by(resource));
    let allowed = allowed.iter();
    let named = allowed.filter(move |allowed| named(&allowed.uri));
    named.map(|allowed| &allowed.scopes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_of_another_version_is_read() {
        let metadata: ClientMetadata =
            serde_json::from_str(r#"{"clientName":"x","fromTheFuture":1}"#).unwrap();
        assert_eq!(metadata.client_name, "x");
        assert_eq!(
            metadata.token_endpoint_auth_method,
            TokenEndpointAuthMethod::None
        );
    }
}
