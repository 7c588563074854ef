//! A spec's `podTemplate`: validates it, and merges it into the pods that the operator renders.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use k8s_openapi::DeepMerge as _;
use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplateSpec, VolumeMount};
use mcpauth_api::pod::{PodMetadata, PodTemplate};
use serde_json::{Map, Value};

use super::{pod, pod_security};

/// Prefix of the names of the operator's volumes, including those of later versions.
const RESERVED: &str = "mcpauth-";
/// The domain of the operator's labels and annotations.
const GROUP: &str = mcpauth_api::GROUP;
/// The only one of the operator's volumes that every container may mount.
const SCRATCH: &str = "tmp";

/// The operator-managed parts of a pod, which a `podTemplate` must not change.
#[derive(Clone, Debug)]
pub struct Own {
    /// The container with our program. Its resources can be changed.
    container: &'static str,
    /// Names of volumes.
    volumes: BTreeSet<String>,
    /// Whether the container needs the token of the ServiceAccount.
    needs_token: bool,
}

impl Own {
    /// Those of a rendered pod before the user's additions; the operator-managed program runs in `container`.
    pub fn of(pod: &PodSpec, container: &'static str) -> Self {
        let volumes = pod.volumes.iter().flatten();
        Self {
            container,
            volumes: volumes.map(|volume| volume.name.clone()).collect(),
            needs_token: pod.automount_service_account_token == Some(true),
        }
    }

    fn has_volume(&self, name: &str) -> bool {
        name.starts_with(RESERVED) || self.volumes.contains(name)
    }

    /// Rejects volumes with reserved names; `field` contains `names`.
    pub fn refuse_volumes<'a>(
        &self,
        field: &str,
        names: impl IntoIterator<Item = &'a String>,
        refused: &mut Refused,
    ) {
        for name in names.into_iter().filter(|name| self.has_volume(name)) {
            refused.add(
                format!("{field}[{name}]"),
                "this name is reserved for a volume of the operator; choose another name",
            );
        }
    }

    /// Rejects mounts of the operator's volumes, some of which hold credentials, in the user's containers.
    pub fn refuse_mounts<'a>(
        &self,
        field: &str,
        mounts: impl IntoIterator<Item = &'a VolumeMount>,
        refused: &mut Refused,
    ) {
        let ours = |mount: &&VolumeMount| mount.name != SCRATCH && self.has_volume(&mount.name);
        for mount in mounts.into_iter().filter(ours) {
            refused.add(
                format!("{field}[{}]", mount.name),
                "only the operator-managed container can mount this volume",
            );
        }
    }
}

/// Why a spec's pods are not rendered: each field with what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct Refused(Vec<String>);

impl Refused {
    fn add(&mut self, field: impl AsRef<str>, why: &str) {
        self.0.push(format!("{}: {why}", field.as_ref()));
    }

    /// An error, if anything was rejected.
    ///
    /// # Errors
    /// A field was rejected.
    pub fn or_ok(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }
}

/// Merges `over` into a pod that we rendered.
///
/// # Errors
/// It has unknown fields, or would change operator-managed parts.
pub fn merge(
    rendered: &mut PodTemplateSpec,
    over: Option<&PodTemplate>,
    own: &Own,
) -> Result<(), Refused> {
    let Some(over) = over else { return Ok(()) };
    let mut refused = Refused::default();
    refuse_metadata(rendered, &over.metadata, &mut refused);
    let mut spec = decode(&over.spec, &mut refused);
    refuse_spec(&spec, own, &mut refused);
    refused.or_ok()?;

    let pod = rendered.spec.get_or_insert_default();
    restrict_by_default(&mut spec, pod);
    pod.merge_from(spec);
    let meta = rendered.metadata.get_or_insert_default();
    let more = over.metadata.clone();
    meta.labels.get_or_insert_default().extend(more.labels);
    if !more.annotations.is_empty() {
        let annotations = meta.annotations.get_or_insert_default();
        annotations.extend(more.annotations);
    }
    Ok(())
}

fn refuse_metadata(rendered: &PodTemplateSpec, over: &PodMetadata, refused: &mut Refused) {
    let is_ours = |key: &String| {
        let prefix = key.split_once('/').map_or("", |(prefix, _)| prefix);
        prefix == GROUP || prefix.ends_with(&format!(".{GROUP}"))
    };
    let labels = rendered.metadata.as_ref().and_then(|m| m.labels.as_ref());
    let is_set = |key: &String| labels.is_some_and(|labels| labels.contains_key(key));
    for key in over.labels.keys().filter(|k| is_ours(k) || is_set(k)) {
        refused.add(
            format!("spec.podTemplate.metadata.labels[{key}]"),
            "reserved for the operator, which selects pods by it; choose another label",
        );
    }
    for key in over.annotations.keys().filter(|k| is_ours(k)) {
        refused.add(
            format!("spec.podTemplate.metadata.annotations[{key}]"),
            "annotations with the prefix mcpauth.io/ are reserved for the operator; choose another prefix",
        );
    }
}

const SPEC: &str = "spec.podTemplate.spec";

/// The PodSpec. Unknown fields and fields of another type are rejected.
fn decode(spec: &Map<String, Value>, refused: &mut Refused) -> PodSpec {
    let mut unknown = Vec::new();
    let mut track = serde_path_to_error::Track::new();
    let value = Value::Object(spec.clone());
    let tracked = serde_path_to_error::Deserializer::new(value, &mut track);
    let decoded = serde_ignored::deserialize(tracked, |path| unknown.push(in_words(&path)));
    for path in unknown {
        refused.add(
            format!("{SPEC}{path}"),
            "unknown field; see `kubectl explain pod.spec`",
        );
    }
    decoded.unwrap_or_else(|error: serde_json::Error| {
        refused.add(format!("{SPEC}.{}", track.path()), &error.to_string());
        PodSpec::default()
    })
}

