//! Whether pods are ready, and why not, as text for a condition. Pure, except for [`health`] and [`policy`].

pub mod health;
pub mod policy;

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, StatefulSet};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::text::shorten;

/// The rollout status of a Deployment or StatefulSet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rollout {
    wanted: i32,
    updated: i32,
    available: i32,
    /// Number of pods, of any revision.
    replicas: i32,
    /// Number of ready pods.
    ready: i32,
    /// Whether the numbers are for the current generation.
    current: bool,
}

impl Rollout {
    /// Of a Deployment.
    pub fn of_deployment(deployment: &Deployment) -> Self {
        let status = deployment.status.clone().unwrap_or_default();
        let old = status.replicas.unwrap_or(0) - status.updated_replicas.unwrap_or(0);
        Self {
            wanted: deployment
                .spec
                .as_ref()
                .and_then(|s| s.replicas)
                .unwrap_or(1),
            updated: status.updated_replicas.unwrap_or(0),
            // Available pods of the previous revision do not count.
            available: status.available_replicas.unwrap_or(0),
            replicas: status.replicas.unwrap_or(0),
            ready: status.ready_replicas.unwrap_or(0),
            current: status.observed_generation >= deployment.metadata.generation && old <= 0,
        }
    }

    /// Of a StatefulSet.
    pub fn of_stateful_set(set: &StatefulSet) -> Self {
        let status = set.status.clone().unwrap_or_default();
        Self {
            wanted: set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1),
            updated: status.updated_replicas.unwrap_or(0),
            available: status.ready_replicas.unwrap_or(0),
            replicas: status.replicas,
            ready: status.ready_replicas.unwrap_or(0),
            current: status.observed_generation >= set.metadata.generation,
        }
    }

    /// Whether pods are missing, ready or not.
    pub fn is_short(self) -> bool {
        self.replicas < self.wanted
    }

    /// Whether no pods are wanted.
    pub fn is_scaled_to_zero(self) -> bool {
        self.wanted == 0
    }

    /// Number of pods.
    pub fn replicas(self) -> i32 {
        self.replicas
    }

    /// Number of ready pods.
    pub fn ready_replicas(self) -> i32 {
        self.ready
    }

    /// Whether all wanted pods are available and of the current revision.
    pub fn is_complete(self) -> bool {
        self.current && self.updated >= self.wanted && self.available >= self.wanted
    }

    /// Whether at least one pod is available.
    pub fn is_available(self) -> bool {
        self.available > 0
    }

    /// The numbers as text.
    pub fn describe(self) -> String {
        if self.current && self.updated >= self.wanted {
            format!("{} of {} pods are ready", self.available, self.wanted)
        } else if self.available > 0 {
            format!(
                "rolling out a new version; {} pods are serving",
                self.available
            )
        } else {
            "pods are starting".to_owned()
        }
    }
}

/// Why Kubernetes does not create the pods of a Deployment, if so: a quota, Pod Security, a webhook.
pub fn replica_failure(deployment: &Deployment) -> Option<String> {
    let failure = condition(deployment, "ReplicaFailure").filter(|c| c.status == "True")?;
    let message = failure.message.as_deref().unwrap_or_default();
    Some(shorten(&without_pod_name(message), 600).to_owned())
}

/// As [`replica_failure`], of a StatefulSet, which has no such condition: from the events about it. The reason is that of the
/// newest one, unless a pod or volume claim was created since.
pub fn creation_failure(events: &[Event]) -> Option<String> {
    let outcomes = events.iter().filter_map(|event| {
        let failed = match event.reason.as_deref()? {
            "FailedCreate" => true,
            "SuccessfulCreate" => false,
            _ => return None,
        };
        // Of the same second, in which its claim was created, the failure counts.
        Some(((last_seen(event)?, failed), event))
    });
    let ((_, failed), event) = outcomes.max_by_key(|(order, _)| *order)?;
    let note = event.note.as_deref().filter(|_| failed)?;
    // "create Pod db-0 in StatefulSet db failed error: pods ..."
    let why = note
        .split_once("failed error: ")
        .map_or(note, |(_, why)| why);
    Some(shorten(&without_pod_name(why), 600).to_owned())
}

/// How long a pod's volumes take to be mounted at most, where nothing is wrong.
const MOUNTING: SignedDuration = SignedDuration::from_secs(5);

/// The event about a pod whose sandbox, and with it its network, cannot be set up.
const NO_SANDBOX: &str = "FailedCreatePodSandBox";

