//! The restricted Pod Security Standard: finds the fields of a pod that violate it.
//! <https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted>

use k8s_openapi::api::core::v1::{Container, PodSpec, Volume};
use serde_json::Value;

/// The types of volumes that the standard allows.
const VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];
/// The SELinux types that the standard allows.
const SELINUX_TYPES: [&str; 5] = [
    "",
    "container_t",
    "container_init_t",
    "container_kvm_t",
    "container_engine_t",
];

/// The fields of a pod that are below the standard, as `containers[NAME].securityContext.privileged`. Containers
/// inherit omitted fields from the pod, which the operator renders.
pub fn of_pod(pod: &PodSpec) -> Vec<String> {
    let lists = [
        ("containers", pod.containers.as_slice()),
        (
            "initContainers",
            pod.init_containers.as_deref().unwrap_or_default(),
        ),
    ];
    let containers = lists.into_iter().flat_map(|(list, containers)| {
        containers.iter().flat_map(move |container| {
            let path = format!("{list}[{}]", container.name);
            of_container(container).map(move |field| format!("{path}.{field}"))
        })
    });
    let volumes = pod.volumes.iter().flatten().flat_map(of_volume);
    containers.chain(volumes).collect()
}

fn of_container(container: &Container) -> impl Iterator<Item = String> + use<> {
    let context = serde_json::to_value(&container.security_context).unwrap_or_default();
    let mut fields = below_restricted(&context);
    if context["allowPrivilegeEscalation"] != false {
        fields.push("allowPrivilegeEscalation");
    }
    let dropped = context["capabilities"]["drop"].as_array();
    if !dropped.is_some_and(|names| names.iter().any(|name| name == "ALL")) {
        fields.push("capabilities.drop");
    }
    let ports = container.ports.iter().flatten();
    let published = ports.filter(|port| port.host_port.is_some_and(|port| port > 0));
    let published = published.map(|port| format!("ports[{}].hostPort", port.container_port));
    let published: Vec<String> = published.collect();
    let fields = fields.into_iter();
    let fields = fields.map(|field| format!("securityContext.{field}"));
    fields.chain(published)
}

fn of_volume(volume: &Volume) -> Vec<String> {
    let value = serde_json::to_value(volume).unwrap_or_default();
    let kinds = value.as_object().into_iter().flat_map(|map| map.keys());
    let below = kinds.filter(|kind| *kind != "name" && !VOLUMES.contains(&kind.as_str()));
    below
        .map(|kind| format!("volumes[{}].{kind}", volume.name))
        .collect()
}

/// The fields of a `securityContext`, of a pod or a container, whose values are below the standard.
pub fn below_restricted(context: &Value) -> Vec<&'static str> {
    let profile = |name: &str| context[name]["type"] == "Unconfined";
    let selinux = &context["seLinuxOptions"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let added = context["capabilities"]["add"].as_array();
    let proc_mount = text(&context["procMount"]);
    let checks = [
        ("privileged", context["privileged"] == true),
        ("runAsNonRoot", context["runAsNonRoot"] == false),
        ("runAsUser", context["runAsUser"] == 0),
        ("seccompProfile", profile("seccompProfile")),
        ("appArmorProfile", profile("appArmorProfile")),
        (
            "seLinuxOptions",
            !SELINUX_TYPES.contains(&text(&selinux["type"]).as_str())
                || !text(&selinux["user"]).is_empty()
                || !text(&selinux["role"]).is_empty(),
        ),
        (
            "windowsOptions.hostProcess",
            context["windowsOptions"]["hostProcess"] == true,
        ),
        (
            "capabilities.add",
            added.is_some_and(|names| names.iter().any(|name| name != "NET_BIND_SERVICE")),
        ),
        ("procMount", !["", "Default"].contains(&proc_mount.as_str())),
    ];
    let below = checks.into_iter().filter(|(_, below)| *below);
    below.map(|(field, _)| field).collect()
}
