//! The Secrets that pods mount: those that the operator generates, and those that the user keeps.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::ResourceExt as _;
use mcpauth_api::auth_server::{Ca, Login, PostgresStorage, Storage};
use mcpauth_api::conditions::reasons;
use mcpauth_api::telemetry::Telemetry;
use mcpauth_api::{McpAuthServer, McpAuthServerSpec};
use mcpauth_wire::authserver_config;
use mcpauth_wire::pepper_file;
use mcpauth_wire::proxy_keys::ProxyKeys;
use mcpauth_wire::telemetry;

use crate::desired::authserver_config::{initial_access_token, postgres_ca};
use crate::desired::labels::Component;
use crate::desired::telemetry::otlp_headers;
use crate::desired::{auth_server, hash, injection, names, postgres, protected_server};
use crate::framework::apply::{ApplyError, is_code};
use crate::framework::error::Error;
use crate::framework::reconciler::ReconcileContext;
use crate::framework::references;
use crate::problem::Problem;
use crate::random::{self, NoRandomness};

/// The field that names the headers for the collector.
const HEADERS: &str = "spec.telemetry.otlp.headersSecretRef";

/// Hashes of what pods read on start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hashes {
    /// By the authorization server's pods.
    pub auth_server: String,
    /// By the managed database's pod.
    pub database: String,
}

impl Hashes {
    /// Both.
    pub fn parts(&self) -> [&str; 2] {
        [&self.auth_server, &self.database]
    }
}

/// Creates or reads the Secrets that the pods mount, and returns hashes of their contents. The pepper, or else the
/// Secret's UID, comes first, so that a weak password cannot be guessed from a hash.
///
/// # Errors
/// One is missing, lost or damaged, or the API server does not respond.
pub async fn of_auth_server(
    object: &McpAuthServer,
    context: &ReconcileContext<'_>,
) -> Result<Hashes, Error> {
    let spec = &object.spec;
    let mut foreign: Vec<(String, &String, &String)> = Vec::new();
    if let Storage::Postgres(PostgresStorage::External(external)) = &spec.storage {
        let url = &external.url_secret_ref;
        let field = "spec.storage.postgres.external.urlSecretRef";
        foreign.push((field.to_owned(), &url.name, &url.key));
    }
    let callers = callers(spec);
    let headers = otlp_headers(&spec.telemetry);
    let ca = postgres_ca(spec);
    // These are not hashed: the server reloads them, so that a new user or token needs no restart.
    let tls = spec.internal_tls.as_ref().map(|tls| &tls.secret_ref.name);
    let token = initial_access_token(spec);
    let users = match &spec.login {
        Login::LocalUsers(users) => Some(&users.secret_ref),
        Login::DevelopmentAutoApprove(_) => None,
    };
    let at = |kind, name: &String| (kind, (context.owner.namespace.clone(), name.clone()));
    let names = foreign.iter().chain(&callers).map(|(_, name, _)| *name);
    let names = names.chain(users.map(|users| &users.name)).chain(tls);
    let names = names.chain(token.map(|token| &token.name));
    let names = names.chain(headers.map(|headers| &headers.name));
    let keys = spec.keys.as_ref().map(|keys| &keys.secret_ref.name);
    let names = names.chain(keys);
    let secrets = names.map(|name| at(references::Kind::Secret, name));
    context.refers_to(secrets.chain(ca.map(|ca| match ca {
        Ca::Secret(ca) => at(references::Kind::Secret, &ca.name),
        Ca::ConfigMap(ca) => at(references::Kind::ConfigMap, &ca.name),
    })));

    let mut values = vec![match keys {
        Some(name) => given_pepper(context, name).await?,
        None => pepper(context).await?,
    }];
    let mut database_hash = String::new();
    if let Storage::Postgres(PostgresStorage::Managed(_)) = &spec.storage {
        let secret = database(context).await?;
        values.extend(value(&secret, "uri"));
        let uid = secret.uid().unwrap_or_default().into_bytes();
        let password = value(&secret, "password").unwrap_or_default();
        database_hash = hash([uid.as_slice(), password.as_slice()]);
    }
    for (field, name, key) in foreign {
        values.push(value_of(context, &field, name, key).await?);
    }
    for (field, name, key) in callers {
        let value = value_of(context, &field, name, key).await?;
        check_random_secret(&field, name, key, &value)?;
        values.push(value);
    }
    if let Some(headers) = headers {
        let value = value_of(context, HEADERS, &headers.name, &headers.key).await?;
        check_headers(HEADERS, &headers.name, &headers.key, &value)?;
        values.push(value);
    }
    if let Some(ca) = ca {
        values.push(certificates(context, ca).await?);
    }
    if let Some(users) = users {
        let field = "spec.login.localUsers.secretRef";
        value_of(context, field, &users.name, &users.key).await?;
    }
    if let Some(token) = token {
        let field = "spec.registration.dynamic.initialAccessTokenSecretRef";
        let value = value_of(context, field, &token.name, &token.key).await?;
        check_random_secret(field, &token.name, &token.key, &value)?;
    }
    Ok(Hashes {
        auth_server: hash(values.iter().map(Vec::as_slice)),
        database: database_hash,
    })
}

