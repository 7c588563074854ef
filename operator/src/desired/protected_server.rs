//! The children of a ProtectedMcpServer.

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec},
        core::v1::{
            ConfigMap, Container, EnvVar, EnvVarSource, PodSpec, PodTemplateSpec,
            SecretKeySelector, Service, ServiceAccount,
        },
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use mcpauth_api::{
    ProtectedMcpServerSpec,
    protected_server::{self as api, Server, ServerTemplate},
};

use super::{
    AuthServerFacts, BuildError, Images, injection,
    labels::{Component, Owner},
    names::{self, HEALTH_PORT, PUBLIC_PORT},
    network_policy, pod,
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
    /// The pods: proxy and server.
    pub deployment: Deployment,
    /// The proxy's port.
    pub service: Service,
    /// Blocks the server's own port, in case it listens on more than 127.0.0.1.
    pub network_policy: NetworkPolicy,
    /// Only with more than one replica.
    pub disruption_budget: Option<PodDisruptionBudget>,
}

/// Builds the children.
///
/// # Errors
/// When the configuration cannot be serialized as YAML.
pub fn build(
    owner: &Owner,
    spec: &ProtectedMcpServerSpec,
    auth_server: &AuthServerFacts,
    images: &Images,
) -> Result<ProtectedServerObjects, BuildError> {
    let Server::Template(template) = &spec.server;
    let name = owner.name.clone();
    Ok(ProtectedServerObjects {
        service_account: ServiceAccount {
            metadata: owner.child(name.clone(), COMPONENT),
            automount_service_account_token: Some(false),
            ..ServiceAccount::default()
        },
        config_map: pod::config_map(
            owner,
            names::proxy_config(&name),
            COMPONENT,
            injection::CONFIG_FILE,
            injection::config_yaml(&name, spec, auth_server)?,
        ),
        deployment: deployment(owner, spec, template, auth_server, images),
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
) -> Deployment {
    let mut pod = PodSpec {
        service_account_name: Some(owner.name.clone()),
        // The proxy has a token for only the authserver; the server has none.
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        image_pull_secrets: pod::pull_secrets(images),
        security_context: Some(pod::pod_security(pod::USER)),
        topology_spread_constraints: Some(pod::spread(owner.selector(COMPONENT))),
        containers: vec![container(template)],
        volumes: Some(vec![pod::scratch_volume("tmp")]),
        ..PodSpec::default()
    };
    injection::inject(&mut pod, &owner.name, spec, auth_server, images);
    Deployment {
        metadata: owner.child(owner.name.clone(), COMPONENT),
        spec: Some(DeploymentSpec {
            replicas: Some(spec.replicas),
            selector: owner.selector(COMPONENT),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(owner.labels(COMPONENT)),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod),
            },
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

/// The MCP server. It has no probes, because it listens only inside its pod.
fn container(template: &ServerTemplate) -> Container {
    let unless_empty = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
    Container {
        name: "server".to_owned(),
        image: Some(template.image.clone()),
        command: unless_empty(&template.command),
        args: unless_empty(&template.args),
        env: (!template.env.is_empty()).then(|| template.env.iter().map(variable).collect()),
        resources: Some(pod::resources(template.resources.as_ref(), &DEFAULTS)),
        termination_message_policy: Some(pod::TERMINATION_MESSAGE_POLICY.to_owned()),
        security_context: Some(pod::container_security()),
        volume_mounts: Some(vec![pod::writable_mount("tmp", "/tmp")]),
        ..Container::default()
    }
}

fn variable(variable: &api::EnvVar) -> EnvVar {
    EnvVar {
        name: variable.name.clone(),
        value: variable.value.clone(),
        value_from: variable
            .value_from
            .as_ref()
            .map(|api::EnvVarSource::SecretKeyRef(secret)| EnvVarSource {
                secret_key_ref: Some(SecretKeySelector {
                    name: secret.name.clone(),
                    key: secret.key.clone(),
                    optional: None,
                }),
                ..EnvVarSource::default()
            }),
    }
}