/// A path as `.containers[0].image`.
fn in_words(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => {
            let mut path = in_words(parent);
            let _ = write!(path, "[{index}]");
            path
        }
        Path::Map { parent, key } => format!("{}.{key}", in_words(parent)),
        Path::Some { parent }
        | Path::NewtypeStruct { parent }
        | Path::NewtypeVariant { parent } => in_words(parent),
    }
}

fn refuse_spec(spec: &PodSpec, own: &Own, refused: &mut Refused) {
    refuse_shared_namespaces(spec, refused);
    let volumes = spec.volumes.iter().flatten().map(|volume| &volume.name);
    own.refuse_volumes(&format!("{SPEC}.volumes"), volumes, refused);
    let containers = [
        ("containers", spec.containers.as_slice()),
        (
            "initContainers",
            spec.init_containers.as_deref().unwrap_or_default(),
        ),
    ];
    for (list, containers) in containers {
        refuse_order(list, containers, own, refused);
        for (index, container) in containers.iter().enumerate() {
            refuse_container(&format!("{SPEC}.{list}"), index, container, own, refused);
        }
    }
    if let Some(context) = &spec.security_context {
        let context = serde_json::to_value(context).unwrap_or_default();
        for field in pod_security::below_restricted(&context) {
            refused.add(
                format!("{SPEC}.securityContext.{field}"),
                "this would also weaken the operator-managed container; set it in the securityContext of your \
                 container",
            );
        }
    }
    if own.needs_token && spec.automount_service_account_token == Some(false) {
        refused.add(
            format!("{SPEC}.automountServiceAccountToken"),
            "the authorization server needs this token to read the cluster's public keys; remove the field",
        );
    }
}

fn refuse_shared_namespaces(spec: &PodSpec, refused: &mut Refused) {
    let flags = [
        (
            "hostNetwork",
            spec.host_network,
            "every process on the node could then reach the ports that this pod opens on 127.0.0.1",
        ),
        (
            "hostPID",
            spec.host_pid,
            "other processes could then read tokens from the memory of the operator-managed container",
        ),
        (
            "hostIPC",
            spec.host_ipc,
            "the operator-managed container would then share memory with processes of the node",
        ),
        (
            "shareProcessNamespace",
            spec.share_process_namespace,
            "other processes could then read tokens from the memory of the operator-managed container",
        ),
    ];
    for (field, _, why) in flags.iter().filter(|(_, value, _)| *value == Some(true)) {
        refused.add(format!("{SPEC}.{field}"), &format!("not allowed: {why}"));
    }
    if spec.ephemeral_containers.is_some() {
        refused.add(
            format!("{SPEC}.ephemeralContainers"),
            "not allowed in a template; use `kubectl debug`",
        );
    }
    if spec.service_account.is_some() {
        refused.add(
            format!("{SPEC}.serviceAccount"),
            "deprecated; use serviceAccountName",
        );
    }
}

/// Rejects init containers that are listed before the sidecar: they would have to run before it.
fn refuse_order(list: &str, containers: &[Container], own: &Own, refused: &mut Refused) {
    if list != "initContainers" {
        return;
    }
    let sidecar = containers.iter().position(|c| c.name == own.container);
    for container in &containers[..sidecar.unwrap_or_default()] {
        refused.add(
            format!("{SPEC}.{list}[{}]", container.name),
            &format!(
                "{} must start before all other containers; list it first",
                own.container
            ),
        );
    }
}

fn refuse_container(
    list: &str,
    index: usize,
    container: &Container,
    own: &Own,
    refused: &mut Refused,
) {
    let Container { name, .. } = container;
    if name.is_empty() {
        refused.add(
            format!("{list}[{index}].name"),
            "required: containers are merged by name",
        );
    } else if name == own.container {
        let fields = serde_json::to_value(container).unwrap_or_default();
        let fields = fields.as_object().into_iter().flat_map(Map::keys);
        for field in fields.filter(|f| !["name", "resources"].contains(&f.as_str())) {
            refused.add(
                format!("{list}[{name}].{field}"),
                "only `resources` can be changed in the operator-managed container",
            );
        }
    } else {
        let mounts = container.volume_mounts.iter().flatten();
        own.refuse_mounts(&format!("{list}[{name}].volumeMounts"), mounts, refused);
    }
}

/// A user's container without these fields gets the values that the restricted Pod Security Standard
/// requires, so that a namespace that enforces the standard admits the pod.
fn restrict_by_default(over: &mut PodSpec, rendered: &PodSpec) {
    let init = rendered.init_containers.iter().flatten();
    let known: Vec<&String> = init.chain(&rendered.containers).map(|c| &c.name).collect();
    let init = over.init_containers.iter_mut().flatten();
    for container in init.chain(&mut over.containers) {
        let context = &mut container.security_context;
        let privileged = context.as_ref().and_then(|c| c.privileged) == Some(true);
        if known.contains(&&container.name) || privileged {
            continue;
        }
        let defaults = pod::container_security();
        let context = context.get_or_insert_default();
        let escalation = &mut context.allow_privilege_escalation;
        *escalation = escalation.or(defaults.allow_privilege_escalation);
        if context.capabilities.is_none() {
            context.capabilities = defaults.capabilities;
        }
    }
}
