//! ProtectedMcpServer: the pods of an MCP server with its proxy, and its registration.

use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt as _;
use kube::api::DynamicObject;
use kube::runtime::controller::Controller;
use mcpauth_api::auth_server::Storage;
use mcpauth_api::conditions::reasons;
use mcpauth_api::protected_server::ServerTemplate;
use mcpauth_api::refs::{AuthServerRef, NamespaceSelector};
use mcpauth_api::{McpAuthServer, ProtectedMcpServer};
use serde_json::json;

use super::environment;
use super::lookup;
use super::policy;
use super::registration::{Entry, unregister, withdraw_if_not_permitted};
use super::rollout;
use super::secrets;
use super::upgrade::Workload as _;
use super::workload::{self, apply_budget, apply_live_config, apply_network_policy};
use crate::authserver::{Collection, Server};
use crate::desired::AuthServerFacts;
use crate::desired::environment::annotate;
use crate::desired::labels::Component;
use crate::desired::names::{self, TELEMETRY_HASH};
use crate::desired::protected_server::{self as desired, ProtectedServerObjects};
use crate::desired::registration::{self, Selected};
use crate::framework::context::{Context, Scope};
use crate::framework::error::Error;
use crate::framework::guarded::Guarded;
use crate::framework::reconciler::{Reconcile, ReconcileContext};
use crate::framework::references::References;
use crate::framework::status::{Condition, Observed};
use crate::pods::Rollout;
use crate::problem::Problem;

const COLLECTION: Collection = Collection::Resources;

impl Reconcile for ProtectedMcpServer {
    const KIND: &'static str = "ProtectedMcpServer";
    const MANAGER: &'static str = "mcpauth.io/protected-server";
    const FINALIZER: &'static str = "mcpauth.io/resource-registration";

    fn references(ctx: &Context) -> &References {
        &ctx.references.protected_servers
    }

    fn auth_server(&self) -> Option<&AuthServerRef> {
        Some(&self.spec.auth_server_ref)
    }

    fn has_pods(&self) -> bool {
        self.spec.server.template().is_some()
    }

    fn watch(controller: Controller<Guarded<Self>>, scope: &Scope) -> Controller<Guarded<Self>> {
        let controller = workload::watch_children(controller, scope, Component::McpServer);
        let controller = environment::watch(controller, scope);
        lookup::watch_auth_servers(controller, scope)
    }

    async fn sync(&self, context: &ReconcileContext<'_>) -> Result<Observed, Error> {
        let entry = Entry::new(COLLECTION, &self.spec.auth_server_ref, &context.owner);
        let server = &entry.server;
        let (namespace, name) = (&context.owner.namespace, &context.owner.name);
        let targets = lookup::targets(server, namespace);
        let allowed = &self.spec.allowed_clients;
        let selects =
            allowed.namespaces.selector.is_some() || allowed.without_consent.selector.is_some();
        context.refers_to(
            targets
                .into_iter()
                .chain(selects.then(lookup::any_namespace)),
        );
        let auth_server = match lookup::auth_server(context, server).await {
            Ok(auth_server) => auth_server,
            Err(Error::Problem(problem)) => {
                // Leave the pods unchanged: their proxy rejects all requests once no token is active.
                return Ok(entry.without_server(context, problem).await);
            }
            Err(other) => return Err(other),
        };
        let mut introspectors =
            registration::callers(&auth_server.spec, &server.namespace, namespace, name);
        let mut observed = Observed::default();
        let mut rollout = None;
        match self.spec.server.template() {
            // Pods first: they start whether or not the authorization server responds.
            Some(template) => {
                let pods = run(self, template, context, &auth_server, server).await?;
                if context.gives_way() {
                    observed.is_partial = true;
                    return Ok(observed);
                }
                introspectors.push(pods.introspector);
                observed.conditions.push(pods.security);
                observed.problems.extend(pods.problem);
                observed.ready = format!("serving {}", self.spec.resource);
                rollout::observe(
                    context,
                    pods.waits,
                    pods.deployment.is_settled(),
                    &mut observed,
                );
                rollout = Some((pods.policy_hash, pods.deployment));
            }
            None => observed.ready = registered(server, &introspectors),
        }
        let (selected, unread) = selected(self, context).await?;
        let allowed = registration::allowed_clients(&self.spec, namespace, selected);
        let resource = registration::resource(name, &self.spec, introspectors, allowed);
        observed.problems.extend(unread);
        observed.forgotten = matches!(auth_server.spec.storage, Storage::Memory(_));
        entry.put(context, &resource, &mut observed).await;
        if let Some(rollout) = rollout {
            observe(self, context, &rollout, &mut observed).await?;
        }
        observed.fields.extend([
            ("url".to_owned(), self.spec.resource.clone().into()),
            ("issuer".to_owned(), auth_server.spec.issuer.clone().into()),
        ]);
        Ok(observed)
    }

