//! McpAuthServer: the authorization server's pods, and its database.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::api::DynamicObject;
use kube::core::PartialObjectMeta;
use kube::runtime::controller::Controller;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};
use mcpauth_api::McpAuthServer;
use mcpauth_api::auth_server::{Login, PostgresStorage, Storage};
use mcpauth_api::conditions::reasons;

use super::workload::{self, apply_budget, available, why_not_up};
use crate::authserver::Server;
use crate::desired::auth_server::{self as build, AuthServerInputs, AuthServerObjects};
use crate::desired::labels::{Component, Owner};
use crate::desired::postgres::{self, PostgresObjects};
use crate::desired::{hash, names};
use crate::framework::apply::{Child, Tie};
use crate::framework::context::Context;
use crate::framework::error::Error;
use crate::framework::reconciler::{Guarded, Kind, Work, children, watch_references};
use crate::framework::references::{self, References};
use crate::framework::status::Found;
use crate::pods::Rollout;
use crate::problem::Problem;

impl Kind for McpAuthServer {
    const KIND: &'static str = "McpAuthServer";
    const MANAGER: &'static str = "mcpauth.io/auth-server";
    const FINALIZER: &'static str = "mcpauth.io/token-review-binding";

    fn references(ctx: &Context) -> &References {
        &ctx.references.auth_servers
    }

    fn watch(
        controller: Controller<Guarded<Self>>,
        ctx: &Arc<Context>,
    ) -> Controller<Guarded<Self>> {
        let bindings: Api<PartialObjectMeta<ClusterRoleBinding>> = Api::all(ctx.client.clone());
        let controller = controller
            .owns(ctx.watched::<ServiceAccount>(), children())
            .owns(ctx.watched::<ConfigMap>(), children())
            .owns(ctx.watched::<Secret>(), children())
            .owns(ctx.watched::<Service>(), children())
            .owns(ctx.watched::<NetworkPolicy>(), children())
            .owns(ctx.watched::<StatefulSet>(), children())
            .owns(ctx.watched::<Deployment>(), children())
            .owns(ctx.watched::<PodDisruptionBudget>(), children())
            .watches(bindings, children(), |binding| {
                owner_of_binding(&binding.name_any())
            });
        let secrets = ctx.watched::<PartialObjectMeta<Secret>>();
        watch_references(controller, secrets, references::Kind::Secret, ctx)
    }

    async fn sync(&self, work: &Work<'_>) -> Result<Found, Error> {
        let secrets = dereference(self, work).await?;
        let inputs = AuthServerInputs {
            images: &work.ctx.images,
            admins: vec![work.ctx.config.principal()],
            secrets_hash: &secrets,
        };
        let objects = build::build(&work.owner, &self.spec, &inputs)
            .map_err(|e| Problem::person(reasons::INVALID_SPEC, e.to_string()))?;
        let applied = apply(objects, work).await?;
        let external = matches!(
            &self.spec.storage,
            Storage::Postgres(PostgresStorage::SecretRef(_))
        );
        let mut found = Found {
            ready: format!("serves {}", self.spec.issuer),
            problems: applied.problems(work, external).await?,
            states: vec![available(applied.rollout)],
            ..Found::default()
        };
        found
            .fields
            .insert("url".to_owned(), self.spec.issuer.clone().into());
        Ok(found)
    }

    async fn complete(work: &Work<'_>, found: &mut Found) -> Result<(), Error> {
        workload::complete(work, found).await
    }

    async fn cleanup(_: &DynamicObject, work: &Work<'_>) -> Result<(), Error> {
        let name = names::token_review_binding(&work.owner.namespace, &work.owner.name);
        let api: Api<ClusterRoleBinding> = Api::all(work.ctx.client.clone());
        work.applier.delete(&api, &binding_tie(work), &name).await?;
        let Owner {
            namespace, name, ..
        } = work.owner.clone();
        work.ctx
            .auth_servers
            .forget(&Server { namespace, name })
            .await;
        Ok(())
    }
}

fn binding_tie(work: &Work<'_>) -> Tie {
    Tie::Annotation(work.owner.reference.uid.clone())
}

