//! `authserver.yaml`, the authserver's configuration file.

use mcpauth_api::{
    McpAuthServerSpec,
    auth_server::{Login, RateLimit, Registration, Storage, Tokens},
};
use serde::Serialize;

use super::registration::{Client, Resource};

/// The file's content.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthServerConfig {
    issuer: String,
    listen: Listen,
    keys_file: String,
    storage: StorageConfig,
    login: LoginConfig,
    registration: Registration,
    tokens: Tokens,
    rate_limit: RateLimit,
    internal: Internal,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    resources: Vec<WithId<Resource>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    clients: Vec<WithClientId<Client>>,
}

/// What the file says besides the spec: where the authserver runs and what it finds there.
#[derive(Clone, Debug)]
pub struct AuthServerPlace {
    /// Where it listens.
    pub listen: Listen,
    /// The file with the pepper.
    pub keys_file: String,
    /// The file with the Postgres URL; memory when there is none.
    pub postgres_url_file: Option<String>,
    /// The file with the local users, when the spec asks for them.
    pub users_file: String,
    /// Who may call the internal port.
    pub internal: Internal,
    /// Resources known from the start, by id.
    pub resources: Vec<(String, Resource)>,
    /// Clients known from the start, by client id.
    pub clients: Vec<(String, Client)>,
}

/// Addresses of the three listeners, `HOST:PORT`.
#[derive(Clone, Debug, Serialize)]
pub struct Listen {
    /// OAuth, for everybody.
    pub public: String,
    /// Introspection and administration.
    pub internal: String,
    /// Health and metrics.
    pub health: String,
}

/// Who may call the internal port.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Internal {
    /// In Kubernetes: ServiceAccount tokens, proved by TokenReview.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_review: Option<TokenReview>,
    /// Elsewhere: HTTP Basic.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<Credential>,
    /// Principals that may use the admin API.
    pub admins: Vec<String>,
}

/// How ServiceAccount tokens are checked.
#[derive(Clone, Debug, Serialize)]
pub struct TokenReview {
    /// The audience that they must have.
    pub audience: String,
}

/// A caller outside Kubernetes.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Credential {
    /// Its user name; `credential:ID` is its principal.
    pub id: String,
    /// The file with its password.
    pub secret_file: String,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
enum StorageConfig {
    Memory {},
    #[serde(rename_all = "camelCase")]
    Postgres {
        url_file: String,
    },
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
enum LoginConfig {
    DevelopmentAutoApprove { subject: String },
    LocalUsers { file: String },
}

#[derive(Clone, Debug, Serialize)]
struct WithId<T> {
    id: String,
    #[serde(flatten)]
    value: T,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct WithClientId<T> {
    client_id: String,
    #[serde(flatten)]
    value: T,
}

/// The configuration of the authserver that `spec` asks for, at `place`.
#[must_use]
pub fn authserver_config(spec: &McpAuthServerSpec, place: AuthServerPlace) -> AuthServerConfig {
    let storage = match place.postgres_url_file {
        Some(url_file) => StorageConfig::Postgres { url_file },
        None => StorageConfig::Memory {},
    };
    let login = match &spec.login {
        Login::DevelopmentAutoApprove(login) => LoginConfig::DevelopmentAutoApprove {
            subject: login.subject.clone(),
        },
        Login::LocalUsers(_) => LoginConfig::LocalUsers {
            file: place.users_file,
        },
    };
    AuthServerConfig {
        issuer: spec.issuer.clone(),
        listen: place.listen,
        keys_file: place.keys_file,
        storage,
        login,
        registration: spec.registration.clone(),
        tokens: spec.tokens.clone(),
        rate_limit: spec.rate_limit.clone(),
        internal: place.internal,
        resources: place
            .resources
            .into_iter()
            .map(|(id, value)| WithId { id, value })
            .collect(),
        clients: place
            .clients
            .into_iter()
            .map(|(client_id, value)| WithClientId { client_id, value })
            .collect(),
    }
}

/// Whether a spec wants its state in PostgreSQL.
#[must_use]
pub fn wants_postgres(spec: &McpAuthServerSpec) -> bool {
    match &spec.storage {
        Storage::Memory(_) => false,
        Storage::Postgres(_) => true,
    }
}
