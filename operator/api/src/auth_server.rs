//! `McpAuthServer`: an OAuth 2.1 authorization server.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use mcpauth_wire::authserver_config::{
    ACCESS_TOKEN_SECONDS, ALGORITHM_COUNT, AUTHORIZATION_CODE_SECONDS, CALLER_COUNT,
    CALLER_ID_LENGTH, CALLER_ID_PATTERN, CONNECTIONS, GRANT_SECONDS, IDLE_DAYS, MAX_CLIENTS,
    NEVER_USED_HOURS, PER_MINUTE, REFRESH_GRACE_SECONDS, REFRESH_TOKEN_SECONDS, ROTATION_DAYS,
    SUBJECT_LENGTH, max_connections,
};
use mcpauth_wire::client_address::{
    HEADER_LENGTH, HEADER_PATTERN, NETWORK_LENGTH, TRUSTED_PROXY_COUNT, x_forwarded_for,
};
use mcpauth_wire::issuer;
use mcpauth_wire::proxy_config::CA_LENGTH;
use mcpauth_wire::redirect_uri::{SCHEME_COUNT, SCHEME_LENGTH, SCHEME_PATTERN};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    pod::{PodTemplate, Quantity, Resources, Service},
    refs::{
        AllowedNamespaces, CaRef, CallerSecretRef, InitialAccessTokenSecretRef, KeysSecretRef,
        ServerRef, TlsSecretRef, UriSecretRef, UsersSecretRef,
    },
    rules,
    telemetry::Telemetry,
};

/// The desired state of an authorization server.
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
    printcolumn(name = "Pods", type_ = "integer", json_path = ".status.readyReplicas", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].message"#, priority = 1),
    validation = Rule::new("size(self.metadata.name) <= 38").message("metadata.name must be at most 38 characters long: the names of its child objects are derived from it"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')").message("metadata.name must start with a letter and contain only lowercase letters, digits and hyphens: a Service name is derived from it")
)]
#[x_kube(validation = Rule::new("!has(self.storage.memory) || self.replicas <= 1").message("storage.memory is not shared between replicas: use storage.postgres, or replicas: 1"))]
#[x_kube(validation = Rule::new("!has(self.login.developmentAutoApprove) || self.issuer.matches('^https?://(localhost|127[.]0[.]0[.]1|\\\\[::1\\\\])(:[0-9]+)?(/|$)')").message("login.developmentAutoApprove signs everyone in without a password, so the issuer must be on localhost, 127.0.0.1 or [::1]"))]
#[serde(rename_all = "camelCase")]
pub struct McpAuthServerSpec {
    /// The issuer identifier (RFC 8414): the public URL of the server, compared byte for byte by
    /// clients. https, or http on a loopback host; no trailing slash, query or fragment.
    #[schemars(length(min = 1, max = issuer::MAX_LENGTH))]
    #[x_kube(validation = rules::secure("issuer"))]
    #[x_kube(validation = Rule::new("!self.endsWith('/') && !self.contains('?') && !self.contains('#')").message("issuer must not have a trailing slash, a query or a fragment"))]
    #[x_kube(validation = rules::issuer_in_normal_form())]
    #[x_kube(validation = rules::issuer_without_default_port())]
    #[x_kube(validation = rules::no_dot_segments("issuer"))]
    pub issuer: String,
    /// Number of pods; 0 stops the server. A HorizontalPodAutoscaler targets this object, not its
    /// Deployment.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 100))]
    pub replicas: i32,
    /// Image of the authserver. Defaults to the one that the operator is configured with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// Compute resources of the authserver container. Amounts that are omitted keep their defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Overrides that are merged into the pods: labels, annotations, scheduling, additional containers
    /// and volumes, and the resources of the operator-managed containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplate>,
    /// The Service of the public port.
    #[serde(default)]
    pub service: Service,
    /// Where grants, clients and hashes of tokens are stored. Set exactly one field.
    pub storage: Storage,
    /// How users sign in. Set exactly one field.
    pub login: Login,
    /// How clients can register themselves.
    #[serde(default)]
    pub registration: Registration,
    /// The pepper, with which tokens and secrets are hashed. When omitted, the operator generates it once, in
    /// the Secret `NAME-authserver-keys`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<Keys>,
    /// The keys that sign ID tokens.
    #[serde(default)]
    pub signing_keys: SigningKeys,
    /// Lifetimes of tokens.
    #[serde(default)]
    pub tokens: Tokens,
    /// Rate limits of the token endpoint.
    #[serde(default)]
    pub rate_limit: RateLimit,
    /// The proxies in front of the public port, for rate limits and the audit log. When omitted, a request comes from
    /// where its connection does: behind a gateway, all users then share one address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_address: Option<ClientAddress>,
    /// Introspection for resource servers that have a secret, such as those outside the cluster.
    #[serde(default)]
    pub introspection: Introspection,
    /// TLS on the internal port, where proxies introspect and the operator registers clients and servers. Plain HTTP when
    /// omitted. Switching it on or off interrupts introspection while pods are replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub internal_tls: Option<InternalTls>,
    /// Log, audit and traces.
    #[serde(default)]
    pub telemetry: Telemetry,
    /// The namespaces whose objects may reference this server.
    #[serde(default)]
    pub allowed_namespaces: AllowedNamespaces,
}

