//! McpAuthServer: the authorization server's pods and its database.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::DynamicObject;
use kube::runtime::controller::Controller;
use mcpauth_api::auth_server::{DeletionPolicy, PostgresStorage, SigningKeyStatus, Storage};
use mcpauth_api::conditions::reasons;
use mcpauth_api::{McpAuthServer, McpAuthServerSpec};
use mcpauth_wire::admin;
use serde_json::{Value, json};

use super::database;
use super::environment;
use super::internal_tls;
use super::lookup;
use super::rollout;
use super::secrets;
use super::upgrade::Workload;
use super::workload::{self, apply_budget, apply_network_policy, why_not_up};
use crate::authserver::{Internal, Server};
use crate::desired::auth_server::{self as build, AuthServerInputs, AuthServerObjects};
use crate::desired::labels::{Component, Owner};
use crate::desired::postgres::PostgresObjects;
use crate::framework::context::{Context, Scope};
use crate::framework::error::Error;
use crate::framework::guarded::Guarded;
use crate::framework::reconciler::{Reconcile, ReconcileContext, children, watch_kept};
use crate::framework::references::References;
use crate::framework::status::Observed;
use crate::framework::watched::Watched;
use crate::pods::Rollout;
use crate::problem::Problem;

impl Reconcile for McpAuthServer {
    const KIND: &'static str = "McpAuthServer";
    const MANAGER: &'static str = "mcpauth.io/auth-server";
    const FINALIZER: &'static str = "mcpauth.io/auth-server";

    fn references(ctx: &Context) -> &References {
        &ctx.references.auth_servers
    }

    fn watch(controller: Controller<Guarded<Self>>, scope: &Scope) -> Controller<Guarded<Self>> {
        let controller = workload::watch_children(controller, scope, Component::AuthServer);
        let sets = scope.api::<Watched<StatefulSet>>();
        let controller = controller.owns(sets, children(Component::Postgres));
        let secrets = scope.api::<Watched<Secret>>();
        let controller = watch_kept(controller, secrets, Component::AuthServer);
        let controller = lookup::watch_responding(controller, scope);
        environment::watch(controller, scope)
    }

    async fn sync(&self, context: &ReconcileContext<'_>) -> Result<Observed, Error> {
        let hashes = secrets::of_auth_server(self, context).await?;
        let internal_ca = match &self.spec.internal_tls {
            Some(tls) => Some(internal_tls::ca(context, &tls.secret_ref.name).await?),
            None => None,
        };
        let server = Server {
            namespace: context.owner.namespace.clone(),
            name: context.owner.name.clone(),
        };
        let tls = self.spec.internal_tls.is_some();
        let internal = Internal::new(tls, internal_ca.as_deref());
        let auth_servers = &context.program.auth_servers;
        auth_servers.is_reached_by(&server, internal).await;
        let existing = database::find(context).await?;
        let inputs = AuthServerInputs {
            images: &context.program.images,
            admins: &context.program.config.admins(),
            secrets_hash: &hashes.auth_server,
            database: &existing.inputs(hashes.database.clone()),
        };
        let mut objects = build::build(&context.owner, &self.spec, &inputs)
            .map_err(|e| Problem::person(reasons::INVALID_SPEC, e.to_string()))?;
        environment::note(context, &mut objects.deployment).await?;
        let pod_security = workload::pod_security(&objects.deployment);
        let refused = objects.postgres.as_mut().and_then(|p| p.refused.take());
        let refused = refused
            .map(|change| Problem::person(reasons::DATABASE_MAJOR_CHANGE, change.to_string()));
        let spec = of_pods(&self.spec);
        let cause = workload::cause(&spec, &objects.deployment, &hashes.parts());
        let applied = apply(objects, context, &cause).await?;
        let external = matches!(
            &self.spec.storage,
            Storage::Postgres(PostgresStorage::External(_))
        );
        let mut observed = Observed {
            ready: format!("serving {}", self.spec.issuer),
            problems: applied.problems(context, external).await?,
            conditions: vec![pod_security],
            ..Observed::default()
        };
        let config_hash = workload::config_hash(&applied.deployment);
        let set = applied.database.as_ref();
        existing.observe(context, self, set, &mut observed).await?;
        observed.problems.splice(0..0, refused);
        rollout::observe(context, applied.waits, applied.is_settled(), &mut observed);
        workload::observe(
            context,
            Component::AuthServer,
            applied.rollout,
            &mut observed,
        );
        let keys = signing_keys(self, context, &server, &observed).await;
        observed.fields.extend([
            ("url".to_owned(), self.spec.issuer.clone().into()),
            ("internalUrl".to_owned(), server.url(tls).into()),
            ("internalCa".to_owned(), internal_ca.into()),
            ("configHash".to_owned(), config_hash.into()),
            ("signingKeys".to_owned(), keys),
        ]);
        Ok(observed)
    }

    async fn complete(
        &self,
        context: &ReconcileContext<'_>,
        observed: &mut Observed,
    ) -> Result<(), Error> {
        workload::complete(context, Component::AuthServer, observed).await
    }

    async fn cleanup(raw: &DynamicObject, context: &ReconcileContext<'_>) -> Result<(), Error> {
        let storage = &raw.data["spec"]["storage"];
        // A database that the spec no longer used needs the Secrets as well.
        let is_left_behind =
            !storage["memory"].is_null() && database::find(context).await?.is_retained();
        if !keeps_state(storage) && !is_left_behind {
            secrets::delete_generated(context).await?;
        }
        let Owner {
            namespace, name, ..
        } = context.owner.clone();
        context
            .program
            .auth_servers
            .forget(&Server { namespace, name })
            .await;
        Ok(())
    }
}

