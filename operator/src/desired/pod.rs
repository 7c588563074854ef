//! Shared by all pods that we build: they meet the restricted Pod Security Standard.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        core::v1::{
            Capabilities, ConfigMap, ConfigMapVolumeSource, Container, ContainerPort,
            EmptyDirVolumeSource, HTTPGetAction, KeyToPath, LocalObjectReference,
            PodSecurityContext, Probe, ResourceRequirements, SeccompProfile, SecretVolumeSource,
            SecurityContext, Service, ServicePort, ServiceSpec, TopologySpreadConstraint, Volume,
            VolumeMount,
        },
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    },
    apimachinery::pkg::{
        api::resource::Quantity, apis::meta::v1::LabelSelector, util::intstr::IntOrString,
    },
};
use mcpauth_api::pod as api;

use super::{
    Images,
    labels::{Component, Owner},
    names::{HEALTH_PORT, PUBLIC_PORT},
};

/// The user and group of our programs, and of the MCP servers.
pub const USER: i64 = 65532;

/// The security context of a pod whose containers run as `user`, unless the platform chooses who they run as.
pub fn pod_security(user: i64, images: &Images) -> PodSecurityContext {
    let user = images.fixed_user_ids.then_some(user);
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: user,
        run_as_group: user,
        fs_group: user,
        // Also where the platform sets the group: otherwise each start would open the database's files to it, and PostgreSQL
        // refuses such files.
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            localhost_profile: None,
        }),
        ..PodSecurityContext::default()
    }
}

/// The security context of every container.
pub fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities {
            add: None,
            drop: Some(vec!["ALL".to_owned()]),
        }),
        read_only_root_filesystem: Some(true),
        ..SecurityContext::default()
    }
}

/// The image pull Secrets of a pod.
pub fn pull_secrets(images: &Images) -> Option<Vec<LocalObjectReference>> {
    let secrets = images.pull_secrets.iter();
    let secrets: Vec<_> = secrets
        .map(|name| LocalObjectReference { name: name.clone() })
        .collect();
    (!secrets.is_empty()).then_some(secrets)
}

/// Default resources of a container.
pub struct DefaultResources {
    /// CPU request.
    pub cpu: &'static str,
    /// Memory request.
    pub memory: &'static str,
    /// Memory limit.
    pub memory_limit: &'static str,
}

/// The compute resources of a container: the spec's, completed with defaults.
pub fn resources(
    spec: Option<&api::Resources>,
    defaults: &DefaultResources,
) -> ResourceRequirements {
    let mut resources = spec.cloned().unwrap_or_default();
    let default = |text: &str| api::Quantity(text.to_owned());
    let (requests, limits) = (&mut resources.requests, &mut resources.limits);
    for (name, amount) in [("cpu", defaults.cpu), ("memory", defaults.memory)] {
        // A request above the limit is rejected; if only a limit is set, Kubernetes uses it as request.
        let limit = limits.get(name).and_then(api::Quantity::value);
        if limit.is_none_or(|limit| Some(limit) >= default(amount).value()) {
            requests
                .entry(name.to_owned())
                .or_insert_with(|| default(amount));
        }
    }
    // A container without a limit could use up the node's memory.
    let requested = requests.get("memory").cloned();
    limits.entry("memory".to_owned()).or_insert_with(|| {
        let limit = default(defaults.memory_limit);
        requested
            .filter(|requested| requested.value() > limit.value())
            .unwrap_or(limit)
    });
    let quantities = |map: BTreeMap<String, api::Quantity>| {
        let quantity = |(name, amount): (String, api::Quantity)| (name, Quantity(amount.0));
        (!map.is_empty()).then(|| map.into_iter().map(quantity).collect())
    };
    ResourceRequirements {
        claims: None,
        requests: quantities(resources.requests),
        limits: quantities(resources.limits),
    }
}

/// Take a program's termination message from its log, so that the condition can show it.
pub const TERMINATION_MESSAGE_POLICY: &str = "FallbackToLogsOnError";

/// A named container port.
pub fn port(name: &str, number: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: number.into(),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

/// Adds probes on the health port to one of our containers. It may take `startup_seconds` to start;
/// after that, a program that hangs is restarted within half a minute, and one that is not ready
/// stops receiving requests within seconds.
pub fn with_probes(mut container: Container, startup_seconds: i32) -> Container {
    let get = |path: &str, period, failures| Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(HEALTH_PORT.into()),
            scheme: Some("HTTP".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(3),
        failure_threshold: Some(failures),
        ..Probe::default()
    };
    container.startup_probe = Some(get("/livez", 1, startup_seconds));
    container.liveness_probe = Some(get("/livez", 10, 3));
    container.readiness_probe = Some(get("/readyz", 3, 2));
    container
}

/// A read-only mount.
pub fn mount(volume: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    }
}

