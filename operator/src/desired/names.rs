//! Names and ports that several programs rely on, documented in `docs/reference/interfaces.md`.

/// Port of the authserver's and the proxy's public listener, and of their Services.
pub const PUBLIC_PORT: u16 = 8080;
/// Port of the authserver's internal listener: introspection and administration.
pub const INTERNAL_PORT: u16 = 8081;
/// Port of the health listener of every program.
pub const HEALTH_PORT: u16 = 9090;
/// Port of PostgreSQL.
pub const POSTGRES_PORT: u16 = 5432;
/// Lifetime of the ServiceAccount tokens that callers present to an authserver, in seconds: the minimum in
/// Kubernetes. Authservers do not accept longer ones.
pub const TOKEN_SECONDS: i64 = 600;

/// Pod annotation with the hash of the pod's configuration. On the authserver's and the
/// database's pods, which read it only on start, it comes from the template; on other pods it is injected when the configuration changes.
pub const CONFIG_HASH: &str = "mcpauth.io/config-hash";
/// On the pods of a proxy: the hash of its telemetry, which it reads only when it starts.
pub const TELEMETRY_HASH: &str = "mcpauth.io/telemetry-hash";

/// Version of the format of `authserver.yaml`, as part of its ConfigMap's name: pods of the previous version keep
/// reading the old ConfigMap during a rollout.
const AUTHSERVER_FORMAT: &str = "v1";
/// Version of the format of `proxy.yaml`, likewise.
const PROXY_FORMAT: &str = "v1";

/// Name of an authorization server's ServiceAccount, Deployment, Service and other single objects. It differs from the
/// McpAuthServer's, so that a ProtectedMcpServer can have the same name.
#[must_use]
pub fn auth_server(name: &str) -> String {
    format!("{name}-authserver")
}

/// URL of a McpAuthServer's internal port, with or without TLS. It is also the audience of the ServiceAccount tokens
/// that its callers present.
#[must_use]
pub fn internal_url(namespace: &str, auth_server: &str, tls: bool) -> String {
    let scheme = if tls { "https" } else { "http" };
    let host = internal_host(namespace, auth_server);
    format!("{scheme}://{host}:{INTERNAL_PORT}")
}

/// DNS name of a McpAuthServer's internal port, which its certificate is for.
#[must_use]
pub fn internal_host(namespace: &str, auth_server: &str) -> String {
    format!("{}.{namespace}.svc", internal_service(auth_server))
}

/// The principal in a ServiceAccount's token: its `sub`.
#[must_use]
pub fn service_account_principal(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

/// Id of a ProtectedMcpServer in the authserver's admin API.
#[must_use]
pub fn resource_id(namespace: &str, name: &str) -> String {
    format!("{namespace}.{name}")
}

/// Client id of a McpOAuthClient.
#[must_use]
pub fn client_id(namespace: &str, name: &str) -> String {
    format!("{namespace}_{name}")
}

/// Name of the ConfigMap with `authserver.yaml`.
#[must_use]
pub fn auth_server_config(name: &str) -> String {
    format!("{name}-authserver-{AUTHSERVER_FORMAT}")
}

/// Name of the Service of the internal port.
#[must_use]
pub fn internal_service(name: &str) -> String {
    format!("{name}-authserver-internal")
}

/// Name of the Secret with the pepper.
#[must_use]
pub fn keys_secret(name: &str) -> String {
    format!("{name}-authserver-keys")
}

/// Name of all objects of the managed PostgreSQL.
#[must_use]
pub fn postgres(name: &str) -> String {
    format!("{name}-authserver-db")
}

/// Name of the PersistentVolumeClaim of the managed PostgreSQL, which its StatefulSet makes.
#[must_use]
pub fn postgres_claim(name: &str) -> String {
    format!("data-{name}-authserver-db-0")
}

/// Name of the ConfigMap with `proxy.yaml`.
#[must_use]
pub fn proxy_config(name: &str) -> String {
    format!("{name}-proxy-{PROXY_FORMAT}")
}

/// Name of the Secret with the keys that the replicas of a proxy share.
#[must_use]
pub fn proxy_keys(name: &str) -> String {
    format!("{name}-proxy-keys")
}

/// Default name of the Secret with a client's credentials.
#[must_use]
pub fn client_secret(name: &str) -> String {
    format!("{name}-oauth-client")
}
