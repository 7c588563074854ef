//! `ProtectedMcpServer`: an MCP server with OAuth in front of it.

use k8s_openapi::api::core::v1::{EnvFromSource, EnvVar, Probe, Volume, VolumeMount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use mcpauth_wire::friction::{
    CALLS, GROUP_COUNT, GROUP_NAME_LENGTH, GROUP_TOOL_COUNT, HALF_LIFE_SECONDS,
    MAX_DELAY_MILLISECONDS, PERIOD_SECONDS, SHARE_LEAST, SHARE_MOST, WARMUP_CALLS,
};
use mcpauth_wire::proxy_config::{BODY_BYTES, RESPONSE_HEADER_SECONDS, response_header_seconds};
use mcpauth_wire::{access, origin, resource_uri, scope, tool};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    kubernetes,
    pod::{ImagePullPolicy, PodTemplate, Resources, Service},
    refs::{AllowedNamespaces, AuthServerRef, TrustedNamespaces},
    rules,
    telemetry::Telemetry,
};

/// The desired state of a protected MCP server.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "mcpauth.io",
    version = "v1alpha1",
    kind = "ProtectedMcpServer",
    plural = "protectedmcpservers",
    namespaced,
    shortname = "pms",
    category = "mcp",
    status = "ProtectedMcpServerStatus",
    scale(spec_replicas_path = ".spec.replicas", status_replicas_path = ".status.replicas", label_selector_path = ".status.selector"),
    derive = "PartialEq",
    doc = "An MCP server with an OAuth 2.1 resource server in front of it.",
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Pods", type_ = "integer", json_path = ".status.readyReplicas", priority = 1),
    printcolumn(name = "Issuer", type_ = "string", json_path = ".status.issuer", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].message"#, priority = 1),
    validation = Rule::new("size(self.metadata.name) <= 63").message("metadata.name must be at most 63 characters long: its Service has the same name"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')").message("metadata.name must start with a letter and contain only lowercase letters, digits and hyphens: its Service has the same name")
)]
#[x_kube(validation = Rule::new("!has(self.access) || !has(self.access.rules) || self.access.rules.all(r, !has(r.scopes) || r.scopes.all(n, has(self.scopes) && self.scopes.exists(s, s.name == n)))").message("access.rules: every scope must be one of spec.scopes"))]
#[x_kube(validation = Rule::new("!has(self.access) || !has(self.access.initialScopes) || self.access.initialScopes.all(n, has(self.scopes) && self.scopes.exists(s, s.name == n))").message("access.initialScopes: every scope must be one of spec.scopes"))]
#[x_kube(validation = Rule::new("!has(self.server.external) || !(has(self.access) && has(self.access.rules) && size(self.access.rules) > 0 || has(self.friction) || has(self.identity) || has(self.podTemplate) || has(self.allowedOrigins) && size(self.allowedOrigins) > 0 || has(self.telemetry) && has(self.telemetry.otlp))").message("server.external has no proxy: access.rules, friction, identity, allowedOrigins, podTemplate and telemetry.otlp would have no effect, so leave them out"))]
#[serde(rename_all = "camelCase")]
pub struct ProtectedMcpServerSpec {
    /// The McpAuthServer that issues the tokens. Immutable.
    #[x_kube(validation = Rule::new("self == oldSelf").message("authServerRef is immutable: delete the object and create it again"))]
    pub auth_server_ref: AuthServerRef,
    /// The resource identifier (RFC 8707): the public URL of the MCP endpoint, and the audience of
    /// access tokens. https, or http on a loopback host; no query or fragment.
    #[schemars(length(min = 1, max = resource_uri::MAX_LENGTH))]
    #[x_kube(validation = rules::secure("resource"))]
    #[x_kube(validation = Rule::new("!self.contains('?') && !self.contains('#')").message("resource must not have a query or a fragment"))]
    #[x_kube(validation = rules::resource())]
    #[x_kube(validation = rules::no_dot_segments("resource"))]
    pub resource: String,
    /// The MCP server. Set exactly one field.
    #[x_kube(validation = Rule::new("has(self.external) == has(oldSelf.external)").message("server cannot change between external and template: delete the object and create it again"))]
    pub server: Server,
    /// Number of pods; 0 stops the server. A HorizontalPodAutoscaler targets this object, not its
    /// Deployment.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: i32,
    /// Overrides that are merged into the pods: labels, annotations, scheduling, additional containers
    /// and volumes, and the resources of the operator-managed containers. With `serviceAccountName`,
    /// the proxy authenticates to the authorization server as that ServiceAccount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplate>,
    /// The resource-proxy in front of the server.
    #[serde(default)]
    pub proxy: Proxy,
    /// The scopes that clients can request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = scope::COUNT.most))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[x_kube(validation = rules::scopes_not_reserved())]
    #[x_kube(validation = Rule::new("self.all(s, !has(s.implies) || s.implies.all(n, self.exists(t, t.name == n)))").message("scopes: implies may only name scopes from the same list"))]
    pub scopes: Vec<Scope>,
    /// Which scopes a token needs for which operations.
    #[serde(default)]
    pub access: Access,
    /// The clients that may get tokens for this resource. When a client is no longer allowed, its
    /// tokens are revoked.
    #[serde(default)]
    pub allowed_clients: AllowedClients,
    /// Delays for callers that exceed their target rate. Omit it for no delays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub friction: Option<Friction>,
    /// Limits of requests.
    #[serde(default)]
    pub limits: Limits,
    /// Origins of web pages that may send requests, such as `https://app.example`. Pages of
    /// the resource's own origin and requests without an Origin header are not affected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = origin::COUNT.most),
        inner(
            length(min = origin::LENGTH.least, max = origin::LENGTH.most),
            regex(pattern = origin::PATTERN)
        )
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[x_kube(validation = rules::origins_without_default_port())]
    pub allowed_origins: Vec<String>,
    /// How the caller's identity is passed to the server. Omit it to pass nothing. Set exactly one
    /// field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    /// The Service in front of the proxy.
    #[serde(default)]
    pub service: Service,
    /// Log, audit and traces of the proxy. A change replaces the pods.
    #[serde(default)]
    pub telemetry: Telemetry,
}