fn one() -> i32 {
    1
}

/// Where the authorization server stores its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Storage {
    /// In the memory of a single pod. Everything is lost when it restarts.
    Memory(MemoryStorage),
    /// In PostgreSQL. Set exactly one field.
    Postgres(PostgresStorage),
}

/// In-memory storage has no settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryStorage {}

/// Which PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum PostgresStorage {
    /// A single PostgreSQL instance that the operator runs, with a generated password.
    Managed(ManagedPostgres),
    /// An existing PostgreSQL.
    External(ExternalPostgres),
}

/// An existing PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.caSecretRef) && has(self.caConfigMapRef))").message("set caSecretRef or caConfigMapRef, not both"))]
pub struct ExternalPostgres {
    /// The Secret with the connection URL. The `-app` Secret of a CloudNativePG cluster works unchanged.
    pub url_secret_ref: UriSecretRef,
    /// The Secret with the CA of the server's certificate, such as the `-ca` Secret of a CloudNativePG cluster. With
    /// a CA, connections are encrypted, and certificate and host name are verified, regardless of the URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<CaRef>,
    /// The ConfigMap with the CA, instead of `caSecretRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_config_map_ref: Option<CaRef>,
    /// Maximum number of connections per pod; introspection uses four more, and readiness one.
    #[serde(default = "max_connections")]
    #[schemars(range(min = CONNECTIONS.least, max = CONNECTIONS.most))]
    pub max_connections: u32,
}

impl ExternalPostgres {
    /// The CA of its certificate.
    #[must_use]
    pub fn ca(&self) -> Option<Ca<'_>> {
        let secret = self.ca_secret_ref.as_ref().map(Ca::Secret);
        secret.or_else(|| self.ca_config_map_ref.as_ref().map(Ca::ConfigMap))
    }
}

/// Where a CA is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ca<'a> {
    /// In a Secret.
    Secret(&'a CaRef),
    /// In a ConfigMap.
    ConfigMap(&'a CaRef),
}

/// A PostgreSQL that the operator runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)").message("storageClassName is immutable: a volume cannot move to another class"))]
pub struct ManagedPostgres {
    /// The image. It must follow the conventions of the official `postgres` image. Defaults to the
    /// one that the operator is configured with. Its major version must stay what the volume holds; a default of another
    /// one is not taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// Size of the volume. It can grow, if its StorageClass allows that, and never shrink.
    #[serde(default = "one_gibibyte")]
    pub size: Quantity,
    /// StorageClass of the volume. Defaults to the cluster's default class. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
    /// Compute resources of the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// What happens to the volume, its password and the keys when the McpAuthServer is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// What happens to the state of an authorization server when it is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// Keep it. A new McpAuthServer of the same name reuses it.
    #[default]
    Retain,
    /// Delete it.
    Delete,
}

impl DeletionPolicy {
    /// The value in YAML.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retain => "Retain",
            Self::Delete => "Delete",
        }
    }
}