/// Whether a pod waits for its volumes, or for its network, for longer than usual. Its status does not say why; its events do.
pub fn waits_to_start(pod: &Pod, now: Timestamp) -> bool {
    let Some(status) = &pod.status else {
        return false;
    };
    // Conditions of a pod that has ended, or is about to, say nothing about its start.
    if status.phase.as_deref() != Some("Pending") || pod.metadata.deletion_timestamp.is_some() {
        return false;
    }
    let began = status.start_time.as_ref();
    let long = began.is_some_and(|began| now.duration_since(began.0) > MOUNTING);
    let mut conditions = status.conditions.iter().flatten();
    long && conditions.any(|c| c.type_ == "PodReadyToStartContainers" && c.status == "False")
}

/// Why a pod does not start: from the newest of the events about its volumes and its network.
pub fn start_failure(pod: &Pod, events: &[Event]) -> Option<String> {
    let reason = |event: &Event| event.reason.clone().unwrap_or_default();
    let failures = events.iter().filter(|event| {
        let failures = ["FailedMount", "FailedAttachVolume", NO_SANDBOX];
        failures.contains(&reason(event).as_str())
    });
    let last = failures.max_by_key(|event| last_seen(event))?;
    let advice = match reason(last) == NO_SANDBOX {
        true => {
            "This is a fault of the node or of its network plugin, which the administrator of the cluster can see in the \
                 node's logs; the pod is tried again without further action"
        }
        false => {
            "Create what is missing, or correct the volume; the pod starts without further action"
        }
    };
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let note = shorten(last.note.as_deref().unwrap_or_default(), 600);
    Some(format!("pod {name}: {note}. {advice}"))
}

/// When an event was last seen.
fn last_seen(event: &Event) -> Option<Timestamp> {
    let series = event
        .series
        .as_ref()
        .map(|series| series.last_observed_time.0);
    let times = [
        series,
        event.event_time.as_ref().map(|time| time.0),
        event.deprecated_last_timestamp.as_ref().map(|time| time.0),
        event
            .metadata
            .creation_timestamp
            .as_ref()
            .map(|time| time.0),
    ];
    times.into_iter().flatten().max()
}

/// Whether the rollout of a Deployment has made no progress for too long.
pub fn is_overdue(deployment: &Deployment) -> bool {
    let progress = condition(deployment, "Progressing");
    progress.is_some_and(|c| c.reason.as_deref() == Some("ProgressDeadlineExceeded"))
}

/// Whether no rollout of a Deployment is under way: the last one is complete, even if pods fail since, or is overdue.
pub fn is_settled(deployment: &Deployment) -> bool {
    let observed = deployment
        .status
        .as_ref()
        .and_then(|s| s.observed_generation);
    let reached = |c: &DeploymentCondition| c.reason.as_deref() == Some("NewReplicaSetAvailable");
    observed >= deployment.metadata.generation
        && (Rollout::of_deployment(deployment).is_complete()
            || is_overdue(deployment)
            || condition(deployment, "Progressing").is_some_and(reached))
}

fn condition<'a>(deployment: &'a Deployment, type_: &str) -> Option<&'a DeploymentCondition> {
    let mut conditions = deployment.status.as_ref()?.conditions.iter().flatten();
    conditions.find(|c| c.type_ == type_)
}

/// Each try names another pod, and a condition must not change each time.
fn without_pod_name(message: &str) -> String {
    let rest = message
        .strip_prefix("pods \"")
        .and_then(|rest| rest.split_once('"'));
    rest.map_or_else(|| message.to_owned(), |(_, rest)| format!("a pod{rest}"))
}

/// Why a pod does not become ready, if Kubernetes reports it.
pub fn trouble(pod: &Pod) -> Option<String> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    trouble_of(pod).map(|trouble| format!("pod {name}: {trouble}"))
}

/// The address of a running pod's port `health`, for asking it why it is not ready. None for pods on the host
/// network, where the port could belong to another program.
pub fn health_address(pod: &Pod) -> Option<SocketAddr> {
    let conditions = pod.status.as_ref()?.conditions.iter().flatten();
    let mut ready = conditions.filter(|c| c.type_ == "Ready" && c.status == "True");
    match ready.next() {
        Some(_) => None,
        None => health_socket(pod),
    }
}

