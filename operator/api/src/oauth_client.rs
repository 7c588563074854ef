//! `McpOAuthClient`: a client that is registered at an authorization server.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use mcpauth_wire::client::{
    KEY_COUNT, LOGO_PATTERN, NAME_LENGTH, RESOURCE_COUNT, RSA_EXPONENT, RSA_MODULUS, SCOPE_COUNT,
    WEB_LENGTH, WEB_PATTERN,
};
use mcpauth_wire::{redirect_uri, resource_uri, scope};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::refs::{AuthServerRef, LABEL, SUBDOMAIN};
use crate::rules;

/// The desired state of an OAuth client.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "mcpauth.io",
    version = "v1alpha1",
    kind = "McpOAuthClient",
    plural = "mcpoauthclients",
    namespaced,
    shortname = "moc",
    category = "mcp",
    status = "McpOAuthClientStatus",
    derive = "PartialEq",
    doc = "An OAuth 2.1 client, registered with a McpAuthServer.",
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Client ID", type_ = "string", json_path = ".status.clientId"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Issuer", type_ = "string", json_path = ".status.issuer", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].message"#, priority = 1),
    validation = Rule::new("size(self.metadata.name) <= 63").message("metadata.name must be at most 63 characters long: it is the value of a label")
)]
#[x_kube(validation = Rule::new("!('authorization_code' in self.grantTypes) || (has(self.redirectUris) && size(self.redirectUris) > 0)").message("redirectUris: the grant type authorization_code requires at least one"))]
#[x_kube(validation = Rule::new("!('client_credentials' in self.grantTypes) || self.tokenEndpointAuthMethod != 'none'").message("grantTypes: client_credentials requires a tokenEndpointAuthMethod other than none"))]
#[x_kube(validation = Rule::new("!('refresh_token' in self.grantTypes) || 'authorization_code' in self.grantTypes").message("grantTypes: refresh_token requires authorization_code"))]
#[x_kube(validation = Rule::new("(self.tokenEndpointAuthMethod == 'private_key_jwt') == has(self.jwks)").message("jwks is required with tokenEndpointAuthMethod: private_key_jwt, and not allowed otherwise"))]
#[x_kube(validation = Rule::new("self.tokenEndpointAuthMethod == 'private_key_jwt' || self.assertionAudience == 'Issuer'").message("assertionAudience: TokenEndpoint requires tokenEndpointAuthMethod: private_key_jwt"))]
#[x_kube(validation = rules::trusted_clients())]
#[serde(rename_all = "camelCase")]
pub struct McpOAuthClientSpec {
    /// The McpAuthServer that the client is registered with. Immutable.
    #[x_kube(validation = Rule::new("self == oldSelf").message("authServerRef is immutable: delete the object and create it again"))]
    pub auth_server_ref: AuthServerRef,
    /// The client's name, shown on the consent page. Defaults to the object's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = NAME_LENGTH.most))]
    pub client_name: Option<String>,
    /// URL of a web page about the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = WEB_LENGTH.most), regex(pattern = WEB_PATTERN))]
    pub client_uri: Option<String>,
    /// URL of the client's logo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = WEB_LENGTH.most), regex(pattern = LOGO_PATTERN))]
    pub logo_uri: Option<String>,
    /// How the client authenticates at the token endpoint (RFC 7591 section 2).
    #[serde(default)]
    pub token_endpoint_auth_method: TokenEndpointAuthMethod,
    /// The client's public keys, for `private_key_jwt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks: Option<JsonWebKeySet>,
    /// The audience (`aud`) in the client's assertions, for `private_key_jwt`. `TokenEndpoint` also accepts the URL of the
    /// token endpoint; use it only for old clients that cannot send the issuer.
    #[serde(default)]
    pub assertion_audience: AssertionAudience,
    /// Redirect URIs, compared as strings except for the port on loopback hosts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = redirect_uri::COUNT.most),
        inner(
            length(min = redirect_uri::LENGTH.least, max = redirect_uri::LENGTH.most),
            regex(pattern = redirect_uri::PATTERN)
        )
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[x_kube(validation = rules::redirect_uris())]
    #[x_kube(validation = rules::redirect_uri_schemes())]
    #[x_kube(validation = rules::redirect_uris_without_user_info())]
    pub redirect_uris: Vec<String>,
    /// The grant types that the client may use.
    #[serde(default = "grant_types")]
    #[schemars(length(min = 1, max = 3))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub grant_types: Vec<GrantType>,
    /// The resources that the client may request tokens for, with the scopes that it may have there.
    /// None when omitted. Each resource must also allow the client.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = RESOURCE_COUNT.most))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[x_kube(validation = rules::resource_references())]
    #[x_kube(validation = rules::resource_references_without_dot_segments())]
    pub resources: Vec<ResourceRef>,
    /// The Secret that the operator writes the client id and client secret to. Defaults to
    /// `NAME-oauth-client`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<OutputSecret>,
    /// Whether users are asked before the client gets access. `Trusted` counts only at resources whose
    /// `allowedClients.withoutConsent` includes the client's namespace.
    #[serde(default)]
    pub consent: Consent,
    /// What happens to the registration when this object is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

fn grant_types() -> Vec<GrantType> {
    vec![GrantType::AuthorizationCode, GrantType::RefreshToken]
}

/// How a client authenticates (RFC 7591 section 2, RFC 7523).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenEndpointAuthMethod {
    /// No authentication: a public client.
    None,
    /// Client secret in HTTP Basic authentication.
    #[default]
    ClientSecretBasic,
    /// Client secret in the request body.
    ClientSecretPost,
    /// A JWT signed with one of its keys.
    PrivateKeyJwt,
}

