//! Pods: shared by the two kinds that have them.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt as _;
use kube::api::ListParams;
use kube::runtime::controller::Controller;
use mcpauth_api::conditions::{reasons, types};
use serde_json::{Value, json};

use crate::desired::labels::Component;
use crate::desired::names::CONFIG_HASH;
use crate::desired::{environment, hash, pod_security};
use crate::framework::apply::{ApplyError, HASH};
use crate::framework::context::Scope;
use crate::framework::error::Error;
use crate::framework::guarded::Guarded;
use crate::framework::reconciler::{Reconcile, ReconcileContext, children};
use crate::framework::status::{Condition, Observed};
use crate::framework::watched::Watched;
use crate::framework::written::Fingerprint;
use crate::pods::{self, Rollout};
use crate::problem::Problem;

/// Watches the children of a component with pods.
pub fn watch_children<K: Reconcile>(
    controller: Controller<Guarded<K>>,
    scope: &Scope,
    component: Component,
) -> Controller<Guarded<K>> {
    controller
        .owns(scope.api::<Watched<ServiceAccount>>(), children(component))
        .owns(scope.api::<Watched<ConfigMap>>(), children(component))
        .owns(scope.api::<Watched<Service>>(), children(component))
        .owns(scope.api::<Watched<NetworkPolicy>>(), children(component))
        .owns(scope.api::<Watched<Deployment>>(), children(component))
        .owns(
            scope.api::<Watched<PodDisruptionBudget>>(),
            children(component),
        )
}

/// A hash of what people change about pods: the parts of the spec that reach them, what their environment comes from, and
/// `more`.
pub fn cause(spec: &Value, deployment: &Deployment, more: &[&str]) -> String {
    let environment = environment::hash_of(deployment).unwrap_or_default();
    let spec = spec.to_string();
    let parts = [spec.as_str(), environment];
    hash(parts.iter().chain(more).map(|part| part.as_bytes()))
}

/// The hash of the configuration that the pods of a Deployment read on start.
pub fn config_hash(deployment: &Deployment) -> Option<String> {
    let metadata = deployment.spec.as_ref()?.template.metadata.as_ref()?;
    metadata.annotations.as_ref()?.get(CONFIG_HASH).cloned()
}

/// The Available condition: whether at least one pod is serving.
fn available(rollout: Rollout) -> Condition {
    if rollout.is_available() {
        Condition::yes(
            types::AVAILABLE,
            reasons::READY,
            "at least one pod is serving",
        )
    } else {
        let problem = Problem::stage(reasons::PODS_NOT_READY, "no pod is serving");
        Condition::no(types::AVAILABLE, &problem)
    }
}

/// The PodSecurityRestricted condition: whether a spec weakens the pods of a Deployment.
pub fn pod_security(deployment: &Deployment) -> Condition {
    let pod = deployment
        .spec
        .as_ref()
        .and_then(|s| s.template.spec.as_ref());
    let below = pod.map(pod_security::of_pod).unwrap_or_default();
    if below.is_empty() {
        let message = "pods meet the restricted Pod Security Standard";
        return Condition::yes(types::POD_SECURITY_RESTRICTED, reasons::READY, message);
    }
    let message = format!(
        "below the restricted Pod Security Standard, because the spec asks for it: {}. A namespace that enforces the \
         standard does not admit these pods",
        below.join(", ")
    );
    let problem = Problem::person(reasons::BELOW_RESTRICTED, message);
    Condition::no(types::POD_SECURITY_RESTRICTED, &problem)
}

/// Adds what a Deployment reports about its pods: the fields of the scale subresource, the Available condition, and a
/// problem if the spec wants no pods.
pub fn observe(
    context: &ReconcileContext<'_>,
    component: Component,
    rollout: Rollout,
    observed: &mut Observed,
) {
    let selector = selector(context, component);
    observed.fields.extend([
        ("replicas".to_owned(), rollout.replicas().into()),
        ("readyReplicas".to_owned(), rollout.ready_replicas().into()),
        ("selector".to_owned(), selector.into()),
    ]);
    observed.conditions.push(available(rollout));
    if rollout.is_scaled_to_zero() {
        let message = "scaled to zero: set spec.replicas to 1 or more to serve requests";
        let problem = Problem::wanted(reasons::SCALED_TO_ZERO, message);
        observed.problems.push(problem);
    }
}