/// The protected MCP server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Server {
    /// A Deployment that the operator creates from this template.
    Template(Box<ServerTemplate>),
    /// A resource server elsewhere, which is only registered: no pods, no Service, no proxy. It
    /// checks tokens itself, with a secret from `spec.introspection.callers` of the McpAuthServer.
    External(ExternalServer),
}

impl Server {
    /// The template, unless the server is elsewhere.
    #[must_use]
    pub fn template(&self) -> Option<&ServerTemplate> {
        match self {
            Self::Template(template) => Some(template.as_ref()),
            Self::External(_) => None,
        }
    }
}

/// A resource server elsewhere has no settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExternalServer {}

/// The container of an MCP server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerTemplate {
    /// The image. It runs as a non-root user, with a read-only root file system and a writable /tmp.
    #[schemars(length(min = 1, max = 512))]
    pub image: String,
    /// When the image is pulled. Defaults to Kubernetes' own default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,
    /// Overrides the image's entrypoint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 4096)))]
    pub command: Vec<String>,
    /// Arguments of the entrypoint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 4096)))]
    pub args: Vec<String>,
    /// Environment variables, as in a Kubernetes container. When a Secret or ConfigMap that they refer
    /// to changes, the pods are replaced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "kubernetes::list_by_name::<EnvVar>")]
    #[x_kube(validation = Rule::new("self.all(e, e.name.matches('^[ -<>-~]+$'))").message("env: a name must consist of printable ASCII characters other than ="))]
    #[x_kube(validation = Rule::new("self.all(e, !(has(e.value) && has(e.valueFrom)))").message("env: set either value or valueFrom"))]
    #[x_kube(validation = Rule::new("self.all(e, !has(e.valueFrom) || [has(e.valueFrom.secretKeyRef), has(e.valueFrom.configMapKeyRef), has(e.valueFrom.fieldRef), has(e.valueFrom.resourceFieldRef)].exists_one(x, x))").message("env: valueFrom requires exactly one of secretKeyRef, configMapKeyRef, fieldRef and resourceFieldRef"))]
    pub env: Vec<EnvVar>,
    /// Secrets and ConfigMaps whose keys become environment variables, as in a Kubernetes container.
    /// When one changes, the pods are replaced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "kubernetes::list::<EnvFromSource>")]
    #[x_kube(validation = Rule::new("self.all(e, has(e.secretRef) != has(e.configMapRef))").message("envFrom: each entry requires exactly one of secretRef and configMapRef"))]
    pub env_from: Vec<EnvFromSource>,
    /// Volumes of the pods, as in a Kubernetes pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "kubernetes::list_by_name::<Volume>")]
    #[x_kube(validation = Rule::new("self.all(v, v.name != 'tmp' && !v.name.startsWith('mcpauth-'))").message("volumes: the name tmp and names that start with mcpauth- are reserved for the operator; choose another name"))]
    pub volumes: Vec<Volume>,
    /// Where the volumes are mounted, as in a Kubernetes container. The writable volume `tmp` is
    /// mounted at /tmp, unless another volume is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "kubernetes::list_by_mount_path::<VolumeMount>")]
    #[x_kube(validation = Rule::new("self.all(m, !m.name.startsWith('mcpauth-'))").message("volumeMounts: volumes whose names start with mcpauth- hold credentials and cannot be mounted"))]
    pub volume_mounts: Vec<VolumeMount>,
    /// Restarts the container when the probe fails, as in a Kubernetes container. A network probe
    /// reaches the server only if it listens on the pod's address; use `exec` otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "kubernetes::object::<Probe>")]
    pub liveness_probe: Option<Probe>,
    /// Removes the pod from the Service while the probe fails, as in a Kubernetes container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "kubernetes::object::<Probe>")]
    pub readiness_probe: Option<Probe>,
    /// Disables the other probes until it succeeds, as in a Kubernetes container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "kubernetes::object::<Probe>")]
    pub startup_probe: Option<Probe>,
    /// The server's MCP endpoint.
    pub http: Http,
    /// Compute resources of the server container. Amounts that are omitted keep their defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
}