fn one_gibibyte() -> Quantity {
    Quantity("1Gi".to_owned())
}

/// How users sign in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Login {
    /// No sign-in: every authorization request is approved as the same subject. Allowed only with an
    /// issuer on loopback.
    DevelopmentAutoApprove(DevelopmentAutoApprove),
    /// Users with passwords, from a Secret.
    LocalUsers(LocalUsers),
}

/// Approves every authorization request as the same subject.
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

/// How clients can register themselves (RFC 7591).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Registration {
    /// Allows clients to register themselves at `/register`. Disabled when omitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dynamic: Option<DynamicRegistration>,
    /// Private-use URI schemes (RFC 8252) allowed in redirect URIs of self-registered clients, in
    /// addition to https and to http on loopback.
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

/// Which clients may register themselves, and what is kept of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DynamicRegistration {
    /// When a client is removed that nobody has used to sign in, in hours after its registration.
    #[serde(default = "never_used_hours")]
    #[schemars(range(min = NEVER_USED_HOURS.least, max = NEVER_USED_HOURS.most))]
    pub never_used_hours: u32,
    /// When any other self-registered client is removed, in days without a token request. A client with
    /// a live grant is kept.
    #[serde(default = "idle_days")]
    #[schemars(range(min = IDLE_DAYS.least, max = IDLE_DAYS.most))]
    pub idle_days: u32,
    /// Maximum number of self-registered clients. Beyond it, a new one replaces the oldest never used
    /// one of the network (a /24 of IPv4, a /64 of IPv6) that has most of them; while every client is in
    /// use, registration is refused.
    #[serde(default = "max_clients")]
    #[schemars(range(min = MAX_CLIENTS.least, max = MAX_CLIENTS.most))]
    pub max_clients: u32,
    /// The Secret with the initial access token (RFC 7591) that is required to register. Anyone may register
    /// when omitted. A new value needs no restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_access_token_secret_ref: Option<InitialAccessTokenSecretRef>,
    /// Grant types that self-registered clients may use: `authorization_code`, and `refresh_token`.
    #[serde(default = "grant_types")]
    #[schemars(length(min = 1, max = 2))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[x_kube(validation = Rule::new("self.exists(g, g == 'authorization_code')").message("grantTypes must contain authorization_code"))]
    pub grant_types: Vec<RegisteredGrantType>,
}

/// A grant type that self-registered clients may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RegisteredGrantType {
    /// The client acts for a user who authorized it.
    AuthorizationCode,
    /// The client renews what a user authorized.
    RefreshToken,
}

impl Default for DynamicRegistration {
    fn default() -> Self {
        Self {
            never_used_hours: never_used_hours(),
            idle_days: idle_days(),
            max_clients: max_clients(),
            initial_access_token_secret_ref: None,
            grant_types: grant_types(),
        }
    }
}

fn grant_types() -> Vec<RegisteredGrantType> {
    vec![
        RegisteredGrantType::AuthorizationCode,
        RegisteredGrantType::RefreshToken,
    ]
}

fn never_used_hours() -> u32 {
    6
}

fn idle_days() -> u32 {
    90
}

fn max_clients() -> u32 {
    10_000
}

/// Where the pepper comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Keys {
    /// A Secret in the same namespace whose key `pepper` has one line `VERSION:BASE64` for each version, the current
    /// one first; BASE64 encodes 32 random bytes. It is neither changed nor deleted by the operator.
    pub secret_ref: KeysSecretRef,
}

