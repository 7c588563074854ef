//! Names that more than one part must agree on. They are in `docs/reference/interfaces.md`.

/// Port of the authserver's and the proxy's public listener, and of their Services.
pub const PUBLIC_PORT: u16 = 8080;
/// Port of the authserver's internal listener: introspection and administration.
pub const INTERNAL_PORT: u16 = 8081;
/// Port of the health listener of every program.
pub const HEALTH_PORT: u16 = 9090;
/// Port of PostgreSQL.
pub const POSTGRES_PORT: u16 = 5432;
/// Lifetime of the ServiceAccount tokens that callers present to an authserver, in seconds: the shortest that
/// Kubernetes has. Authservers accept none that live longer.
pub const TOKEN_SECONDS: i64 = 600;

/// Version of `authserver.yaml`'s format, in the name of its ConfigMap: pods of the version before go on
/// reading theirs while new ones are rolled out.
const AUTHSERVER_FORMAT: &str = "v1";
/// Version of `proxy.yaml`'s format, likewise.
const PROXY_FORMAT: &str = "v1";

/// Name of an authorization server's ServiceAccount, Deployment, Service and what else it has one of. Another
/// than the McpAuthServer's, so that a ProtectedMcpServer of the same name can stand beside it.
#[must_use]
pub fn auth_server(name: &str) -> String {
    format!("{name}-authserver")
}

/// URL of a McpAuthServer's internal port, which is also the audience of the ServiceAccount tokens
/// that its callers present.
#[must_use]
pub fn internal_url(namespace: &str, auth_server: &str) -> String {
    let service = internal_service(auth_server);
    format!("http://{service}.{namespace}.svc:{INTERNAL_PORT}")
}

/// The principal that a ServiceAccount's token proves: its `sub`.
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

/// Name of everything that belongs to the managed PostgreSQL.
#[must_use]
pub fn postgres(name: &str) -> String {
    format!("{name}-authserver-db")
}

/// Name of the ConfigMap with `proxy.yaml`.
#[must_use]
pub fn proxy_config(name: &str) -> String {
    format!("{name}-proxy-{PROXY_FORMAT}")
}

/// Name of the Secret with a client's credentials, when its spec names none.
#[must_use]
pub fn client_secret(name: &str) -> String {
    format!("{name}-oauth-client")
}