/// From the name of a ClusterRoleBinding to its McpAuthServer.
fn owner_of_binding(name: &str) -> Option<ObjectRef<Guarded<McpAuthServer>>> {
    let (namespace, name) = name.strip_prefix("mcpauth:")?.split_once(':')?;
    Some(ObjectRef::new(name).within(namespace))
}

/// Makes or reads the Secrets that the pods mount, and gives a hash over what they hold. The pepper comes
/// first: nobody who sees the hash can guess a weak password of the others from it.
async fn dereference(object: &McpAuthServer, work: &Work<'_>) -> Result<String, Error> {
    let spec = &object.spec;
    let mut foreign = Vec::new();
    if let Storage::Postgres(PostgresStorage::SecretRef(secret)) = &spec.storage {
        foreign.push(("spec.storage.postgres.secretRef", &secret.name, &secret.key));
    }
    if let Login::LocalUsers(users) = &spec.login {
        foreign.push((
            "spec.login.localUsers.secretRef",
            &users.secret_ref.name,
            &users.secret_ref.key,
        ));
    }
    work.refers_to(foreign.iter().map(|(_, name, _)| {
        (
            references::Kind::Secret,
            (work.owner.namespace.clone(), (*name).clone()),
        )
    }));

    let mut values = vec![keys(work).await?];
    if let Storage::Postgres(PostgresStorage::Managed(_)) = &spec.storage {
        values.push(password(work).await?);
    }
    for (field, name, key) in foreign {
        values.push(value_of(work, field, name, key).await?);
    }
    Ok(hash(values.iter().map(Vec::as_slice)))
}

/// The pepper. Made once, before the pods.
async fn keys(work: &Work<'_>) -> Result<Vec<u8>, Error> {
    let name = names::keys_secret(&work.owner.name);
    let secret = match work
        .applier
        .find(&work.api::<Secret>(), &work.tie, &name)
        .await?
    {
        Some(secret) => secret,
        None => {
            let what = "all tokens are hashed with it";
            refuse_to_renew::<Deployment>(work, &work.owner.name, &name, what).await?;
            let new = build::keys_secret(&work.owner, &random(crate::random::bytes())?);
            work.applier
                .create_once(&work.api(), &work.tie, new)
                .await?
        }
    };
    key_of(&secret, "pepper").ok_or_else(|| damaged(&name, "pepper"))
}

/// How to connect to the managed database. Made once, before the database.
async fn password(work: &Work<'_>) -> Result<Vec<u8>, Error> {
    let name = names::postgres(&work.owner.name);
    let secret = match work
        .applier
        .find(&work.api::<Secret>(), &work.tie, &name)
        .await?
    {
        Some(secret) => secret,
        None => {
            let what = "the database was initialised with its password";
            refuse_to_renew::<StatefulSet>(work, &name, &name, what).await?;
            let new = postgres::secret(&work.owner, &random(crate::random::secret())?);
            work.applier
                .create_once(&work.api(), &work.tie, new)
                .await?
        }
    };
    key_of(&secret, "uri").ok_or_else(|| damaged(&name, "uri"))
}

/// A Secret that is gone is not made anew under what depends on it.
async fn refuse_to_renew<D: Child + kube::Resource<Scope = kube::core::NamespaceResourceScope>>(
    work: &Work<'_>,
    dependent: &str,
    secret: &str,
    what: &str,
) -> Result<(), Error> {
    if work
        .applier
        .find(&work.api::<D>(), &work.tie, dependent)
        .await?
        .is_none()
    {
        return Ok(());
    }
    let kind = D::kind(&());
    Err(Problem::person(
        reasons::SECRET_LOST,
        format!(
            "Secret {secret} is gone, and {what}: restore it from a backup; or delete {kind} {dependent}, \
             and a new Secret is made, with which nothing issued before is valid"
        ),
    )
    .into())
}

fn damaged(secret: &str, key: &str) -> Error {
    let message =
        format!("Secret {secret} has no value under the key {key}: restore it from a backup");
    Problem::person(reasons::SECRET_LOST, message).into()
}