/// Adds the Available condition when another problem kept the Deployment from being applied.
pub async fn complete(
    context: &ReconcileContext<'_>,
    component: Component,
    observed: &mut Observed,
) -> Result<(), Error> {
    if observed
        .conditions
        .iter()
        .any(|s| s.type_ == types::AVAILABLE)
    {
        return Ok(());
    }
    let (api, name) = (
        context.api::<Deployment>(),
        context.owner.workload(component),
    );
    let live = match context.applier.find(&api, &context.ownership, &name).await {
        Err(ApplyError::NameConflict { .. } | ApplyError::Orphan { .. }) => None,
        live => live?,
    };
    let rollout = Rollout::of_deployment(&live.unwrap_or_default());
    observed.conditions.push(available(rollout));
    Ok(())
}

/// Applies a disruption budget, or deletes one that is no longer wanted.
pub async fn apply_budget(
    context: &ReconcileContext<'_>,
    component: Component,
    budget: Option<PodDisruptionBudget>,
) -> Result<(), Error> {
    let api = context.api::<PodDisruptionBudget>();
    match budget {
        Some(budget) => drop(
            context
                .applier
                .apply(&api, &context.ownership, budget)
                .await?,
        ),
        None => {
            let name = context.owner.workload(component);
            context
                .applier
                .delete(&api, &context.ownership, &name)
                .await?;
        }
    }
    Ok(())
}

/// Applies a NetworkPolicy, or deletes it if they are switched off.
pub async fn apply_network_policy(
    context: &ReconcileContext<'_>,
    policy: NetworkPolicy,
) -> Result<(), Error> {
    let (applier, api, ownership) = (&context.applier, context.api(), &context.ownership);
    if context.program.config.network_policies {
        applier.apply(&api, ownership, policy).await?;
    } else {
        applier.delete(&api, ownership, &policy.name_any()).await?;
    }
    Ok(())
}

/// Applies a ConfigMap that running pods reload, and annotates the pods so that they get the change at once: the kubelet
/// updates a pod's volume only about once a minute, or when the pod itself changes.
pub async fn apply_live_config(
    context: &ReconcileContext<'_>,
    component: Component,
    config: ConfigMap,
) -> Result<(), Error> {
    const PODS_BEHIND: &str = "pods-behind";
    let (api, owner) = (context.api(), &context.owner.reference.uid);
    let (config, changed) = context
        .applier
        .apply_telling(&api, &context.ownership, config)
        .await?;
    let written = &context.program.written;
    if changed {
        written.set(owner, PODS_BEHIND, Fingerprint::default());
    }
    if !written.knows(owner, PODS_BEHIND) {
        return Ok(());
    }
    let hash = config.annotations().get(HASH).cloned().unwrap_or_default();
    match touch_pods(context, component, &hash).await {
        Ok(()) => written.unset(owner, PODS_BEHIND),
        // They still get it, only later.
        Err(error) => {
            let (namespace, name) = (&context.owner.namespace, &context.owner.name);
            tracing::warn!(namespace, name, %error, "cannot annotate pods; the kubelet delivers their new configuration within about a minute");
        }
    }
    Ok(())
}

/// Annotates each pod with the hash of its configuration.
async fn touch_pods(
    context: &ReconcileContext<'_>,
    component: Component,
    hash: &str,
) -> Result<(), Error> {
    let api = context.api::<Pod>();
    let fields = json!({ "metadata": { "annotations": { CONFIG_HASH: hash } } });
    for pod in api.list_metadata(&pods_of(context, component)).await? {
        context.applier.inject(&api, &pod.metadata, &fields).await?;
    }
    Ok(())
}

/// The pods of a component, limited to the largest possible number in case other pods have the same labels.
pub fn pods_of(context: &ReconcileContext<'_>, component: Component) -> ListParams {
    let selector = selector(context, component);
    ListParams::default().labels(&selector).limit(50)
}

/// The pods of a component; none while its Deployment is only being created.
///
/// # Errors
/// The API server does not respond.
pub async fn list_pods(
    context: &ReconcileContext<'_>,
    component: Component,
) -> Result<Vec<Pod>, Error> {
    if context.applier.fresh {
        return Ok(Vec::new());
    }
    let params = pods_of(context, component);
    Ok(context.api::<Pod>().list(&params).await?.items)
}

/// Selects the pods of a component.
fn selector(context: &ReconcileContext<'_>, component: Component) -> String {
    let labels = context.owner.match_labels(component);
    let selector: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    selector.join(",")
}

