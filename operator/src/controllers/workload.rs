//! Pods: what both kinds that have some share.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt as _;
use kube::api::{ListParams, Patch, PatchParams};
use mcpauth_api::conditions::{reasons, types};
use serde_json::json;

use crate::desired::auth_server::CONFIG_HASH;
use crate::desired::labels::Component;
use crate::framework::apply::{ApplyError, HASH, is_code};
use crate::framework::error::Error;
use crate::framework::reconciler::Work;
use crate::framework::status::{Found, State};
use crate::pods::{self, Rollout};
use crate::problem::Problem;

/// The Available condition: whether some pod serves.
pub fn available(rollout: Rollout) -> State {
    if rollout.is_available() {
        State::yes(types::AVAILABLE, reasons::READY, "pods serve")
    } else {
        let problem = Problem::stage(reasons::PODS_NOT_READY, "no pod serves");
        State::no(types::AVAILABLE, &problem)
    }
}

/// Adds the Available condition where a problem elsewhere kept the Deployment from being applied.
pub async fn complete(work: &Work<'_>, found: &mut Found) -> Result<(), Error> {
    if found.states.iter().any(|s| s.type_ == types::AVAILABLE) {
        return Ok(());
    }
    let (api, name) = (work.api::<Deployment>(), &work.owner.name);
    let live = match work.applier.find(&api, &work.tie, name).await {
        Err(ApplyError::NameConflict { .. } | ApplyError::Remnant { .. }) => None,
        live => live?,
    };
    let rollout = Rollout::of_deployment(&live.unwrap_or_default());
    found.states.push(available(rollout));
    Ok(())
}

/// Applies a budget, or takes away the one that is no longer wanted.
pub async fn apply_budget(
    work: &Work<'_>,
    budget: Option<PodDisruptionBudget>,
) -> Result<(), Error> {
    let api = work.api::<PodDisruptionBudget>();
    match budget {
        Some(budget) => drop(work.applier.apply(&api, &work.tie, budget).await?),
        None => {
            let name = &work.owner.name;
            work.applier.delete(&api, &work.tie, name).await?;
        }
    }
    Ok(())
}

/// Applies a ConfigMap that running pods read again when it changes, and sees to it that they get it at once:
/// kubelet writes it into a pod's volume about once a minute, or when the pod itself changes.
pub async fn apply_live_config(
    work: &Work<'_>,
    component: Component,
    config: ConfigMap,
) -> Result<(), Error> {
    const PODS: &str = "pods";
    const BEHIND: &str = "behind";
    let (api, owner) = (work.api(), &work.owner.reference.uid);
    let (config, changed) = work.applier.apply_telling(&api, &work.tie, config).await?;
    let written = &work.ctx.written;
    if changed {
        written.set(owner, PODS.to_owned(), BEHIND.to_owned());
    }
    if !written.is(owner, PODS, BEHIND) {
        return Ok(());
    }
    let hash = config.annotations().get(HASH).cloned().unwrap_or_default();
    match touch_pods(work, component, &hash).await {
        Ok(()) => written.set(owner, PODS.to_owned(), String::new()),
        // They get it all the same, only later.
        Err(error) => {
            let (namespace, name) = (&work.owner.namespace, &work.owner.name);
            tracing::warn!(namespace, name, %error, "cannot touch pods to hurry their configuration");
        }
    }
    Ok(())
}

/// Notes on each pod what it is to read.
async fn touch_pods(work: &Work<'_>, component: Component, hash: &str) -> Result<(), kube::Error> {
    let api = work.api::<Pod>();
    let patch = json!({ "metadata": { "annotations": { CONFIG_HASH: hash } } });
    for pod in api.list_metadata(&pods_of(work, component)).await? {
        work.ctx.metrics.write(work.applier.manager, "patch");
        let touched = api
            .patch_metadata(
                &pod.name_any(),
                &PatchParams::default(),
                &Patch::Merge(&patch),
            )
            .await;
        match touched {
            Err(error) if !is_code(&error, 404) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The pods of a component: as many as it can have, whoever else uses its labels.
fn pods_of(work: &Work<'_>, component: Component) -> ListParams {
    let labels = work.owner.match_labels(component);
    let selector: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    ListParams::default().labels(&selector.join(",")).limit(50)
}

/// Why pods are not up.
pub struct Why {
    /// In words.
    pub text: String,
    /// What a running pod answers when it is asked.
    said: Option<String>,
}

impl Why {
    /// Whether a pod runs and says that it lacks something, beyond its own start and stop.
    pub fn asks_for_help(&self) -> bool {
        let said = self.said.as_deref();
        said.is_some_and(|said| !["starting", "stopping"].contains(&said))
    }
}

/// Why pods are not all up: what Kubernetes says, or else what the program in a pod says.
pub async fn why_not_up(
    work: &Work<'_>,
    component: Component,
    rollout: Rollout,
) -> Result<Why, Error> {
    let params = pods_of(work, component);
    let pods = work.api::<Pod>().list(&params).await?.items;

    let mut text = rollout.describe();
    if let Some(trouble) = pods.iter().find_map(pods::trouble) {
        text = format!("{text}; {trouble}");
        return Ok(Why { text, said: None });
    }
    let asked = pods.iter().find_map(pods::health_address);
    let said = match asked {
        Some(address) => work.ctx.health.ask(address).await,
        None => None,
    };
    if let Some(said) = &said {
        text = format!("{text}; a pod says: {said}");
    }
    Ok(Why { text, said })
}