    async fn complete(
        &self,
        context: &ReconcileContext<'_>,
        observed: &mut Observed,
    ) -> Result<(), Error> {
        match self.spec.server.template() {
            Some(_) => workload::complete(context, Component::McpServer, observed).await,
            None => Ok(()),
        }
    }

    async fn withdraw(raw: &DynamicObject, context: &ReconcileContext<'_>) -> Result<(), Error> {
        withdraw_if_not_permitted(COLLECTION, raw, context).await
    }

    async fn cleanup(raw: &DynamicObject, context: &ReconcileContext<'_>) -> Result<(), Error> {
        unregister(COLLECTION, raw, context).await?;
        let key = (context.owner.namespace.clone(), context.owner.name.clone());
        context.program.policies.forget(&key);
        Ok(())
    }
}

/// The pods of a server in the cluster.
struct Pods {
    policy_hash: String,
    deployment: Deployment,
    /// Whether an upgrade of theirs waits for its turn.
    waits: bool,
    security: Condition,
    /// What is wrong with their telemetry, which keeps no policy from them.
    problem: Option<Problem>,
    /// The principal of their proxies.
    introspector: String,
}

async fn run(
    object: &ProtectedMcpServer,
    template: &ServerTemplate,
    context: &ReconcileContext<'_>,
    auth_server: &McpAuthServer,
    server: &Server,
) -> Result<Pods, Error> {
    let mut objects = build(object, template, context, auth_server, server)?;
    secrets::proxy_keys(context).await?;
    environment::note(context, &mut objects.deployment).await?;
    let problem = note_telemetry(context, object, &mut objects.deployment).await?;
    let security = workload::pod_security(&objects.deployment);
    let (namespace, name) = (&context.owner.namespace, &context.owner.name);
    let account = desired::service_account(&objects.deployment).unwrap_or(name);
    let introspector = names::service_account_principal(namespace, account);
    let policy_hash = objects.policy_hash.clone();
    let spec = &object.spec;
    let spec = json!([
        spec.server,
        spec.pod_template,
        spec.proxy,
        spec.limits,
        spec.telemetry
    ]);
    let cause = workload::cause(&spec, &objects.deployment, &[]);
    let applied = apply(objects, context, cause).await?;
    Ok(Pods {
        policy_hash,
        deployment: applied.live,
        waits: applied.waits,
        security,
        problem,
        introspector,
    })
}

/// Annotates the pods with a hash of their telemetry, so that they are replaced when it changes. Where it cannot be used,
/// those that run keep what they have, and new ones tell nobody.
async fn note_telemetry(
    context: &ReconcileContext<'_>,
    object: &ProtectedMcpServer,
    deployment: &mut Deployment,
) -> Result<Option<Problem>, Error> {
    let (hash, problem) = match secrets::proxy_telemetry(context, &object.spec.telemetry).await {
        Ok(hash) => (hash, None),
        Err(Error::Problem(problem)) => {
            let live = context.api::<Deployment>();
            let live = live.get_opt(&deployment.name_any()).await?;
            let template = live.and_then(|live| live.spec?.template.metadata?.annotations);
            let hash = template.and_then(|mut annotations| annotations.remove(TELEMETRY_HASH));
            (hash, Some(problem))
        }
        Err(other) => return Err(other),
    };
    if let Some(hash) = hash {
        annotate(deployment, TELEMETRY_HASH, hash);
    }
    Ok(problem)
}

