//! Pods: what both kinds that have some share.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::ListParams;
use mcpauth_api::conditions::{reasons, types};

use super::Work;
use crate::build::labels::Component;
use crate::error::{Error, Problem};
use crate::pods::{self, Rollout};
use crate::status::State;

/// The Available condition: whether some pod serves.
pub fn available(rollout: Rollout) -> State {
    if rollout.is_available() {
        State::yes(types::AVAILABLE, reasons::READY, "pods serve")
    } else {
        let problem = Problem::stage(reasons::PODS_NOT_READY, "no pod serves");
        State::no(types::AVAILABLE, &problem)
    }
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
    let labels = work.owner.match_labels(component);
    let selector: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let params = ListParams::default().labels(&selector.join(","));
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
