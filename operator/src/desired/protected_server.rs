//! The children of a ProtectedMcpServer.

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec},
        core::v1::{
            ConfigMap, Container, PodSpec, PodTemplateSpec, Secret, Service, ServiceAccount,
            VolumeMount,
        },
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use mcpauth_api::{ProtectedMcpServerSpec, protected_server::ServerTemplate};
use mcpauth_wire::{proxy_health, proxy_keys::ProxyKeys};

use super::{
    AuthServerFacts, BuildError, Images, injection,
    labels::{Component, Owner},
    names::{self, HEALTH_PORT, PUBLIC_PORT},
    network_policy, pod,
    pod_template::{self, Own, Refused},
    secret,
};

const COMPONENT: Component = Component::McpServer;
const DEFAULTS: pod::DefaultResources = pod::DefaultResources {
    cpu: "50m",
    memory: "64Mi",
    memory_limit: "512Mi",
};

/// The children of a ProtectedMcpServer.
#[derive(Clone, Debug, PartialEq)]
pub struct ProtectedServerObjects {
    /// The identity of the pods: the proxy authenticates to the authserver with its tokens.
    pub service_account: ServiceAccount,
    /// `proxy.yaml`. The proxy reloads it, so policy changes need no restart.
    pub config_map: ConfigMap,
    /// The hash of `proxy.yaml`, as proxies report it.
    pub policy_hash: String,
    /// The pods: proxy and server.
    pub deployment: Deployment,
    /// The proxy's port.
    pub service: Service,
    /// Blocks the server's own port, in case it listens on more than 127.0.0.1.
    pub network_policy: NetworkPolicy,
    /// Only with more than one replica.
    pub disruption_budget: Option<PodDisruptionBudget>,
}

/// Builds the children of one whose server is this template.
///
/// # Errors
/// When the proxy would reject the configuration, or the pod template is not allowed.
pub fn build(
    owner: &Owner,
    spec: &ProtectedMcpServerSpec,
    template: &ServerTemplate,
    auth_server: &AuthServerFacts,
    images: &Images,
) -> Result<ProtectedServerObjects, BuildError> {
    let name = owner.name.clone();
    let policy = injection::config_yaml(&name, spec, &template.http, auth_server)?;
    Ok(ProtectedServerObjects {
        service_account: ServiceAccount {
            metadata: owner.child(name.clone(), COMPONENT),
            automount_service_account_token: Some(false),
            ..ServiceAccount::default()
        },
        policy_hash: proxy_health::hash(&policy),
        config_map: pod::config_map(
            owner,
            names::proxy_config(&name),
            COMPONENT,
            injection::CONFIG_FILE,
            policy,
        ),
        deployment: deployment(owner, spec, template, auth_server, images)?,
        service: pod::public_service(owner, COMPONENT, &spec.service),
        network_policy: network_policy::build(
            owner,
            name,
            COMPONENT,
            vec![network_policy::everybody(&[PUBLIC_PORT, HEALTH_PORT])],
        ),
        disruption_budget: pod::disruption_budget(owner, COMPONENT, spec.replicas),
    })
}

fn deployment(
    owner: &Owner,
    spec: &ProtectedMcpServerSpec,
    template: &ServerTemplate,
    auth_server: &AuthServerFacts,
    images: &Images,
) -> Result<Deployment, Refused> {
    let mut pod = PodSpec {
        service_account_name: Some(owner.name.clone()),
        // The proxy has a token for only the authserver; the server has none.
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        image_pull_secrets: pod::pull_secrets(images),
        security_context: Some(pod::pod_security(pod::USER, images)),
        topology_spread_constraints: Some(pod::spread(owner.selector(COMPONENT))),
        containers: vec![container(template)],
        volumes: Some(vec![pod::scratch_volume("tmp")]),
        ..PodSpec::default()
    };
    injection::inject(&mut pod, &owner.name, spec, auth_server, images);
    let own = Own::of(&pod, injection::CONTAINER);
    add_volumes(&mut pod, template, &own)?;
    let mut template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(owner.labels(COMPONENT)),
            ..ObjectMeta::default()
        }),
        spec: Some(pod),
    };
    pod_template::merge(&mut template, spec.pod_template.as_ref(), &own)?;
    Ok(Deployment {
        metadata: owner.child(owner.name.clone(), COMPONENT),
        spec: Some(DeploymentSpec {
            replicas: Some(spec.replicas),
            selector: owner.selector(COMPONENT),
            template,
            ..DeploymentSpec::default()
        }),
        status: None,
    })
}

/// The Secret with the keys that the replicas of the proxy share. It is created only once.
#[must_use]
pub fn keys_secret(owner: &Owner, key: [u8; 32]) -> Secret {
    let metadata = owner.child(names::proxy_keys(&owner.name), COMPONENT);
    let keys = ProxyKeys::new(key).to_text();
    secret(metadata, [(injection::KEYS_FILE, keys)])
}

/// The ServiceAccount of a Deployment's pods, whose token the proxy has.
#[must_use]
pub fn service_account(deployment: &Deployment) -> Option<&str> {
    let pod = deployment.spec.as_ref()?.template.spec.as_ref()?;
    pod.service_account_name.as_deref()
}

/// The server's own volumes, beside ours.
fn add_volumes(pod: &mut PodSpec, template: &ServerTemplate, own: &Own) -> Result<(), Refused> {
    let mut refused = Refused::default();
    let names = template.volumes.iter().map(|volume| &volume.name);
    own.refuse_volumes("spec.server.template.volumes", names, &mut refused);
    let mounts = &template.volume_mounts;
    own.refuse_mounts("spec.server.template.volumeMounts", mounts, &mut refused);
    refused.or_ok()?;
    let volumes = pod.volumes.get_or_insert_default();
    volumes.extend(template.volumes.iter().cloned());
    Ok(())
}

/// The MCP server. It has no probes by default, because it listens only inside its pod.
fn container(template: &ServerTemplate) -> Container {
    Container {
        name: "server".to_owned(),
        image: Some(template.image.clone()),
        image_pull_policy: template
            .image_pull_policy
            .map(|policy| policy.as_str().to_owned()),
        command: unless_empty(&template.command),
        args: unless_empty(&template.args),
        env: unless_empty(&template.env),
        env_from: unless_empty(&template.env_from),
        resources: Some(pod::resources(template.resources.as_ref(), &DEFAULTS)),
        liveness_probe: template.liveness_probe.clone(),
        readiness_probe: template.readiness_probe.clone(),
        startup_probe: template.startup_probe.clone(),
        termination_message_policy: Some(pod::TERMINATION_MESSAGE_POLICY.to_owned()),
        security_context: Some(pod::container_security()),
        volume_mounts: Some(mounts(&template.volume_mounts)),
        ..Container::default()
    }
}

fn unless_empty<T: Clone>(list: &[T]) -> Option<Vec<T>> {
    (!list.is_empty()).then(|| list.to_vec())
}

/// The server's mounts, and a `/tmp` unless one of them is that.
fn mounts(own: &[VolumeMount]) -> Vec<VolumeMount> {
    let mut mounts = own.to_vec();
    if !own
        .iter()
        .any(|m| m.mount_path.trim_end_matches('/') == "/tmp")
    {
        mounts.push(pod::writable_mount("tmp", "/tmp"));
    }
    mounts
}