/// The keys that sign ID tokens. They rotate by themselves: a new key is published a day before it signs, and an old one
/// stays published until what it has signed has expired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SigningKeys {
    /// The algorithms. A client that has registered none gets RS256, or else the first.
    #[serde(default = "algorithms")]
    #[schemars(length(min = ALGORITHM_COUNT.least, max = ALGORITHM_COUNT.most))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub algorithms: Vec<SigningAlgorithm>,
    /// How long a key signs, in days.
    #[serde(default = "rotation_days")]
    #[schemars(range(min = ROTATION_DAYS.least, max = ROTATION_DAYS.most))]
    pub rotation_days: u32,
}

impl Default for SigningKeys {
    fn default() -> Self {
        Self {
            algorithms: algorithms(),
            rotation_days: rotation_days(),
        }
    }
}

fn algorithms() -> Vec<SigningAlgorithm> {
    vec![SigningAlgorithm::Es256, SigningAlgorithm::Rs256]
}

fn rotation_days() -> u32 {
    30
}

/// An algorithm that signs (RFC 7518).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SigningAlgorithm {
    /// ECDSA on P-256.
    #[serde(rename = "ES256")]
    Es256,
    /// RSA, which every OpenID Connect client knows.
    #[serde(rename = "RS256")]
    Rs256,
}

/// Lifetimes of tokens, in seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tokens {
    /// Lifetime of an access token.
    #[serde(default = "access_token_seconds")]
    #[schemars(range(min = ACCESS_TOKEN_SECONDS.least, max = ACCESS_TOKEN_SECONDS.most))]
    pub access_token_seconds: u32,
    /// Lifetime of a refresh token that is not used.
    #[serde(default = "refresh_token_seconds")]
    #[schemars(range(min = REFRESH_TOKEN_SECONDS.least, max = REFRESH_TOKEN_SECONDS.most))]
    pub refresh_token_seconds: u32,
    /// Lifetime of a grant and all its tokens, however often it is refreshed.
    #[serde(default = "grant_seconds")]
    #[schemars(range(min = GRANT_SECONDS.least, max = GRANT_SECONDS.most))]
    pub grant_seconds: u32,
    /// Lifetime of an authorization code.
    #[serde(default = "authorization_code_seconds")]
    #[schemars(range(min = AUTHORIZATION_CODE_SECONDS.least, max = AUTHORIZATION_CODE_SECONDS.most))]
    pub authorization_code_seconds: u32,
    /// How long a used refresh token is still accepted, for clients that refresh in parallel or did
    /// not receive the response.
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

/// Rate limits. Requests beyond them are answered with 429.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// Requests per minute and client.
    #[serde(default = "client_requests_per_minute")]
    #[schemars(range(min = PER_MINUTE.least, max = PER_MINUTE.most))]
    pub client_requests_per_minute: u32,
    /// Per minute and network (an IPv4 address, or a /64 of IPv6): failed authentications of a client,
    /// and sign-ins across all user names.
    #[serde(default = "address_failures_per_minute")]
    #[schemars(range(min = PER_MINUTE.least, max = PER_MINUTE.most))]
    pub address_failures_per_minute: u32,
    /// Sign-ins per minute to one account from one network. A browser in which the user has signed in
    /// before is counted on its own.
    #[serde(default = "login_failures_per_minute")]
    #[schemars(range(min = PER_MINUTE.least, max = PER_MINUTE.most))]
    pub login_failures_per_minute: u32,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self {
            client_requests_per_minute: client_requests_per_minute(),
            address_failures_per_minute: address_failures_per_minute(),
            login_failures_per_minute: login_failures_per_minute(),
        }
    }
}

/// Proxies that are trusted to name the address of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientAddress {
    /// The networks that the proxies connect from, in CIDR notation, such as 192.0.2.10/32.
    #[schemars(length(min = TRUSTED_PROXY_COUNT.least, max = TRUSTED_PROXY_COUNT.most), inner(length(min = NETWORK_LENGTH.least, max = NETWORK_LENGTH.most)))]
    #[x_kube(validation = Rule::new("self.all(x, isCIDR(x) && cidr(x).prefixLength() > 0)").message("trustedProxies must be networks in CIDR notation, such as 192.0.2.10/32 or 2001:db8::/64, and none that covers every address"))]
    pub trusted_proxies: Vec<String>,
    /// The header with the list of addresses, to which each proxy appends the one that it was connected from.
    #[serde(default = "x_forwarded_for")]
    #[schemars(length(min = HEADER_LENGTH.least, max = HEADER_LENGTH.most), regex(pattern = HEADER_PATTERN))]
    #[x_kube(validation = Rule::new("self.lowerAscii() != 'forwarded'").message("header: Forwarded (RFC 7239) is not supported; let the proxy send a list of addresses, such as X-Forwarded-For"))]
    pub header: String,
}