/// The signing keys for the status: what the server says of them, or what it said last; null when it has said nothing.
async fn signing_keys(
    object: &McpAuthServer,
    context: &ReconcileContext<'_>,
    server: &Server,
    observed: &Observed,
) -> Value {
    let before = object.status.iter().flat_map(|status| &status.signing_keys);
    let before = before.map(|key| json!(key)).collect();
    // Without a pod that serves, a call would only take time.
    let keys: Vec<Value> = if observed.problems.is_empty() {
        let stated = context.program.auth_servers.signing_keys(server);
        match stated.await {
            Ok(list) => list.keys.iter().filter_map(signing_key).collect(),
            // Its Service may reach a pod only a moment after the pod is ready; this is reconciled when it responds.
            Err(_) => before,
        }
    } else {
        before
    };
    match keys.is_empty() {
        true => Value::Null,
        false => keys.into(),
    }
}

fn signing_key(key: &admin::SigningKey) -> Option<Value> {
    let not_before = Timestamp::from_second(key.not_before).ok()?;
    let key = SigningKeyStatus {
        kid: key.kid.clone(),
        algorithm: key.algorithm.clone(),
        state: key.state.as_str().to_owned(),
        not_before: Time(not_before),
    };
    serde_json::to_value(key).ok()
}

/// What reaches the pods of a spec: nearly all, by their configuration.
fn of_pods(spec: &McpAuthServerSpec) -> Value {
    let mut spec = serde_json::to_value(spec).unwrap_or_default();
    if let Some(fields) = spec.as_object_mut() {
        for other in ["replicas", "service", "allowedNamespaces"] {
            fields.remove(other);
        }
    }
    spec
}

/// Whether the stored data outlives the McpAuthServer, and with it the Secrets that decrypt it. `storage` is the
/// stored JSON: if it cannot be parsed, nothing is deleted.
fn keeps_state(storage: &Value) -> bool {
    let deleted = DeletionPolicy::Delete.as_str();
    let managed = &storage["postgres"]["managed"]["deletionPolicy"];
    storage["memory"].is_null() && managed != deleted
}

/// The objects that determine Ready, as the API server has them.
struct Applied {
    deployment: Deployment,
    rollout: Rollout,
    database: Option<StatefulSet>,
    /// Whether an upgrade of theirs waits for its turn.
    waits: bool,
}

async fn apply(
    objects: AuthServerObjects,
    context: &ReconcileContext<'_>,
    cause: &str,
) -> Result<Applied, Error> {
    // Destructured, so that a child that is forgotten here does not compile.
    let AuthServerObjects {
        service_account,
        config_map,
        postgres,
        deployment,
        service,
        internal_service,
        network_policy,
        disruption_budget,
    } = objects;
    let (applier, ownership) = (&context.applier, &context.ownership);
    applier
        .apply(&context.api(), ownership, service_account)
        .await?;
    applier.apply(&context.api(), ownership, config_map).await?;
    applier.apply(&context.api(), ownership, service).await?;
    applier
        .apply(&context.api(), ownership, internal_service)
        .await?;
    apply_network_policy(context, network_policy).await?;
    apply_budget(context, Component::AuthServer, disruption_budget).await?;
    let mut waits = false;
    let database = match postgres {
        // A database that the spec no longer wants is kept until the object is deleted, because it holds data.
        None => None,
        Some(PostgresObjects {
            service,
            network_policy,
            stateful_set,
            refused: _,
        }) => {
            applier.apply(&context.api(), ownership, service).await?;
            apply_network_policy(context, network_policy).await?;
            let applied = Box::pin(rollout::apply(context, stateful_set, cause.to_owned())).await?;
            waits |= applied.waits;
            Some(applied.live)
        }
    };
    let applied = Box::pin(rollout::apply(context, deployment, cause.to_owned())).await?;
    waits |= applied.waits;
    let deployment = applied.live;
    Ok(Applied {
        waits,
        rollout: Rollout::of_deployment(&deployment),
        deployment,
        database,
    })
}

impl Applied {
    fn is_settled(&self) -> bool {
        let database = self.database.as_ref();
        self.deployment.is_settled() && database.is_none_or(Workload::is_settled)
    }

    /// What keeps the pods from serving. `external`: whether the database is not managed by the operator.
    async fn problems(
        &self,
        context: &ReconcileContext<'_>,
        external: bool,
    ) -> Result<Vec<Problem>, Error> {
        let mut problems = Vec::new();
        if let Some(set) = &self.database {
            problems.extend(database_problem(context, set).await?);
        }
        if let Some(not_created) = workload::not_created(&self.deployment, self.rollout) {
            problems.push(not_created);
        } else if !self.rollout.is_complete() {
            let why = why_not_up(context, Component::AuthServer, self.rollout).await?;
            // Once the program has started, it waits only for the database.
            problems.push(match external && why.asks_for_help() {
                true => Problem::outage(reasons::DATABASE_NOT_READY, why.text),
                false => workload::not_ready(&self.deployment, why.text),
            });
        }
        Ok(problems)
    }
}

/// What keeps the managed database's pod from serving.
async fn database_problem(
    context: &ReconcileContext<'_>,
    set: &StatefulSet,
) -> Result<Option<Problem>, Error> {
    let rollout = Rollout::of_stateful_set(set);
    if rollout.is_complete() {
        return Ok(None);
    }
    let problem = match workload::not_created_set(context, set, rollout).await? {
        Some(problem) => problem,
        None => {
            let why = why_not_up(context, Component::Postgres, rollout).await?;
            Problem::stage(reasons::DATABASE_NOT_READY, why.text)
        }
    };
    let message = format!("PostgreSQL: {}", problem.message);
    Ok(Some(Problem { message, ..problem }))
}