/// An MCP endpoint over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Http {
    /// The port. The server should listen on 127.0.0.1 only, so that nothing but the proxy in the
    /// same pod can reach it.
    #[schemars(range(min = 1, max = 65535))]
    #[x_kube(validation = Rule::new("self != 8080 && self != 9090").message("port must not be 8080 or 9090: the proxy in the same pod listens there"))]
    pub port: u16,
    /// The path of the endpoint.
    #[serde(default = "mcp_path")]
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^/[^?#\s]*$"))]
    pub path: String,
}

fn mcp_path() -> String {
    "/mcp".to_owned()
}

fn one() -> i32 {
    1
}

/// The resource-proxy in front of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Proxy {
    /// Image of the resource-proxy. Defaults to the one that the operator is configured with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// Compute resources of the proxy container. Amounts that are omitted keep their defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
}

/// A scope (RFC 6749 section 3.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Scope {
    /// Name of the scope, as in requests and tokens.
    #[schemars(
        length(min = scope::NAME_LENGTH.least, max = scope::NAME_LENGTH.most),
        regex(pattern = scope::NAME_PATTERN)
    )]
    pub name: String,
    /// What the scope allows, shown on the consent page.
    #[schemars(length(max = scope::DESCRIPTION_LENGTH.most))]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Scopes that this scope includes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = scope::REFERENCES.most),
        inner(length(min = scope::NAME_LENGTH.least, max = scope::NAME_LENGTH.most))
    )]
    pub implies: Vec<String>,
}

/// Which scopes a token needs for which operations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Access {
    /// The rules, in order. The first one that matches an operation applies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = access::RULE_COUNT.most))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub rules: Vec<AccessRule>,
    /// What applies to an operation that no rule matches.
    #[serde(default)]
    pub unmatched: Unmatched,
    /// The scopes that clients request at first: those in the 401 challenge and in the metadata of the
    /// resource. Defaults to all scopes, because many clients never request more later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = access::INITIAL_SCOPES.least, max = access::INITIAL_SCOPES.most),
        inner(length(min = scope::NAME_LENGTH.least, max = scope::NAME_LENGTH.most))
    )]
    pub initial_scopes: Option<Vec<String>>,
    /// What the lists of tools, resources, resource templates and prompts show.
    #[serde(default)]
    pub lists: Lists,
}

/// What lists show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Lists {
    /// What the client's token may use.
    #[default]
    Held,
    /// What the client's token may use, and what it could use with more scopes: those that the client and its user may have.
    Grantable,
    /// Everything that the server has.
    All,
}