fn client_requests_per_minute() -> u32 {
    600
}

fn address_failures_per_minute() -> u32 {
    60
}

fn login_failures_per_minute() -> u32 {
    10
}

/// The observed state of a managed database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseStatus {
    /// The major version of PostgreSQL that its volume holds.
    pub major: i32,
}

/// A key that signs ID tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SigningKeyStatus {
    /// Its id in the JWK set and in the tokens.
    #[schemars(length(max = 128))]
    pub kid: String,
    /// Its algorithm.
    #[schemars(length(max = 16))]
    pub algorithm: String,
    /// `Next`: published, and does not sign yet. `Active`: signs. `Retired`: published until what it has signed has
    /// expired.
    #[schemars(length(max = 16))]
    pub state: String,
    /// When it begins to sign.
    #[schemars(length(max = 64))]
    pub not_before: Time,
}

/// TLS on the internal port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InternalTls {
    /// A Secret in the same namespace with the keys `tls.crt`, `tls.key` and `ca.crt`, such as from cert-manager. The
    /// certificate is for the DNS name `NAME-authserver-internal.NAMESPACE.svc`; proxies and the operator trust the
    /// certificates in `ca.crt` alone. A new certificate needs no restart.
    pub secret_ref: TlsSecretRef,
}

/// Introspection (RFC 7662) for resource servers that have a secret. Proxies in the cluster need none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.public) || !self.public || has(self.callers) && size(self.callers) > 0").message("introspection.public needs introspection.callers: nobody else may use introspection on the public port"))]
pub struct Introspection {
    /// Also serves introspection on the public port, at `/introspect`, for these callers alone.
    #[serde(default)]
    pub public: bool,
    /// The resource servers. Each authenticates with its id and secret (HTTP Basic) and learns only
    /// about tokens for its own server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = CALLER_COUNT.most))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["id".into()]))]
    pub callers: Vec<IntrospectionCaller>,
}

/// A resource server that introspects with a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IntrospectionCaller {
    /// Its id, the user name of HTTP Basic.
    #[schemars(
        length(min = CALLER_ID_LENGTH.least, max = CALLER_ID_LENGTH.most),
        regex(pattern = CALLER_ID_PATTERN)
    )]
    pub id: String,
    /// The Secret with its secret. When it changes, the pods are replaced.
    pub secret_ref: CallerSecretRef,
    /// The ProtectedMcpServer whose tokens it may introspect.
    pub server: ServerRef,
}

/// The observed state of an authorization server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct McpAuthServerStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The conditions; `Ready` summarizes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub url: Option<String>,
    /// Number of pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Number of ready pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// Label selector of the pods, for autoscalers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub selector: Option<String>,
    /// The keys that sign ID tokens, as the authorization server stated them at the last reconcile.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["kid".into()]))]
    pub signing_keys: Vec<SigningKeyStatus>,
    /// URL of the internal port, where resource servers introspect; also the audience of the
    /// ServiceAccount tokens that they present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub internal_url: Option<String>,
    /// The CA of the certificate of the internal port, in PEM, with `spec.internalTls`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = CA_LENGTH.most))]
    pub internal_ca: Option<String>,
    /// Hash of the configuration of the pods, with the Secrets that they read on start; the pods have it as
    /// the annotation `mcpauth.io/config-hash`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub config_hash: Option<String>,
    /// The managed database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<DatabaseStatus>,
}
