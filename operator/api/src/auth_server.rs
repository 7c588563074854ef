//! `McpAuthServer`: an OAuth 2.1 authorization server.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use mcpauth_wire::authserver_config::{
    ACCESS_TOKEN_SECONDS, AUTHORIZATION_CODE_SECONDS, GRANT_SECONDS, PER_MINUTE,
    REFRESH_GRACE_SECONDS, REFRESH_TOKEN_SECONDS, SUBJECT_LENGTH,
};
use mcpauth_wire::issuer;
use mcpauth_wire::redirect_uri::{SCHEME_COUNT, SCHEME_LENGTH, SCHEME_PATTERN};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    pod::{Quantity, Resources, Service},
    refs::{AllowedNamespaces, UriSecretRef, UsersSecretRef},
    rules,
};

/// What an authorization server is to be.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "mcpauth.io",
    version = "v1alpha1",
    kind = "McpAuthServer",
    plural = "mcpauthservers",
    namespaced,
    shortname = "mas",
    category = "mcp",
    status = "McpAuthServerStatus",
    scale(spec_replicas_path = ".spec.replicas", status_replicas_path = ".status.replicas", label_selector_path = ".status.selector"),
    derive = "PartialEq",
    doc = "An OAuth 2.1 authorization server for MCP servers.",
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 38").message("metadata.name must have at most 38 characters: the names of children are made from it"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')").message("metadata.name must begin with a letter and consist of lower-case letters, digits and hyphens: a Service has that name")
)]
#[x_kube(validation = Rule::new("!has(self.storage.memory) || self.replicas <= 1").message("storage.memory is not shared between replicas: use storage.postgres, or replicas: 1"))]
#[x_kube(validation = Rule::new("!has(self.login.developmentAutoApprove) || self.issuer.matches('^https?://(localhost|127[.]0[.]0[.]1|\\\\[::1\\\\])(:[0-9]+)?(/|$)')").message("login.developmentAutoApprove approves everybody: it needs an issuer on localhost, 127.0.0.1 or [::1]"))]
#[serde(rename_all = "camelCase")]
pub struct McpAuthServerSpec {
    /// The issuer identifier (RFC 8414): the URL at which clients reach the server, exactly as they
    /// compare it. https, or http on a loopback host; no trailing slash, query or fragment.
    #[schemars(length(min = 1, max = issuer::MAX_LENGTH))]
    #[x_kube(validation = rules::secure("issuer"))]
    #[x_kube(validation = Rule::new("!self.endsWith('/') && !self.contains('?') && !self.contains('#')").message("issuer must not have a trailing slash, a query or a fragment"))]
    #[x_kube(validation = rules::issuer_in_normal_form())]
    #[x_kube(validation = rules::issuer_without_default_port())]
    #[x_kube(validation = rules::no_dot_segments("issuer"))]
    pub issuer: String,
    /// How many pods serve. 0 stops the server. An autoscaler names this object, not its Deployment.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 100))]
    pub replicas: i32,
    /// The authserver's image; the operator's default when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// Compute resources of the authserver's container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// The Service of the public port.
    #[serde(default)]
    pub service: Service,
    /// Where grants, clients and tokens' hashes are kept. Exactly one of its members.
    pub storage: Storage,
    /// How users prove who they are. Exactly one of its members.
    pub login: Login,
    /// Which clients may register themselves.
    #[serde(default)]
    pub registration: Registration,
    /// How long tokens live.
    #[serde(default)]
    pub tokens: Tokens,
    /// How many requests the token endpoint takes.
    #[serde(default)]
    pub rate_limit: RateLimit,
    /// The namespaces whose objects may refer to this server.
    #[serde(default)]
    pub allowed_namespaces: AllowedNamespaces,
}

fn one() -> i32 {
    1
}

/// Where the authorization server keeps its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Storage {
    /// In the memory of the one pod: lost when it restarts.
    Memory(MemoryStorage),
    /// In PostgreSQL. Exactly one of its members.
    Postgres(PostgresStorage),
}

/// Memory has no settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryStorage {}

/// Which PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum PostgresStorage {
    /// One that the operator runs: a single instance on a volume, with a generated password. The
    /// volume is deleted with the McpAuthServer.
    Managed(ManagedPostgres),
    /// One that exists, by the connection URL in a Secret.
    SecretRef(UriSecretRef),
}

/// A PostgreSQL that the operator runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)").message("storageClassName cannot change: a volume stays in its class"))]
pub struct ManagedPostgres {
    /// The image, which follows the official `postgres` image's conventions; the operator's default
    /// when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// Size of the volume. It cannot change.
    #[serde(default = "one_gibibyte")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("size cannot change: enlarge the PersistentVolumeClaim itself"))]
    pub size: Quantity,
    /// StorageClass of the volume; the cluster's default when left out. It cannot change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
    /// Compute resources of the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
}