/// The scopes that a token needs for certain operations: calls of tools, reading of resources, prompts,
/// or other methods. Set exactly one of the four lists. In their entries `*` matches any run of characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.tools), has(self.resources), has(self.prompts), has(self.methods)].exists_one(x, x)").message("access.rules: set exactly one of tools, resources, prompts and methods"))]
#[x_kube(validation = Rule::new("has(self.anyToken) && self.anyToken ? !has(self.scopes) || size(self.scopes) == 0 : has(self.scopes) && size(self.scopes) > 0").message("access.rules: set either scopes or anyToken: true"))]
pub struct AccessRule {
    /// Names of tools.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(min = access::PATTERN_COUNT.least, max = access::PATTERN_COUNT.most),
        inner(length(min = tool::LENGTH.least, max = tool::LENGTH.most))
    )]
    pub tools: Vec<String>,
    /// URIs of resources, such as `notes://*`. They apply to reading, to subscriptions and to completions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(min = access::PATTERN_COUNT.least, max = access::PATTERN_COUNT.most),
        inner(length(min = access::URI_LENGTH.least, max = access::URI_LENGTH.most))
    )]
    pub resources: Vec<String>,
    /// Names of prompts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(min = access::PATTERN_COUNT.least, max = access::PATTERN_COUNT.most),
        inner(length(min = tool::LENGTH.least, max = tool::LENGTH.most))
    )]
    pub prompts: Vec<String>,
    /// Methods that are not part of MCP, such as `acme/export`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(min = access::PATTERN_COUNT.least, max = access::PATTERN_COUNT.most),
        inner(length(min = access::METHOD_LENGTH.least, max = access::METHOD_LENGTH.most))
    )]
    pub methods: Vec<String>,
    /// The scopes that a token needs. All of them are required.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = scope::REFERENCES.most),
        inner(length(min = scope::NAME_LENGTH.least, max = scope::NAME_LENGTH.most))
    )]
    pub scopes: Vec<String>,
    /// Accept any valid token for this resource, regardless of its scopes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub any_token: bool,
}

/// What applies to an operation that no rule matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Unmatched {
    /// A token needs every scope in `spec.scopes`.
    #[default]
    RequireAllScopes,
    /// The operation is answered as if the server did not have it, whatever the token.
    Deny,
    /// Any valid token for this resource is accepted.
    AnyToken,
}

/// The clients that may get tokens for a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AllowedClients {
    /// The namespaces whose McpOAuthClients may get tokens for this resource.
    #[serde(default)]
    pub namespaces: AllowedNamespaces,
    /// Whether clients that registered themselves may get tokens for this resource.
    #[serde(default = "yes")]
    pub self_registered: bool,
    /// The namespaces whose McpOAuthClients with `consent: Trusted` get tokens without a consent page.
    /// Users still sign in.
    #[serde(default)]
    pub without_consent: TrustedNamespaces,
}

impl Default for AllowedClients {
    fn default() -> Self {
        Self {
            namespaces: AllowedNamespaces::default(),
            self_registered: yes(),
            without_consent: TrustedNamespaces::default(),
        }
    }
}

fn yes() -> bool {
    true
}

/// How the caller's identity is passed to the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Identity {
    /// In the headers X-MCP-Subject, X-MCP-Client-Id and X-MCP-Scopes.
    Headers(IdentityHeaders),
}

/// Identity headers have no settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IdentityHeaders {}