/// A writable mount.
pub fn writable_mount(volume: &str, path: &str) -> VolumeMount {
    VolumeMount {
        read_only: None,
        ..mount(volume, path)
    }
}

/// A volume with a ConfigMap's files.
pub fn config_volume(volume: &str, config_map: String) -> Volume {
    Volume {
        name: volume.to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: config_map,
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// A volume with one key of a ConfigMap as the file `path`.
pub fn config_map_volume(volume: &str, config_map: &str, key: &str, path: &str) -> Volume {
    let mut volume = config_volume(volume, config_map.to_owned());
    let source = volume.config_map.get_or_insert_default();
    source.items = Some(item(key, path));
    volume
}

fn item(key: &str, path: &str) -> Vec<KeyToPath> {
    vec![KeyToPath {
        key: key.to_owned(),
        path: path.to_owned(),
        mode: None,
    }]
}

/// A volume with one key of a Secret as the file `path`.
pub fn secret_volume(volume: &str, secret: &str, key: &str, path: &str) -> Volume {
    Volume {
        name: volume.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret.to_owned()),
            items: Some(item(key, path)),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// A volume with some keys of a Secret as files of the same names.
pub fn secret_keys_volume(volume: &str, secret: &str, keys: &[&str]) -> Volume {
    Volume {
        name: volume.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret.to_owned()),
            items: Some(keys.iter().flat_map(|key| item(key, key)).collect()),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// An emptyDir volume.
pub fn scratch_volume(volume: &str) -> Volume {
    Volume {
        name: volume.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            size_limit: Some(Quantity("256Mi".to_owned())),
            medium: None,
        }),
        ..Volume::default()
    }
}

/// Spreads pods over nodes, if possible.
pub fn spread(selector: LabelSelector) -> Vec<TopologySpreadConstraint> {
    vec![TopologySpreadConstraint {
        max_skew: 1,
        topology_key: "kubernetes.io/hostname".to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(selector),
        ..TopologySpreadConstraint::default()
    }]
}

/// Allows the eviction of one pod at a time; none if there is only one.
pub fn disruption_budget(
    owner: &Owner,
    component: Component,
    replicas: i32,
) -> Option<PodDisruptionBudget> {
    (replicas > 1).then(|| PodDisruptionBudget {
        metadata: owner.child(owner.workload(component), component),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(owner.selector(component)),
            // An unhealthy pod must not block a node drain.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    })
}

/// A ClusterIP Service with one port, which has the same number on the pod.
pub fn internal_service(
    owner: &Owner,
    name: String,
    component: Component,
    port_name: &str,
    number: u16,
) -> Service {
    Service {
        metadata: owner.child(name, component),
        spec: Some(ServiceSpec {
            type_: Some(api::ServiceType::ClusterIP.as_str().to_owned()),
            selector: Some(owner.match_labels(component)),
            ports: Some(vec![ServicePort {
                name: Some(port_name.to_owned()),
                port: number.into(),
                target_port: Some(IntOrString::Int(number.into())),
                protocol: Some("TCP".to_owned()),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// The Service of the public port, as specified.
pub fn public_service(owner: &Owner, component: Component, published: &api::Service) -> Service {
    let name = owner.workload(component);
    let mut service = internal_service(owner, name, component, "http", PUBLIC_PORT);
    let mut labels = published.labels.clone();
    labels.extend(owner.labels(component));
    service.metadata.labels = Some(labels);
    let annotations = &published.annotations;
    service.metadata.annotations = (!annotations.is_empty()).then(|| annotations.clone());
    let spec = service.spec.get_or_insert_default();
    spec.type_ = Some(published.type_.as_str().to_owned());
    for port in spec.ports.iter_mut().flatten() {
        port.port = published.port.into();
        port.node_port = published.node_port.map(Into::into);
    }
    let ranges = &published.load_balancer_source_ranges;
    spec.load_balancer_source_ranges = (!ranges.is_empty()).then(|| ranges.clone());
    spec.load_balancer_class
        .clone_from(&published.load_balancer_class);
    spec.external_traffic_policy = published
        .external_traffic_policy
        .map(|policy| policy.as_str().to_owned());
    spec.ip_family_policy = published
        .ip_family_policy
        .map(|policy| policy.as_str().to_owned());
    spec.session_affinity = Some(published.session_affinity.as_str().to_owned());
    service
}

/// A ConfigMap with one file.
pub fn config_map(
    owner: &Owner,
    name: String,
    component: Component,
    file: &str,
    text: String,
) -> ConfigMap {
    ConfigMap {
        metadata: owner.child(name, component),
        data: Some(BTreeMap::from([(file.to_owned(), text)])),
        ..ConfigMap::default()
    }
}