impl TokenEndpointAuthMethod {
    /// Whether the client has a secret.
    #[must_use]
    pub fn has_secret(self) -> bool {
        matches!(self, Self::ClientSecretBasic | Self::ClientSecretPost)
    }
}

/// The audience in a client's assertions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AssertionAudience {
    /// The issuer.
    #[default]
    Issuer,
    /// The issuer or the token endpoint's URL.
    TokenEndpoint,
}

/// A grant type (RFC 7591 section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GrantType {
    /// The client acts for a user who authorized it.
    AuthorizationCode,
    /// The client renews what a user authorized.
    RefreshToken,
    /// The client acts on its own behalf.
    ClientCredentials,
}

/// Public keys (RFC 7517).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JsonWebKeySet {
    /// The keys.
    #[schemars(length(min = KEY_COUNT.least, max = KEY_COUNT.most))]
    pub keys: Vec<JsonWebKey>,
}

/// A public key (RFC 7517). Private members are not part of it: the API server drops them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JsonWebKey {
    /// Key type: `RSA`, `EC` or `OKP`.
    #[schemars(length(max = 8))]
    pub kty: String,
    /// Key id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub kid: Option<String>,
    /// What the key is for: `sig`.
    #[serde(default, rename = "use", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub use_: Option<String>,
    /// The algorithm that the key is for, such as `ES256`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub alg: Option<String>,
    /// Modulus, of an RSA key, in base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = RSA_MODULUS.least, max = RSA_MODULUS.most))]
    pub n: Option<String>,
    /// Exponent, of an RSA key, in base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = RSA_EXPONENT.least, max = RSA_EXPONENT.most))]
    pub e: Option<String>,
    /// Curve, of an EC or OKP key, such as `P-256` or `Ed25519`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub crv: Option<String>,
    /// X coordinate, of an EC or OKP key, in base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub x: Option<String>,
    /// Y coordinate, of an EC key, in base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub y: Option<String>,
}

/// A resource that a client may request tokens for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.name) != has(self.uri)").message("resources: set either name or uri"))]
#[x_kube(validation = Rule::new("!has(self.namespace) || has(self.name)").message("resources: namespace requires name"))]
pub struct ResourceRef {
    /// Name of a ProtectedMcpServer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL))]
    pub name: Option<String>,
    /// Namespace of the ProtectedMcpServer. Defaults to the client's own namespace. A
    /// ProtectedMcpServer in another namespace must allow this one in its allowedClients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL))]
    pub namespace: Option<String>,
    /// A resource identifier (RFC 8707).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = resource_uri::MAX_LENGTH))]
    pub uri: Option<String>,
    /// The scopes that the client may have at this resource, with those that they imply. None when
    /// omitted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = SCOPE_COUNT.most),
        inner(
            length(min = scope::NAME_LENGTH.least, max = scope::NAME_LENGTH.most),
            regex(pattern = scope::NAME_PATTERN)
        )
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub scopes: Vec<String>,
}

/// The Secret that a client's credentials are written to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutputSecret {
    /// Name of the Secret. An existing Secret that this object does not own is never overwritten.
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub name: String,
}

/// Whether users are asked before a client gets access.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Consent {
    /// Users see a consent page.
    #[default]
    Ask,
    /// Users see no consent page where the resource allows this.
    Trusted,
}

/// What happens to the registration when the object is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// Remove the client from the authorization server and revoke its grants.
    #[default]
    Delete,
    /// Keep the client registered.
    Orphan,
}

/// The observed state of an OAuth client.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct McpOAuthClientStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The conditions; `Ready` summarizes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The client id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub client_id: Option<String>,
    /// The issuer of the tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub issuer: Option<String>,
    /// The token endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub token_endpoint: Option<String>,
    /// Name of the Secret that holds the client id and client secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub secret_name: Option<String>,
}