/// Delays for callers that exceed their target rate. Calls are rejected only beyond `hardLimit`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("has(self.subjectRate) || !has(self.share) && (!has(self.groups) || self.groups.all(g, !has(g.share)))").message("share requires subjectRate, which bounds the sum of all shares"))]
#[serde(rename_all = "camelCase")]
pub struct Friction {
    /// Whose calls are counted together: those of a subject across all its clients, or under one client.
    #[serde(default)]
    pub per: Per,
    /// Target rate for each tool that is not in a group. Calls of other methods count per method.
    pub rate: Rate,
    /// A tool may exceed `rate` up to this fraction of the subject's recent successful calls, such as
    /// 0.2. Requires `subjectRate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = SHARE_LEAST, max = SHARE_MOST))]
    #[x_kube(validation = rules::share())]
    pub share: Option<f64>,
    /// Groups of tools that share a target rate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = GROUP_COUNT.most))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub groups: Vec<FrictionGroup>,
    /// Target rate per subject, across all clients and tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject_rate: Option<Rate>,
    /// Target rate of the whole resource. Above it, each subject is slowed by its own volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_rate: Option<Rate>,
    /// Half-life of a call in the measured volume, in seconds.
    #[serde(default = "half_life_seconds")]
    #[schemars(range(min = HALF_LIFE_SECONDS.least, max = HALF_LIFE_SECONDS.most))]
    pub half_life_seconds: u32,
    /// Maximum delay of a call, in milliseconds.
    #[serde(default = "max_delay_milliseconds")]
    #[schemars(range(min = MAX_DELAY_MILLISECONDS.least, max = MAX_DELAY_MILLISECONDS.most))]
    pub max_delay_milliseconds: u32,
    /// Number of calls of a new caller that are never delayed.
    #[serde(default = "warmup_calls")]
    #[schemars(range(min = WARMUP_CALLS.least, max = WARMUP_CALLS.most))]
    pub warmup_calls: u32,
    /// Calls beyond this limit are rejected with a tool error that says when to try again. Omit it to
    /// reject none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hard_limit: Option<Rate>,
}

/// Whose calls are counted together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Per {
    /// A subject, across all its clients.
    #[default]
    Subject,
    /// A subject under one client.
    ClientAndSubject,
}

fn half_life_seconds() -> u32 {
    30
}

fn max_delay_milliseconds() -> u32 {
    30_000
}

fn warmup_calls() -> u32 {
    10
}

/// A group of tools that share a target rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FrictionGroup {
    /// Name of the group, for metrics.
    #[schemars(length(min = GROUP_NAME_LENGTH.least, max = GROUP_NAME_LENGTH.most))]
    pub name: String,
    /// Names of tools, in which `*` matches any run of characters.
    #[schemars(
        length(min = GROUP_TOOL_COUNT.least, max = GROUP_TOOL_COUNT.most),
        inner(length(min = tool::LENGTH.least, max = tool::LENGTH.most))
    )]
    pub tools: Vec<String>,
    /// Target rate across the tools of the group.
    pub rate: Rate,
    /// The group may exceed `rate` up to this fraction of the subject's recent successful calls.
    /// Requires `subjectRate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = SHARE_LEAST, max = SHARE_MOST))]
    #[x_kube(validation = rules::share())]
    pub share: Option<f64>,
}

/// A number of calls per period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rate {
    /// Number of calls.
    #[schemars(range(min = CALLS.least, max = CALLS.most))]
    pub calls: u32,
    /// Length of the period, in seconds.
    #[schemars(range(min = PERIOD_SECONDS.least, max = PERIOD_SECONDS.most))]
    pub period_seconds: u32,
}

/// Limits of requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Maximum size of a request body, in bytes.
    #[serde(default = "body_bytes")]
    #[schemars(range(min = BODY_BYTES.least, max = BODY_BYTES.most))]
    pub body_bytes: u32,
    /// How long the proxy waits for the server's response headers, in seconds, before it answers 504.
    /// A response that has begun may take longer.
    #[serde(default = "response_header_seconds")]
    #[schemars(range(min = RESPONSE_HEADER_SECONDS.least, max = RESPONSE_HEADER_SECONDS.most))]
    pub response_header_seconds: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: body_bytes(),
            response_header_seconds: response_header_seconds(),
        }
    }
}

fn body_bytes() -> u32 {
    4_194_304
}

/// The observed state of a protected MCP server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProtectedMcpServerStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The conditions; `Ready` summarizes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The resource identifier: the URL that clients connect to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub url: Option<String>,
    /// The issuer of the tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub issuer: Option<String>,
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
    /// Hash of the policy that the proxies are to run: SHA-256 of `proxy.yaml`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub policy_hash: Option<String>,
    /// The proxies, and how many of them run that policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxies: Option<Proxies>,
}

/// Numbers of proxies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Proxies {
    /// Number of proxies.
    pub total: i32,
    /// Number of proxies that run the policy of `policyHash`.
    pub in_force: i32,
}
