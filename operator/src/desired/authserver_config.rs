//! Converts a McpAuthServer to `authserver.yaml`.

use mcpauth_api::McpAuthServerSpec;
use mcpauth_api::auth_server as api;
use mcpauth_api::refs::InitialAccessTokenSecretRef;
use mcpauth_wire::admin::Resource;
use mcpauth_wire::authserver_config::{
    AuthServerConfig, Credential, DynamicRegistration, Internal, Introspection, Listen, Login,
    RateLimit, Registration, SigningAlgorithm, SigningKeys, Storage, Tokens, max_connections,
};
use mcpauth_wire::client::{Client, GrantType};
use mcpauth_wire::client_address::ClientAddress;

use super::telemetry::telemetry;

/// What the file contains besides the spec: the environment that the authserver runs in.
#[derive(Clone, Debug)]
pub struct AuthServerPlace {
    /// The addresses to listen on.
    pub listen: Listen,
    /// The file with the pepper.
    pub keys_file: String,
    /// The file with the Postgres URL; in-memory storage if there is none.
    pub postgres_url_file: Option<String>,
    /// The file with the CA of Postgres' certificate.
    pub postgres_ca_file: Option<String>,
    /// The file with the local users, if the spec wants them.
    pub users_file: String,
    /// The file with the initial access token, if the spec wants one.
    pub initial_access_token_file: String,
    /// The file with the headers for the OpenTelemetry collector, if the spec wants any.
    pub otlp_headers_file: String,
    /// The callers that the internal port accepts.
    pub internal: Internal,
    /// The callers in `spec.introspection`, each with the file of its secret.
    pub callers: Vec<Credential>,
    /// Resources known from the start, by id.
    pub resources: Vec<(String, Resource)>,
    /// Clients known from the start, by client id.
    pub clients: Vec<(String, Client)>,
}

/// The configuration of an authserver with this spec in this environment.
#[must_use]
pub fn authserver_config(spec: &McpAuthServerSpec, place: AuthServerPlace) -> AuthServerConfig {
    AuthServerConfig {
        issuer: spec.issuer.clone(),
        listen: place.listen,
        keys_file: place.keys_file.into(),
        storage: match place.postgres_url_file {
            Some(url_file) => Storage::Postgres {
                url_file: url_file.into(),
                ca_file: place.postgres_ca_file.map(Into::into),
                max_connections: connections(spec),
            },
            None => Storage::Memory {},
        },
        login: match &spec.login {
            api::Login::DevelopmentAutoApprove(login) => Login::DevelopmentAutoApprove {
                subject: login.subject.clone(),
            },
            api::Login::LocalUsers(_) => Login::LocalUsers {
                file: place.users_file.into(),
            },
        },
        registration: registration(&spec.registration, place.initial_access_token_file),
        signing_keys: signing_keys(&spec.signing_keys),
        tokens: tokens(&spec.tokens),
        rate_limit: RateLimit {
            client_requests_per_minute: spec.rate_limit.client_requests_per_minute,
            address_failures_per_minute: spec.rate_limit.address_failures_per_minute,
            login_failures_per_minute: spec.rate_limit.login_failures_per_minute,
        },
        client_address: spec.client_address.as_ref().map(|spec| ClientAddress {
            trusted_proxies: spec.trusted_proxies.clone(),
            header: spec.header.clone(),
        }),
        internal: place.internal,
        introspection: Introspection {
            public: spec.introspection.public,
            callers: place.callers,
        },
        telemetry: telemetry(&spec.telemetry, place.otlp_headers_file),
        resources: place
            .resources
            .into_iter()
            .map(|(id, resource)| Resource {
                id: Some(id),
                ..resource
            })
            .collect(),
        clients: place
            .clients
            .into_iter()
            .map(|(client_id, client)| Client {
                client_id: Some(client_id),
                ..client
            })
            .collect(),
    }
}

fn registration(registration: &api::Registration, token_file: String) -> Registration {
    let dynamic = registration.dynamic.as_ref();
    Registration {
        dynamic: dynamic.map(|spec| dynamic_registration(spec, token_file)),
        allowed_redirect_schemes: registration.allowed_redirect_schemes.clone(),
    }
}

fn dynamic_registration(
    spec: &api::DynamicRegistration,
    token_file: String,
) -> DynamicRegistration {
    let token = spec.initial_access_token_secret_ref.as_ref();
    let grant_type = |grant: &api::RegisteredGrantType| match grant {
        api::RegisteredGrantType::AuthorizationCode => GrantType::AuthorizationCode,
        api::RegisteredGrantType::RefreshToken => GrantType::RefreshToken,
    };
    DynamicRegistration {
        never_used_hours: spec.never_used_hours,
        idle_days: spec.idle_days,
        max_clients: spec.max_clients,
        initial_access_token_file: token.map(|_| token_file.into()),
        grant_types: spec.grant_types.iter().map(grant_type).collect(),
    }
}

/// The Secret with the initial access token, if registration needs one.
#[must_use]
pub fn initial_access_token(spec: &McpAuthServerSpec) -> Option<&InitialAccessTokenSecretRef> {
    let dynamic = spec.registration.dynamic.as_ref()?;
    dynamic.initial_access_token_secret_ref.as_ref()
}

fn signing_keys(keys: &api::SigningKeys) -> SigningKeys {
    let algorithm = |algorithm: &api::SigningAlgorithm| match algorithm {
        api::SigningAlgorithm::Es256 => SigningAlgorithm::Es256,
        api::SigningAlgorithm::Rs256 => SigningAlgorithm::Rs256,
    };
    SigningKeys {
        algorithms: keys.algorithms.iter().map(algorithm).collect(),
        rotation_days: keys.rotation_days,
    }
}

fn tokens(tokens: &api::Tokens) -> Tokens {
    Tokens {
        access_token_seconds: tokens.access_token_seconds,
        refresh_token_seconds: tokens.refresh_token_seconds,
        grant_seconds: tokens.grant_seconds,
        authorization_code_seconds: tokens.authorization_code_seconds,
        refresh_grace_seconds: tokens.refresh_grace_seconds,
    }
}

/// Number of connections to PostgreSQL per pod.
fn connections(spec: &McpAuthServerSpec) -> u32 {
    match &spec.storage {
        api::Storage::Postgres(api::PostgresStorage::External(external)) => {
            external.max_connections
        }
        api::Storage::Postgres(api::PostgresStorage::Managed(_)) | api::Storage::Memory(_) => {
            max_connections()
        }
    }
}

/// The CA of PostgreSQL's certificate, if the spec names one.
#[must_use]
pub fn postgres_ca(spec: &McpAuthServerSpec) -> Option<api::Ca<'_>> {
    match &spec.storage {
        api::Storage::Postgres(api::PostgresStorage::External(external)) => external.ca(),
        api::Storage::Postgres(api::PostgresStorage::Managed(_)) | api::Storage::Memory(_) => None,
    }
}

/// Whether the spec stores state in PostgreSQL.
#[must_use]
pub fn wants_postgres(spec: &McpAuthServerSpec) -> bool {
    match &spec.storage {
        api::Storage::Memory(_) => false,
        api::Storage::Postgres(_) => true,
    }
}