fn one_gibibyte() -> Quantity {
    Quantity("1Gi".to_owned())
}

/// How users prove who they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Login {
    /// Nobody is asked: every authorization request is approved as one subject. Only for a loopback
    /// issuer.
    DevelopmentAutoApprove(DevelopmentAutoApprove),
    /// Users with passwords, listed in a Secret.
    LocalUsers(LocalUsers),
}

/// Everybody is let in as one subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DevelopmentAutoApprove {
    /// The subject of the tokens.
    #[serde(default = "developer")]
    #[schemars(length(min = SUBJECT_LENGTH.least, max = SUBJECT_LENGTH.most))]
    pub subject: String,
}

fn developer() -> String {
    "developer".to_owned()
}

/// Users with passwords.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalUsers {
    /// The Secret that lists the users.
    pub secret_ref: UsersSecretRef,
}

/// Which clients may register themselves (RFC 7591).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Registration {
    /// Whether any client may register itself at `/register`.
    #[serde(default)]
    pub dynamic: bool,
    /// Private-use schemes (RFC 8252) that redirect URIs of such clients may have, besides https and
    /// http on loopback.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = SCHEME_COUNT.most),
        inner(
            length(min = SCHEME_LENGTH.least, max = SCHEME_LENGTH.most),
            regex(pattern = SCHEME_PATTERN)
        )
    )]
    #[x_kube(validation = rules::private_schemes())]
    pub allowed_redirect_schemes: Vec<String>,
}

/// How long tokens live, in seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tokens {
    /// An access token.
    #[serde(default = "access_token_seconds")]
    #[schemars(range(min = ACCESS_TOKEN_SECONDS.least, max = ACCESS_TOKEN_SECONDS.most))]
    pub access_token_seconds: u32,
    /// A refresh token that is not used.
    #[serde(default = "refresh_token_seconds")]
    #[schemars(range(min = REFRESH_TOKEN_SECONDS.least, max = REFRESH_TOKEN_SECONDS.most))]
    pub refresh_token_seconds: u32,
    /// A grant with all its tokens, however often it is refreshed.
    #[serde(default = "grant_seconds")]
    #[schemars(range(min = GRANT_SECONDS.least, max = GRANT_SECONDS.most))]
    pub grant_seconds: u32,
    /// An authorization code.
    #[serde(default = "authorization_code_seconds")]
    #[schemars(range(min = AUTHORIZATION_CODE_SECONDS.least, max = AUTHORIZATION_CODE_SECONDS.most))]
    pub authorization_code_seconds: u32,
    /// How long a refresh token that was used may be used again, by a client that refreshes in
    /// parallel or lost the answer.
    #[serde(default = "refresh_grace_seconds")]
    #[schemars(range(min = REFRESH_GRACE_SECONDS.least, max = REFRESH_GRACE_SECONDS.most))]
    pub refresh_grace_seconds: u32,
}

impl Default for Tokens {
    fn default() -> Self {
        Self {
            access_token_seconds: access_token_seconds(),
            refresh_token_seconds: refresh_token_seconds(),
            grant_seconds: grant_seconds(),
            authorization_code_seconds: authorization_code_seconds(),
            refresh_grace_seconds: refresh_grace_seconds(),
        }
    }
}

fn access_token_seconds() -> u32 {
    900
}

fn refresh_token_seconds() -> u32 {
    2_592_000
}

fn grant_seconds() -> u32 {
    7_776_000
}

fn authorization_code_seconds() -> u32 {
    60
}

fn refresh_grace_seconds() -> u32 {
    60
}

/// How many requests the token endpoint takes before it answers 429.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// Requests per minute of one client.
    #[serde(default = "client_requests_per_minute")]
    #[schemars(range(min = PER_MINUTE.least, max = PER_MINUTE.most))]
    pub client_requests_per_minute: u32,
    /// Failed requests per minute from one address.
    #[serde(default = "address_failures_per_minute")]
    #[schemars(range(min = PER_MINUTE.least, max = PER_MINUTE.most))]
    pub address_failures_per_minute: u32,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self {
            client_requests_per_minute: client_requests_per_minute(),
            address_failures_per_minute: address_failures_per_minute(),
        }
    }
}

fn client_requests_per_minute() -> u32 {
    600
}

fn address_failures_per_minute() -> u32 {
    60
}

/// What was observed of an authorization server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct McpAuthServerStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The state in detail; `Ready` sums it up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub url: Option<String>,
    /// How many pods there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// How many pods are ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// Selects the pods, for autoscalers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub selector: Option<String>,
}