/// The secrets of those who introspect: field, Secret and key.
fn callers(spec: &McpAuthServerSpec) -> Vec<(String, &String, &String)> {
    let callers = spec.introspection.callers.iter().enumerate();
    callers
        .map(|(index, caller)| {
            let field = format!("spec.introspection.callers[{index}].secretRef");
            (field, &caller.secret_ref.name, &caller.secret_ref.key)
        })
        .collect()
}

/// By the rule of the authserver, which would not start.
fn check_random_secret(field: &str, name: &str, key: &str, value: &[u8]) -> Result<(), Problem> {
    let text = String::from_utf8_lossy(value);
    let at = format!("{field}: Secret {name}, key {key}");
    authserver_config::check_random_secret(at, text.trim())
        .map_err(|invalid| Problem::outage(reasons::SECRET_INVALID, invalid.to_string()))
}

/// By the rule of the authserver, which would not start.
fn check_headers(field: &str, name: &str, key: &str, value: &[u8]) -> Result<(), Problem> {
    let at = format!("{field}: Secret {name}, key {key}");
    telemetry::parse_headers(&at, &String::from_utf8_lossy(value))
        .map(|_| ())
        .map_err(|invalid| Problem::outage(reasons::SECRET_INVALID, invalid.to_string()))
}

/// The pepper, created before the pods.
/// A pepper that a person keeps.
async fn given_pepper(context: &ReconcileContext<'_>, name: &str) -> Result<Vec<u8>, Error> {
    let field = "spec.keys.secretRef";
    let pepper = value_of(context, field, name, auth_server::PEPPER).await?;
    let parsed = pepper_file::parse(&String::from_utf8_lossy(&pepper));
    parsed.map_err(|invalid| {
        let key = auth_server::PEPPER;
        let message = format!("{field}: Secret {name}, key {key}: {invalid}");
        Problem::person(reasons::SECRET_INVALID, message)
    })?;
    Ok(pepper)
}

async fn pepper(context: &ReconcileContext<'_>) -> Result<Vec<u8>, Error> {
    let name = names::keys_secret(&context.owner.name);
    let secret = match generated(context, Component::AuthServer, &name).await? {
        Some(secret) => secret,
        None => {
            refuse_another_pepper(context, &name).await?;
            let new =
                auth_server::keys_secret(&context.owner, &random::bytes().map_err(no_randomness)?);
            create(context, Component::AuthServer, new).await?
        }
    };
    value(&secret, auth_server::PEPPER).ok_or_else(|| {
        let message =
            format!("Secret {name} has no value for key pepper: restore it from a backup");
        Problem::person(reasons::SECRET_LOST, message).into()
    })
}

/// The pepper is made once, before what depends on it, and never made anew under it.
async fn refuse_another_pepper(context: &ReconcileContext<'_>, secret: &str) -> Result<(), Error> {
    let deployment = names::auth_server(&context.owner.name);
    let (applier, ownership) = (&context.applier, &context.ownership);
    let api = context.api::<Deployment>();
    if applier.find(&api, ownership, &deployment).await?.is_none() {
        return Ok(());
    }
    let message = format!(
        "Secret {secret} is missing, and every stored token is hashed with it: restore it from a backup. If there is \
         none, everything issued so far is invalid: create a Secret whose key pepper has the lines \
         `2:$(openssl rand -base64 32)` and `1:lost`, and name it in spec.keys.secretRef"
    );
    Err(Problem::person(reasons::SECRET_LOST, message).into())
}