/// The port `health` of a running pod.
fn health_socket(pod: &Pod) -> Option<SocketAddr> {
    let (spec, status) = (pod.spec.as_ref()?, pod.status.as_ref()?);
    if spec.host_network == Some(true) || status.phase.as_deref() != Some("Running") {
        return None;
    }
    let containers = spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers);
    let mut ports = containers.flat_map(|c| c.ports.iter().flatten());
    let port = ports
        .find(|p| p.name.as_deref() == Some("health"))?
        .container_port;
    let address: IpAddr = status.pod_ip.as_deref()?.parse().ok()?;
    Some(SocketAddr::new(address, u16::try_from(port).ok()?))
}

/// Waiting reasons of a pod that is starting normally.
const STARTING: [&str; 2] = ["ContainerCreating", "PodInitializing"];

/// Why a pod does not become ready, if its status says so.
fn trouble_of(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let init = status.init_container_statuses.iter().flatten();
    init.chain(status.container_statuses.iter().flatten())
        .find_map(trouble_of_container)
        .or_else(|| {
            let unscheduled = status.conditions.iter().flatten().find(|c| {
                c.type_ == "PodScheduled"
                    && c.status == "False"
                    && c.reason.as_deref() == Some("Unschedulable")
            })?;
            Some(format!(
                "cannot be scheduled: {}; add room or nodes, or change what the pods ask for (resources, \
                 spec.podTemplate)",
                unscheduled.message.as_deref().unwrap_or_default().trim_end_matches('.')
            ))
        })
}

fn trouble_of_container(container: &ContainerStatus) -> Option<String> {
    let state = container.state.as_ref()?;
    let said = container
        .last_state
        .as_ref()
        .and_then(|s| s.terminated.as_ref())
        .or(state.terminated.as_ref())
        .filter(|t| t.exit_code != 0);
    let (reason, message) = match (&state.waiting, &state.terminated) {
        (Some(waiting), _) => {
            let reason = waiting
                .reason
                .as_deref()
                .filter(|r| !STARTING.contains(r))?;
            // The kubelet's own message for a crash contains a countdown, which would change all the time.
            let message = if reason == "CrashLoopBackOff" {
                None
            } else {
                waiting.message.as_deref()
            };
            (reason, message)
        }
        (None, Some(ended)) if ended.exit_code != 0 => {
            (ended.reason.as_deref().unwrap_or("Error"), None)
        }
        _ => return None,
    };
    let message = message.map(str::to_owned).or_else(|| {
        let ended = said?;
        let last = ended
            .message
            .as_deref()
            .and_then(|m| m.trim().lines().last())
            .unwrap_or_default();
        Some(
            format!("exit status {} {}", ended.exit_code, shorten(last, 300))
                .trim_end()
                .to_owned(),
        )
    });
    let message = message.map(|m| format!(" ({m})")).unwrap_or_default();
    let killed = said.is_some_and(|ended| ended.reason.as_deref() == Some("OOMKilled"));
    let name = &container.name;
    let advice = advice(if killed { "OOMKilled" } else { reason }, name);
    let advice = advice
        .map(|advice| format!("; {advice}"))
        .unwrap_or_default();
    Some(format!("container {name}: {reason}{message}{advice}"))
}