fn random<T>(result: Result<T, crate::random::NoRandomness>) -> Result<T, Error> {
    result.map_err(|e| Problem::outage(reasons::APPLY_FAILED, e.to_string()).into())
}

fn key_of(secret: &Secret, key: &str) -> Option<Vec<u8>> {
    let value = &secret.data.as_ref()?.get(key)?.0;
    (!value.is_empty()).then(|| value.clone())
}

/// The value of a Secret that the user keeps.
async fn value_of(work: &Work<'_>, field: &str, name: &str, key: &str) -> Result<Vec<u8>, Error> {
    let Some(secret) = work.api::<Secret>().get_opt(name).await? else {
        return Err(Problem::outage(
            reasons::SECRET_NOT_FOUND,
            format!("{field}: Secret {name} does not exist: create it, with the key {key}"),
        )
        .into());
    };
    key_of(&secret, key).ok_or_else(|| {
        Problem::outage(
            reasons::SECRET_INVALID,
            format!("{field}: Secret {name} has no value under the key {key}"),
        )
        .into()
    })
}

/// What the API server has of what makes Ready.
struct Applied {
    rollout: Rollout,
    database: Option<Rollout>,
}

async fn apply(objects: AuthServerObjects, work: &Work<'_>) -> Result<Applied, Error> {
    // Every child by name: one that is forgotten here does not compile.
    let AuthServerObjects {
        service_account,
        token_review_binding,
        config_map,
        postgres,
        deployment,
        service,
        internal_service,
        disruption_budget,
    } = objects;
    let (applier, tie) = (&work.applier, &work.tie);
    applier.apply(&work.api(), tie, service_account).await?;
    let bindings = Api::all(work.ctx.client.clone());
    applier
        .apply(&bindings, &binding_tie(work), token_review_binding)
        .await?;
    applier.apply(&work.api(), tie, config_map).await?;
    applier.apply(&work.api(), tie, service).await?;
    applier.apply(&work.api(), tie, internal_service).await?;
    apply_budget(work, disruption_budget).await?;
    let database = match postgres {
        // A database that the spec no longer asks for stays until the object goes: it holds data.
        None => None,
        Some(PostgresObjects {
            service,
            network_policy,
            stateful_set,
        }) => {
            applier.apply(&work.api(), tie, service).await?;
            applier.apply(&work.api(), tie, network_policy).await?;
            Some(Rollout::of_stateful_set(
                &applier.apply(&work.api(), tie, stateful_set).await?,
            ))
        }
    };
    let deployment = applier.apply(&work.api(), tie, deployment).await?;
    Ok(Applied {
        rollout: Rollout::of_deployment(&deployment),
        database,
    })
}

impl Applied {
    /// `external`: whether the database is one that somebody else runs.
    async fn problems(&self, work: &Work<'_>, external: bool) -> Result<Vec<Problem>, Error> {
        let mut problems = Vec::new();
        if let Some(database) = self.database.filter(|d| !d.is_complete()) {
            let why = why_not_up(work, Component::Postgres, database).await?;
            let text = format!("PostgreSQL: {}", why.text);
            problems.push(Problem::stage(reasons::DATABASE_NOT_READY, text));
        }
        if !self.rollout.is_complete() {
            let why = why_not_up(work, Component::AuthServer, self.rollout).await?;
            // Once it has started, the database is all that a pod of it waits for.
            problems.push(match external && why.asks_for_help() {
                true => Problem::outage(reasons::DATABASE_NOT_READY, why.text),
                false => Problem::stage(reasons::PODS_NOT_READY, why.text),
            });
        }
        Ok(problems)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_leads_to_its_server_and_a_foreign_one_nowhere() {
        let found = owner_of_binding("mcpauth:team-a:auth").unwrap();
        assert_eq!(
            (found.namespace.as_deref(), found.name.as_str()),
            (Some("team-a"), "auth")
        );
        assert!(owner_of_binding("system:node").is_none());
        assert!(owner_of_binding("mcpauth:odd").is_none());
    }
}
