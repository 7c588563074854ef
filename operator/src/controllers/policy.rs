//! Whether the proxies of a ProtectedMcpServer run its policy.

use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt as _;
use mcpauth_api::ProtectedMcpServer;
use mcpauth_api::conditions::{reasons, types};
use serde_json::json;

use super::workload::list_pods;
use crate::desired::injection;
use crate::desired::labels::Component;
use crate::framework::error::Error;
use crate::framework::reconciler::ReconcileContext;
use crate::framework::status::{Condition, Observed};
use crate::pods::policy::{InForceSummary, ProxyPod, State};
use crate::problem::Problem;

/// Adds the PolicyApplied condition, and the numbers of proxies. `hash` is that of the policy as it was applied.
///
/// # Errors
/// The API server does not answer.
pub async fn observe(
    object: &ProtectedMcpServer,
    context: &ReconcileContext<'_>,
    hash: &str,
    deployment: &Deployment,
    observed: &mut Observed,
) -> Result<(), Error> {
    let key = (context.owner.namespace.clone(), context.owner.name.clone());
    let policies = &context.program.policies;
    let version = deployment.resource_version().unwrap_or_default();
    observed.fields.insert("policyHash".to_owned(), hash.into());
    policies.want(&key, hash);
    if policies.is_settled(&key, hash, &version) {
        observed.conditions.push(applied());
        return Ok(());
    }
    let pods = list_pods(context, Component::McpServer).await?;
    let proxies = pods.iter();
    let proxies: Vec<_> = proxies
        .filter_map(|pod| ProxyPod::of(pod, injection::CONTAINER))
        .collect();
    let summary = policies.look(&key, hash, &version, &proxies);
    if summary.state == State::Asking && was_applied(object, hash) {
        // After a restart of this operator: nothing speaks against what was seen before.
        observed.conditions.push(applied());
        observed.recheck = true;
        return Ok(());
    }
    observed.recheck = summary.state == State::Asking;
    let numbers = json!({ "total": summary.total, "inForce": summary.in_force });
    observed.fields.insert("proxies".to_owned(), numbers);
    match problem(&summary, is_scaled_to_zero(deployment)) {
        None => observed.conditions.push(applied()),
        Some(problem) => {
            let condition = Condition::no(types::POLICY_APPLIED, &problem);
            observed.conditions.push(condition);
            match problem.degraded {
                true => observed.problems.insert(0, problem),
                false => observed.problems.push(problem),
            }
        }
    }
    Ok(())
}

fn applied() -> Condition {
    let message = "every proxy runs the policy of this generation";
    Condition::yes(types::POLICY_APPLIED, reasons::READY, message)
}

/// Whether the status says that this policy is in force.
fn was_applied(object: &ProtectedMcpServer, hash: &str) -> bool {
    let Some(status) = &object.status else {
        return false;
    };
    let mut conditions = status.conditions.iter();
    status.policy_hash.as_deref() == Some(hash)
        && conditions.any(|c| c.type_ == types::POLICY_APPLIED && c.status == "True")
}

fn is_scaled_to_zero(deployment: &Deployment) -> bool {
    deployment.spec.as_ref().and_then(|s| s.replicas) == Some(0)
}

fn problem(summary: &InForceSummary, scaled_to_zero: bool) -> Option<Problem> {
    let InForceSummary {
        total,
        in_force,
        state,
    } = summary;
    match state {
        State::Applied => None,
        State::Pending | State::Asking if *total == 0 && scaled_to_zero => Some(Problem::wanted(
            reasons::SCALED_TO_ZERO,
            "there are no proxies",
        )),
        State::Pending | State::Asking => Some(Problem::stage(
            reasons::POLICY_PENDING,
            format!("{in_force} of {total} proxies run the policy of this generation"),
        )),
        State::Unreachable { pod } => Some(Problem {
            unknown: true,
            ..Problem::stage(
                reasons::UNREACHABLE,
                format!(
                    "pod {pod} does not say on its health port (9090) which policy its proxy runs: check that the pod \
                     is healthy, that NetworkPolicies let the operator reach it, and that spec.proxy.image is not \
                     older than the operator"
                ),
            )
        }),
        State::Rejected { pod, reason } => Some(Problem::person(
            reasons::POLICY_REJECTED,
            format!(
                "the proxy of pod {pod} rejects the policy and keeps the previous one: {reason}. Its image may be older \
                 than the operator: update spec.proxy.image, or remove it"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(state: State) -> Problem {
        let summary = InForceSummary {
            total: 3,
            in_force: 1,
            state,
        };
        problem(&summary, false).unwrap()
    }

    #[test]
    fn each_state_has_a_reason_and_a_remedy() {
        let pod = || "notes-1".to_owned();
        let pending = found(State::Pending);
        assert_eq!(pending.reason, reasons::POLICY_PENDING);
        assert!(pending.message.starts_with("1 of 3 proxies"));
        let unreachable = found(State::Unreachable { pod: pod() });
        assert!(unreachable.unknown && !unreachable.degraded);
        let rejected = found(State::Rejected {
            pod: pod(),
            reason: "scopes: bad".into(),
        });
        assert!(rejected.degraded && rejected.message.contains("notes-1 rejects"));
    }

    #[test]
    fn without_pods_nothing_is_in_force() {
        let summary = InForceSummary {
            total: 0,
            in_force: 0,
            state: State::Pending,
        };
        let reason = |zero| problem(&summary, zero).unwrap().reason;
        assert_eq!(reason(true), reasons::SCALED_TO_ZERO);
        assert_eq!(reason(false), reasons::POLICY_PENDING);
    }
}