/// What to do about a container that is waiting or has ended for this reason.
fn advice(reason: &str, container: &str) -> Option<String> {
    let advice = match reason {
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" => {
            "correct the image, or give the pods a pull secret for its registry (spec.podTemplate.spec.imagePullSecrets)"
        }
        "CrashLoopBackOff" | "Error" => {
            return Some(format!(
                "its log: kubectl logs POD -c {container} --previous"
            ));
        }
        "OOMKilled" => "it ran out of memory: raise the container's memory limit",
        "CreateContainerConfigError" | "CreateContainerError" => {
            "correct what it names; the pods are started without further action"
        }
        _ => return None,
    };
    Some(advice.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(generation: i64, status: &serde_json::Value) -> Deployment {
        serde_json::from_value(json!({
            "metadata": { "name": "d", "generation": generation },
            "spec": { "replicas": 2, "selector": {}, "template": {} },
            "status": status,
        }))
        .unwrap()
    }

    fn pod(status: &serde_json::Value) -> Pod {
        serde_json::from_value(json!({ "metadata": { "name": "p" }, "status": status })).unwrap()
    }

    #[test]
    fn complete_only_when_all_are_updated_and_available_for_this_generation() {
        let all = json!({ "observedGeneration": 3, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2 });
        assert!(Rollout::of_deployment(&deployment(3, &all)).is_complete());
        assert!(!Rollout::of_deployment(&deployment(4, &all)).is_complete());
        for status in [
            json!({}),
            json!({ "observedGeneration": 3, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 1 }),
            json!({ "observedGeneration": 3, "replicas": 3, "updatedReplicas": 2, "availableReplicas": 3 }),
            json!({ "observedGeneration": 3, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 2 }),
        ] {
            assert!(!Rollout::of_deployment(&deployment(3, &status)).is_complete());
        }
    }

    #[test]
    fn why_no_pod_is_created_and_that_none_became_ready_in_time() {
        let status = json!({ "conditions": [
            { "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
              "message": "pods \"notes-6d4f8-x7x2p\" is forbidden: exceeded quota: team" },
            { "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded" },
        ]});
        let found = deployment(1, &status);
        let expected = "a pod is forbidden: exceeded quota: team";
        assert_eq!(replica_failure(&found).as_deref(), Some(expected));
        assert!(is_overdue(&found));
        let fine = json!({ "conditions": [
            { "type": "ReplicaFailure", "status": "False", "message": "x" },
            { "type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable" },
        ]});
        let fine = deployment(1, &fine);
        assert_eq!((replica_failure(&fine), is_overdue(&fine)), (None, false));
    }

    fn event(reason: &str, second: u32, note: &str) -> Event {
        serde_json::from_value(json!({
            "metadata": { "name": "e" }, "reason": reason, "note": note,
            "deprecatedLastTimestamp": format!("2030-01-01T00:00:{second:02}Z"), "eventTime": null,
        }))
        .unwrap()
    }

    #[test]
    fn why_a_stateful_set_has_no_pod_is_in_its_newest_event() {
        let quota = "create Pod db-0 in StatefulSet db failed error: pods \"db-0\" is forbidden: exceeded quota: team";
        let claim = "create Claim data-db-0 Pod db-0 in StatefulSet db success";
        let older = event("FailedCreate", 1, "create Pod db-0 failed error: webhook");
        let failed = event("FailedCreate", 7, quota);
        let events = [
            failed.clone(),
            older.clone(),
            event("SuccessfulCreate", 7, claim),
        ];
        let expected = "a pod is forbidden: exceeded quota: team";
        assert_eq!(creation_failure(&events).as_deref(), Some(expected));
        let created = [older, event("SuccessfulCreate", 8, claim), failed];
        assert_eq!(creation_failure(&created), None);
        let others = [event("RecreatingFailedPod", 9, "x")];
        assert_eq!(creation_failure(&others), None);
        // A repeated one of the newer API.
        let mut again = event("FailedCreate", 1, "no");
        again.series = serde_json::from_value(json!({
            "count": 2, "lastObservedTime": "2030-01-01T00:01:00.000000Z"
        }))
        .unwrap();
        assert_eq!(
            creation_failure(&[again, created[1].clone()]).as_deref(),
            Some("no")
        );
    }

    #[test]
    fn a_volume_that_is_not_mounted_is_in_the_newest_event() {
        let waiting = json!({
            "phase": "Pending", "startTime": "2026-01-01T00:00:00Z",
            "conditions": [{ "type": "PodReadyToStartContainers", "status": "False" }],
        });
        let mut pod = pod(&waiting);
        let after = |seconds: u8| format!("2026-01-01T00:00:{seconds:02}Z").parse().unwrap();
        assert!(!waits_to_start(&pod, after(5)));
        assert!(waits_to_start(&pod, after(6)));
        let mut events = vec![
            event("Scheduled", 3, "assigned"),
            event("FailedMount", 2, "secret \"b\" not found"),
            event("FailedMount", 1, "secret \"a\" not found"),
        ];
        let why = start_failure(&pod, &events).unwrap();
        assert!(why.contains("secret \"b\" not found. Create"), "{why}");
        assert_eq!(start_failure(&pod, &events[..1]), None);
        events.push(event(NO_SANDBOX, 4, "no more addresses"));
        let why = start_failure(&pod, &events).unwrap();
        assert!(
            why.contains("no more addresses. This is a fault of the node"),
            "{why}"
        );
        // One that is deleted, or has ended, waits for nothing.
        pod.metadata.deletion_timestamp =
            serde_json::from_value(json!("2026-01-01T00:00:06Z")).ok();
        assert!(!waits_to_start(&pod, after(7)));
        pod.metadata.deletion_timestamp = None;
        pod.status.as_mut().unwrap().phase = Some("Failed".to_owned());
        assert!(!waits_to_start(&pod, after(7)));
    }

    #[test]
    fn a_pod_whose_sandbox_runs_does_not_wait_for_volumes() {
        let pod = pod(&json!({
            "phase": "Pending", "startTime": "2026-01-01T00:00:00Z",
            "conditions": [{ "type": "PodReadyToStartContainers", "status": "True" }],
        }));
        assert!(!waits_to_start(
            &pod,
            "2026-01-01T01:00:00Z".parse().unwrap()
        ));
    }

    #[test]
    fn a_rollout_is_settled_when_it_is_complete_or_overdue() {
        let progressing = |status: &str, reason: &str| {
            json!({ "observedGeneration": 3, "replicas": 2, "updatedReplicas": 1, "conditions": [
                { "type": "Progressing", "status": status, "reason": reason },
            ]})
        };
        let complete = json!({ "observedGeneration": 3, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2 });
        for (status, settled) in [
            (complete, true),
            (progressing("True", "NewReplicaSetAvailable"), true),
            (progressing("False", "ProgressDeadlineExceeded"), true),
            (progressing("True", "ReplicaSetUpdated"), false),
            (json!({}), false),
        ] {
            assert_eq!(is_settled(&deployment(3, &status)), settled, "{status}");
            assert!(!is_settled(&deployment(4, &status)), "{status}");
        }
    }

    #[test]
    fn the_image_that_cannot_be_pulled_is_named() {
        let pod = pod(&json!({ "containerStatuses": [{
            "name": "authserver", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "waiting": { "reason": "ImagePullBackOff", "message": "Back-off pulling image \"x:1\"" } }
        }]}));
        assert_eq!(
            trouble(&pod).unwrap(),
            "pod p: container authserver: ImagePullBackOff (Back-off pulling image \"x:1\"); correct the image, or give the \
             pods a pull secret for its registry (spec.podTemplate.spec.imagePullSecrets)"
        );
    }

    #[test]
    fn only_a_running_pod_of_its_own_network_that_is_not_ready_is_asked() {
        let mut pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "p" },
            "spec": { "containers": [{ "name": "a", "ports": [
                { "name": "public", "containerPort": 8080 }, { "name": "health", "containerPort": 9090 },
            ]}]},
            "status": { "phase": "Running", "podIP": "10.0.0.7" },
        }))
        .unwrap();
        assert_eq!(health_address(&pod).unwrap().to_string(), "10.0.0.7:9090");
        pod.spec.as_mut().unwrap().host_network = Some(true);
        assert_eq!(health_address(&pod), None);
        pod.spec.as_mut().unwrap().host_network = None;
        pod.status.as_mut().unwrap().phase = Some("Pending".into());
        assert_eq!(health_address(&pod), None);
    }

    #[test]
    fn a_crash_tells_the_programs_last_words_and_not_the_kubelets_countdown() {
        let pod = pod(&json!({ "initContainerStatuses": [{
            "name": "proxy", "image": "", "imageID": "", "ready": false, "restartCount": 4,
            "state": { "waiting": { "reason": "CrashLoopBackOff", "message": "back-off 40s restarting" } },
            "lastState": { "terminated": { "exitCode": 2, "message": "starting\nmcp-authserver: FILE: issuer: bad\n" } }
        }]}));
        assert_eq!(
            trouble_of(&pod).unwrap(),
            "container proxy: CrashLoopBackOff (exit status 2 mcp-authserver: FILE: issuer: bad); its log: kubectl logs \
             POD -c proxy --previous"
        );
    }

    #[test]
    fn a_container_that_ran_out_of_memory_needs_more() {
        let pod = pod(&json!({ "containerStatuses": [{
            "name": "server", "image": "", "imageID": "", "ready": false, "restartCount": 4,
            "state": { "waiting": { "reason": "CrashLoopBackOff" } },
            "lastState": { "terminated": { "exitCode": 137, "reason": "OOMKilled" } }
        }]}));
        assert_eq!(
            trouble_of(&pod).unwrap(),
            "container server: CrashLoopBackOff (exit status 137); it ran out of memory: raise the container's memory limit"
        );
    }

    #[test]
    fn a_pod_that_finds_no_node_says_so_and_one_that_starts_says_nothing() {
        let stuck = pod(&json!({ "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"
        }]}));
        assert_eq!(
            trouble_of(&stuck).unwrap(),
            "cannot be scheduled: 0/1 nodes; add room or nodes, or change what the pods ask for (resources, spec.podTemplate)"
        );
        let starting = pod(&json!({ "containerStatuses": [{
            "name": "a", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "waiting": { "reason": "ContainerCreating" } }
        }]}));
        assert_eq!(trouble_of(&starting), None);
    }
}