async fn observe(
    object: &ProtectedMcpServer,
    context: &ReconcileContext<'_>,
    (policy_hash, deployment): &(String, Deployment),
    observed: &mut Observed,
) -> Result<(), Error> {
    let rollout = Rollout::of_deployment(deployment);
    workload::observe(context, Component::McpServer, rollout, observed);
    let stuck = workload::stuck(context, Component::McpServer, deployment, rollout).await?;
    observed.problems.extend(stuck);
    policy::observe(object, context, policy_hash, deployment, observed).await
}

/// What Ready says of a server that is elsewhere.
fn registered(server: &Server, introspectors: &[String]) -> String {
    let callers = match introspectors.is_empty() {
        true => format!(
            "nobody can check its tokens yet, because no entry of spec.introspection.callers of McpAuthServer {server} \
             names it"
        ),
        false => format!("its tokens are checked by {}", introspectors.join(", ")),
    };
    format!("registered; the server runs elsewhere (spec.server.external), and {callers}")
}

/// The namespaces that the selectors of `spec.allowedClients` match; none, and a problem, for a selector that this
/// operator cannot evaluate.
async fn selected(
    object: &ProtectedMcpServer,
    context: &ReconcileContext<'_>,
) -> Result<(Selected, Vec<Problem>), Error> {
    let allowed = &object.spec.allowed_clients;
    let mut problems = Vec::new();
    let mut read = async |field: &str, selector: Option<&NamespaceSelector>| {
        let Some(selector) = selector else {
            return Ok(Vec::new());
        };
        match lookup::namespaces(context, field, selector).await {
            Err(Error::Problem(problem)) => {
                problems.push(problem);
                Ok(Vec::new())
            }
            read => read,
        }
    };
    let field = "spec.allowedClients.namespaces.selector";
    let selected = read(field, allowed.namespaces.selector.as_ref()).await?;
    let field = "spec.allowedClients.withoutConsent.selector";
    let without_consent = read(field, allowed.without_consent.selector.as_ref()).await?;
    let selected = Selected {
        allowed: selected,
        without_consent,
    };
    Ok((selected, problems))
}

fn build(
    object: &ProtectedMcpServer,
    template: &ServerTemplate,
    context: &ReconcileContext<'_>,
    auth_server: &McpAuthServer,
    server: &Server,
) -> Result<ProtectedServerObjects, Problem> {
    let facts = AuthServerFacts {
        issuer: auth_server.spec.issuer.clone(),
        internal_url: server.url(auth_server.spec.internal_tls.is_some()),
        internal_ca: lookup::internal_ca(auth_server),
    };
    let images = &context.program.images;
    desired::build(&context.owner, &object.spec, template, &facts, images)
        .map_err(|e| Problem::person(reasons::INVALID_SPEC, e.to_string()))
}

async fn apply(
    objects: ProtectedServerObjects,
    context: &ReconcileContext<'_>,
    cause: String,
) -> Result<rollout::Applied<Deployment>, Error> {
    // Destructured, so that a child that is forgotten here does not compile.
    let ProtectedServerObjects {
        service_account,
        config_map,
        policy_hash: _,
        deployment,
        service,
        network_policy,
        disruption_budget,
    } = objects;
    let (applier, ownership) = (&context.applier, &context.ownership);
    applier
        .apply(&context.api(), ownership, service_account)
        .await?;
    apply_live_config(context, Component::McpServer, config_map).await?;
    applier.apply(&context.api(), ownership, service).await?;
    apply_network_policy(context, network_policy).await?;
    apply_budget(context, Component::McpServer, disruption_budget).await?;
    Box::pin(rollout::apply(context, deployment, cause)).await
}