/// The Secret of the managed database, created before the database. A lost one is made anew: the database's pod
/// gives the role the password that it finds there.
async fn database(context: &ReconcileContext<'_>) -> Result<Secret, Error> {
    let name = names::postgres(&context.owner.name);
    let secret = match generated(context, Component::Postgres, &name).await? {
        Some(secret) => secret,
        None => {
            let password = random::secret().map_err(no_randomness)?;
            let new = postgres::secret(&context.owner, &password);
            create(context, Component::Postgres, new).await?
        }
    };
    for key in ["uri", "password"] {
        if value(&secret, key).is_none() {
            let message = format!(
                "Secret {name} has no value for key {key}: delete it, and a new one with a new password is made"
            );
            return Err(Problem::person(reasons::SECRET_LOST, message).into());
        }
    }
    Ok(secret)
}

/// Creates the keys that the replicas of a proxy share, before the pods, or checks them by the rule of the proxy. A lost
/// Secret is made anew: sessions end, and nothing else depends on it.
///
/// # Errors
/// They cannot be used, or the API server does not respond.
pub async fn proxy_keys(context: &ReconcileContext<'_>) -> Result<(), Error> {
    let name = names::proxy_keys(&context.owner.name);
    let at = (context.owner.namespace.clone(), name.clone());
    context.refers_also_to([(references::Kind::Secret, at)]);
    let make = || {
        let key = random::bytes().map_err(no_randomness)?;
        Ok::<_, Error>(protected_server::keys_secret(&context.owner, key))
    };
    let Some(secret) = existing_or_made(context, &name, make).await? else {
        return Ok(());
    };
    let keys = value(&secret, injection::KEYS_FILE).unwrap_or_default();
    let checked = ProxyKeys::parse(&String::from_utf8_lossy(&keys));
    checked.map(drop).map_err(|invalid| {
        let message = format!(
            "Secret {name}, key {}: {invalid}. Or delete the Secret: a new key is made, and sessions end",
            injection::KEYS_FILE
        );
        Problem::person(reasons::SECRET_INVALID, message).into()
    })
}

/// The hash of what proxies read only when they start, unless it is the default: their telemetry, and the headers for the
/// collector.
///
/// # Errors
/// The headers are missing or cannot be used, or the API server does not respond.
pub async fn proxy_telemetry(
    context: &ReconcileContext<'_>,
    spec: &Telemetry,
) -> Result<Option<String>, Error> {
    if *spec == Telemetry::default() {
        return Ok(None);
    }
    let mut parts = vec![format!("{spec:?}").into_bytes()];
    if let Some(headers) = otlp_headers(spec) {
        let (name, key) = (&headers.name, &headers.key);
        let at = (context.owner.namespace.clone(), name.clone());
        context.refers_also_to([(references::Kind::Secret, at)]);
        let (secret, value) = secret_of(context, HEADERS, name, key).await?;
        check_headers(HEADERS, name, key, &value)?;
        parts.push(secret.uid().unwrap_or_default().into_bytes());
        parts.push(value);
    }
    Ok(Some(hash(parts.iter().map(Vec::as_slice))))
}

/// A Secret with random values, if it was made.
async fn generated(
    context: &ReconcileContext<'_>,
    component: Component,
    name: &str,
) -> Result<Option<Secret>, Error> {
    let (applier, ownership) = (&context.applier, &context.kept(component));
    let api = context.api::<Secret>();
    Ok(applier.find(&api, ownership, name).await?)
}

/// A Secret that goes with its object, if it exists; else it is made. For a new object it is made without looking first.
async fn existing_or_made(
    context: &ReconcileContext<'_>,
    name: &str,
    make: impl FnOnce() -> Result<Secret, Error>,
) -> Result<Option<Secret>, Error> {
    let (applier, ownership) = (&context.applier, &context.ownership);
    let api = context.api::<Secret>();
    if !applier.fresh
        && let Some(existing) = applier.find(&api, ownership, name).await?
    {
        return Ok(Some(existing));
    }
    match applier.create_once(&api, ownership, make()?).await {
        Err(ApplyError::Api { source, .. }) if applier.fresh && is_code(&source, 409) => {
            Ok(applier.find(&api, ownership, name).await?)
        }
        made => {
            made?;
            Ok(None)
        }
    }
}

