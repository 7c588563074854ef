//! The Secrets that an authorization server's pods mount: those that the operator generates, and those that
//! the user keeps.

use std::marker::PhantomData;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Resource;
use kube::core::NamespaceResourceScope;
use mcpauth_api::McpAuthServer;
use mcpauth_api::auth_server::{Ca, Login, PostgresStorage, Storage};
use mcpauth_api::conditions::reasons;

use mcpauth_wire::authserver_config::check_ca;

use crate::desired::authserver_config::postgres_ca;
use crate::desired::labels::Component;
use crate::desired::{auth_server, hash, names, postgres};
use crate::framework::apply::Object;
use crate::framework::error::Error;
use crate::framework::reconciler::ReconcileContext;
use crate::framework::references;
use crate::problem::Problem;
use crate::random::{self, NoRandomness};

/// Creates or reads the Secrets that the pods mount, and returns a hash of their contents. The pepper comes first, so
/// that a weak password in another Secret cannot be guessed from the hash.
///
/// # Errors
/// One is missing, lost or damaged, or the API server does not respond.
pub async fn of_auth_server(
    object: &McpAuthServer,
    context: &ReconcileContext<'_>,
) -> Result<String, Error> {
    let spec = &object.spec;
    let url = match &spec.storage {
        Storage::Postgres(PostgresStorage::External(external)) => Some(&external.url_secret_ref),
        Storage::Postgres(PostgresStorage::Managed(_)) | Storage::Memory(_) => None,
    };
    let ca = postgres_ca(spec);
    // It must exist, but it is not hashed: the server reloads it, so a new user needs no restart.
    let users = match &spec.login {
        Login::LocalUsers(users) => Some(&users.secret_ref),
        Login::DevelopmentAutoApprove(_) => None,
    };
    let at = |kind, name: &String| (kind, (context.owner.namespace.clone(), name.clone()));
    let names = url.map(|url| &url.name).into_iter();
    let names = names.chain(users.map(|users| &users.name));
    let secrets = names.map(|name| at(references::Kind::Secret, name));
    context.refers_to(secrets.chain(ca.map(|ca| match ca {
        Ca::Secret(ca) => at(references::Kind::Secret, &ca.name),
        Ca::ConfigMap(ca) => at(references::Kind::ConfigMap, &ca.name),
    })));

    let mut values = vec![pepper(context).await?];
    if let Storage::Postgres(PostgresStorage::Managed(_)) = &spec.storage {
        values.push(database_url(context).await?);
    }
    if let Some(url) = url {
        let field = "spec.storage.postgres.external.urlSecretRef";
        values.push(value_of(context, field, &url.name, &url.key).await?);
    }
    if let Some(ca) = ca {
        values.push(certificates(context, ca).await?);
    }
    if let Some(users) = users {
        let field = "spec.login.localUsers.secretRef";
        value_of(context, field, &users.name, &users.key).await?;
    }
    Ok(hash(values.iter().map(Vec::as_slice)))
}

/// The pepper, created before the pods.
async fn pepper(context: &ReconcileContext<'_>) -> Result<Vec<u8>, Error> {
    let secret = Generated::<Deployment> {
        component: Component::AuthServer,
        name: names::keys_secret(&context.owner.name),
        key: "pepper",
        dependent: names::auth_server(&context.owner.name),
        because: "every stored token is hashed with it",
        dependents: PhantomData,
    };
    let make = || Ok(auth_server::keys_secret(&context.owner, &random::bytes()?));
    secret.value(context, make).await
}

/// The URL of the managed database, created before the database.
async fn database_url(context: &ReconcileContext<'_>) -> Result<Vec<u8>, Error> {
    let name = names::postgres(&context.owner.name);
    let secret = Generated::<StatefulSet> {
        component: Component::Postgres,
        key: "uri",
        dependent: name.clone(),
        name,
        because: "the database was initialized with its password",
        dependents: PhantomData,
    };
    let make = || Ok(postgres::secret(&context.owner, &random::secret()?));
    secret.value(context, make).await
}

/// Takes away the Secrets that the operator generated for an authorization server, which is being deleted together
/// with what they open.
///
/// # Errors
/// The API server refuses, or does not answer.
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

/// A Secret with a random value: made once, before what depends on it, and never made anew under it.
struct Generated<D> {
    /// Its name.
    name: String,
    /// The key whose value is used.
    key: &'static str,
    /// What it belongs to.
    component: Component,
    /// The name of the object that depends on it, of kind `D`.
    dependent: String,
    /// Why it must keep its value.
    because: &'static str,
    /// The kind of what depends on it.
    dependents: PhantomData<D>,
}

impl<D: Object + Resource<Scope = NamespaceResourceScope>> Generated<D> {
    /// Its value. `make` creates the Secret if nothing depends on it yet.
    ///
    /// # Errors
    /// It is missing or damaged although something depends on it, or the API server rejects a request.
    async fn value(
        &self,
        context: &ReconcileContext<'_>,
        make: impl FnOnce() -> Result<Secret, NoRandomness>,
    ) -> Result<Vec<u8>, Error> {
        let (applier, ownership) = (&context.applier, &context.kept(self.component));
        let api = context.api::<Secret>();
        let secret = match applier.find(&api, ownership, &self.name).await? {
            Some(secret) => secret,
            None => {
                self.refuse_to_renew(context).await?;
                let new = make()
                    .map_err(|error| Problem::outage(reasons::APPLY_FAILED, error.to_string()))?;
                applier.create_once(&api, ownership, new).await?
            }
        };
        value(&secret, self.key).ok_or_else(|| {
            let (name, key) = (&self.name, self.key);
            let message =
                format!("Secret {name} has no value for key {key}: restore it from a backup");
            Problem::person(reasons::SECRET_LOST, message).into()
        })
    }

    async fn refuse_to_renew(&self, context: &ReconcileContext<'_>) -> Result<(), Error> {
        let (applier, ownership) = (&context.applier, &context.ownership);
        let api = context.api::<D>();
        let found = applier.find(&api, ownership, &self.dependent).await?;
        if found.is_none() {
            return Ok(());
        }
        let Self {
            name,
            dependent,
            because,
            ..
        } = self;
        let kind = D::kind(&());
        let message = format!(
            "Secret {name} is missing, and {because}: restore it from a backup. If there is none, delete \
             {kind} {dependent}: a new Secret is then generated, and everything issued so far becomes invalid"
        );
        Err(Problem::person(reasons::SECRET_LOST, message).into())
    }
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
    let Some(secret) = context.api::<Secret>().get_opt(name).await? else {
        let message = format!("{field}: Secret {name} does not exist: create it with key {key}");
        return Err(Problem::outage(reasons::SECRET_NOT_FOUND, message).into());
    };
    value(&secret, key).ok_or_else(|| {
        let message = format!("{field}: Secret {name} has no value for key {key}: add it");
        Problem::outage(reasons::SECRET_INVALID, message).into()
    })
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
    check_ca(field, &String::from_utf8_lossy(&value))
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

fn value(secret: &Secret, key: &str) -> Option<Vec<u8>> {
    let value = &secret.data.as_ref()?.get(key)?.0;
    (!value.is_empty()).then(|| value.clone())
}
