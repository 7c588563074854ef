//! OAuth clients: what is kept about one (RFC 7591, section 2).

use serde::{Deserialize, Serialize};

use crate::keys::pepper::KeyedHash;
use crate::oauth::scope::Scopes;

/// A registered client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// 1–256 of `[A-Za-z0-9._~-]`, see [`is_client_id`].
    pub client_id: String,
    /// Who registered it.
    pub origin: ClientOrigin,
    /// What it registered.
    pub metadata: ClientMetadata,
    /// Its secret, for the two `client_secret_*` methods.
    pub secret_hash: Option<KeyedHash>,
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
    /// Where authorization responses may go.
    pub redirect_uris: Vec<String>,
    /// What it may use at the token endpoint.
    pub grant_types: Vec<GrantType>,
    /// The scopes it may get; empty: any.
    pub scopes: Scopes,
    /// The resources it may ask for, by URI (RFC 8707); empty: any.
    pub resources: Vec<String>,
}

/// `token_endpoint_auth_method` of RFC 7591 and OpenID Connect Core, section 9.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenEndpointAuthMethod {
    /// A public client.
    #[default]
    None,
    /// HTTP Basic.
    ClientSecretBasic,
    /// In the form.
    ClientSecretPost,
    /// A JWT signed with the client's key (RFC 7523).
    PrivateKeyJwt,
}

/// `grant_type` values that the token endpoint knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantType {
    /// OAuth 2.1, section 4.1.
    AuthorizationCode,
    /// OAuth 2.1, section 4.3.
    RefreshToken,
    /// OAuth 2.1, section 4.2.
    ClientCredentials,
}

impl GrantType {
    /// All of them: what the token endpoint supports.
    pub const ALL: [Self; 3] = [
        Self::AuthorizationCode,
        Self::RefreshToken,
        Self::ClientCredentials,
    ];

    /// The value of `grant_type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AuthorizationCode => "authorization_code",
            Self::RefreshToken => "refresh_token",
            Self::ClientCredentials => "client_credentials",
        }
    }

    /// From the value of `grant_type`.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == text)
    }
}

/// Whether this can be a client id: 1–256 of `[A-Za-z0-9._~-]`.
pub fn is_client_id(text: &str) -> bool {
    (1..=256).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_ids_are_short_and_plain() {
        assert!(is_client_id("default_ci-robot.1~"));
        assert!(is_client_id(&"a".repeat(256)));
        for wrong in ["", "a b", "a:b", "ä", "a/b", "a\n", &"a".repeat(257)] {
            assert!(!is_client_id(wrong), "{wrong:?}");
        }
    }

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