async fn create(
    context: &ReconcileContext<'_>,
    component: Component,
    new: Secret,
) -> Result<Secret, Error> {
    let (applier, ownership) = (&context.applier, &context.kept(component));
    let api = context.api::<Secret>();
    Ok(applier.create_once(&api, ownership, new).await?)
}

fn no_randomness(error: NoRandomness) -> Problem {
    Problem::outage(reasons::APPLY_FAILED, error.to_string())
}

/// Deletes the Secrets that the operator generated for an authorization server, which is being deleted together
/// with the data that they decrypt.
///
/// # Errors
/// The API server rejects the request, or does not respond.
pub async fn delete_generated(context: &ReconcileContext<'_>) -> Result<(), Error> {
    let name = &context.owner.name;
    for (component, secret) in [
        (Component::AuthServer, names::keys_secret(name)),
        (Component::Postgres, names::postgres(name)),
    ] {
        let ownership = context.kept(component);
        let api = context.api::<Secret>();
        context.applier.delete(&api, &ownership, &secret).await?;
    }
    Ok(())
}

/// The value of a user-provided Secret that `field` names.
///
/// # Errors
/// The Secret or its key is missing, or the API server does not respond.
async fn value_of(
    context: &ReconcileContext<'_>,
    field: &str,
    name: &str,
    key: &str,
) -> Result<Vec<u8>, Error> {
    let (_, value) = secret_of(context, field, name, key).await?;
    Ok(value)
}

/// The same with the Secret.
async fn secret_of(
    context: &ReconcileContext<'_>,
    field: &str,
    name: &str,
    key: &str,
) -> Result<(Secret, Vec<u8>), Error> {
    let Some(secret) = context.api::<Secret>().get_opt(name).await? else {
        let message = format!("{field}: Secret {name} does not exist: create it with key {key}");
        return Err(Problem::outage(reasons::SECRET_NOT_FOUND, message).into());
    };
    let value = value(&secret, key).ok_or_else(|| {
        let message = format!("{field}: Secret {name} has no value for key {key}: add it");
        Problem::outage(reasons::SECRET_INVALID, message)
    })?;
    Ok((secret, value))
}

/// The certificates of the CA of an external PostgreSQL.
///
/// # Errors
/// They are missing, or are none, or the API server does not respond.
async fn certificates(context: &ReconcileContext<'_>, ca: Ca<'_>) -> Result<Vec<u8>, Error> {
    let (field, value) = match ca {
        Ca::Secret(ca) => {
            let field = "spec.storage.postgres.external.caSecretRef";
            (field, value_of(context, field, &ca.name, &ca.key).await?)
        }
        Ca::ConfigMap(ca) => {
            let field = "spec.storage.postgres.external.caConfigMapRef";
            (field, text_of(context, field, &ca.name, &ca.key).await?)
        }
    };
    authserver_config::check_ca(field, &String::from_utf8_lossy(&value))
        .map_err(|error| Problem::outage(reasons::SECRET_INVALID, error.to_string()))?;
    Ok(value)
}

/// As [`value_of`], of a ConfigMap.
async fn text_of(
    context: &ReconcileContext<'_>,
    field: &str,
    name: &str,
    key: &str,
) -> Result<Vec<u8>, Error> {
    let Some(config) = context.api::<ConfigMap>().get_opt(name).await? else {
        let message = format!("{field}: ConfigMap {name} does not exist: create it with key {key}");
        return Err(Problem::outage(reasons::SECRET_NOT_FOUND, message).into());
    };
    let text = config.data.unwrap_or_default().remove(key);
    text.map(String::into_bytes).ok_or_else(|| {
        let message = format!("{field}: ConfigMap {name} has no value for key {key}: add it");
        Problem::outage(reasons::SECRET_INVALID, message).into()
    })
}

/// The value of a key, unless it is empty.
pub(super) fn value(secret: &Secret, key: &str) -> Option<Vec<u8>> {
    let value = &secret.data.as_ref()?.get(key)?.0;
    (!value.is_empty()).then(|| value.clone())
}