/// What keeps the rollout of a Deployment from being complete.
pub async fn stuck(
    context: &ReconcileContext<'_>,
    component: Component,
    deployment: &Deployment,
    rollout: Rollout,
) -> Result<Option<Problem>, Error> {
    if let Some(problem) = not_created(deployment, rollout) {
        return Ok(Some(problem));
    }
    if rollout.is_complete() {
        return Ok(None);
    }
    let why = why_not_up(context, component, rollout).await?;
    Ok(Some(not_ready(deployment, why.text)))
}

/// That Kubernetes does not create the pods of a Deployment, if so.
pub fn not_created(deployment: &Deployment, rollout: Rollout) -> Option<Problem> {
    let why = pods::replica_failure(deployment)?;
    Some(cannot_create(rollout, &why))
}

fn cannot_create(rollout: Rollout, why: &str) -> Problem {
    let text = format!(
        "{}; Kubernetes cannot create pods: {why}. Change what refuses them (a quota, an admission policy), or the fields of \
         the spec that it names",
        rollout.describe()
    );
    Problem::person(reasons::PODS_NOT_CREATED, text)
}

/// As [`not_created`], of a StatefulSet. Its events are read only while it has too few pods.
///
/// # Errors
/// The API server does not respond.
pub async fn not_created_set(
    context: &ReconcileContext<'_>,
    set: &StatefulSet,
    rollout: Rollout,
) -> Result<Option<Problem>, Error> {
    let (Some(uid), true) = (set.uid(), rollout.is_short() && !context.applier.fresh) else {
        return Ok(None);
    };
    let why = pods::creation_failure(&events_about(context, &uid).await?);
    Ok(why.map(|why| cannot_create(rollout, &why)))
}

/// The events about the object with this UID.
async fn events_about(context: &ReconcileContext<'_>, uid: &str) -> Result<Vec<Event>, Error> {
    // Kubernetes' own recorders keep fewer about one object.
    let about = ListParams::default().fields(&format!("regarding.uid={uid}"));
    Ok(context.api::<Event>().list(&about.limit(100)).await?.items)
}

/// That the pods of a Deployment are not ready, for the reason in `text`.
pub fn not_ready(deployment: &Deployment, text: String) -> Problem {
    match pods::is_overdue(deployment) {
        true => Problem {
            degraded: true,
            ..Problem::stage(reasons::ROLLOUT_STUCK, text)
        },
        false => Problem::stage(reasons::PODS_NOT_READY, text),
    }
}

/// Why pods are not ready.
pub struct Why {
    /// As text.
    pub text: String,
    /// What a running pod reports about itself.
    said: Option<String>,
}

impl Why {
    /// Whether a running pod reports a problem other than starting or stopping.
    pub fn asks_for_help(&self) -> bool {
        let said = self.said.as_deref();
        said.is_some_and(|said| !["starting", "stopping"].contains(&said))
    }
}

/// Why one of these pods does not start. Events are read only for a pod that has waited for long.
async fn not_started(
    context: &ReconcileContext<'_>,
    pods: &[Pod],
) -> Result<Option<String>, Error> {
    let now = context.program.now();
    let waiting = pods.iter().find(|pod| pods::waits_to_start(pod, now));
    let Some((pod, uid)) = waiting.and_then(|pod| Some((pod, pod.uid()?))) else {
        return Ok(None);
    };
    let events = events_about(context, &uid).await?;
    Ok(pods::start_failure(pod, &events))
}

/// Why pods are not ready: what Kubernetes reports, or else what the program in a pod reports.
pub async fn why_not_up(
    context: &ReconcileContext<'_>,
    component: Component,
    rollout: Rollout,
) -> Result<Why, Error> {
    let pods = list_pods(context, component).await?;
    let mut text = rollout.describe();
    if let Some(trouble) = pods.iter().find_map(pods::trouble) {
        text = format!("{text}; {trouble}");
        return Ok(Why { text, said: None });
    }
    if let Some(failure) = not_started(context, &pods).await? {
        text = format!("{text}; {failure}");
        return Ok(Why { text, said: None });
    }
    let asked = pods.iter().find_map(pods::health_address);
    let said = match asked {
        Some(address) => context.program.health.ask(address).await,
        None => None,
    };
    if let Some(said) = &said {
        text = format!("{text}; a pod reports: {said}");
    }
    Ok(Why { text, said })
}
