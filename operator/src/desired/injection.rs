//! Injects the resource-proxy into a pod as a native sidecar, which starts before the MCP server and ends after it.
//! The same for every way to build the pod.

use k8s_openapi::api::core::v1::{
    Container, ExecAction, HTTPGetAction, Lifecycle, LifecycleHandler, PodSpec,
    ProjectedVolumeSource, ServiceAccountTokenProjection, Volume, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use mcpauth_api::{ProtectedMcpServerSpec, protected_server::Http};
use mcpauth_wire::proxy_config::Listen;
use mcpauth_wire::proxy_health;

use super::{
    AuthServerFacts, BuildError, Images, everywhere,
    names::{self, HEALTH_PORT, PUBLIC_PORT},
    pod,
    proxy_config::{ProxyCredential, ProxyPlace, proxy_config},
    telemetry::{HEADERS_FILE, otlp_headers},
    yaml,
};

/// The proxy's container.
pub const CONTAINER: &str = "resource-proxy";
const CONFIG_VOLUME: &str = "mcpauth-proxy";
const TOKEN_VOLUME: &str = "mcpauth-token";
const KEYS_VOLUME: &str = "mcpauth-proxy-keys";
const KEYS_FOLDER: &str = "/etc/mcpauth/proxy-keys";
/// The key in the Secret with the proxy's keys, and the file.
pub const KEYS_FILE: &str = "keys";
const TOKEN_FOLDER: &str = "/var/run/secrets/mcpauth";
const OTLP_VOLUME: &str = "mcpauth-otlp";
const OTLP_FOLDER: &str = "/etc/mcpauth/otlp";
const CONFIG_FOLDER: &str = "/etc/mcpauth/proxy";
/// The file in the ConfigMap.
pub const CONFIG_FILE: &str = "proxy.yaml";
/// What the preStop hook runs.
const DRAIN: [&str; 2] = ["/usr/local/bin/mcp-resource-proxy", "drain"];
const DEFAULTS: pod::DefaultResources = pod::DefaultResources {
    cpu: "20m",
    memory: "32Mi",
    memory_limit: "128Mi",
};

/// `proxy.yaml` of the ProtectedMcpServer `name`.
///
/// # Errors
/// When the configuration cannot be serialized as YAML.
pub fn config_yaml(
    name: &str,
    spec: &ProtectedMcpServerSpec,
    http: &Http,
    auth_server: &AuthServerFacts,
) -> Result<String, BuildError> {
    let place = ProxyPlace {
        listen: Listen {
            proxy: everywhere(PUBLIC_PORT),
            health: everywhere(HEALTH_PORT),
        },
        resource_name: name.to_owned(),
        issuer: auth_server.issuer.clone(),
        upstream_url: format!("http://127.0.0.1:{}{}", http.port, http.path),
        introspection_endpoint: format!("{}/introspect", auth_server.internal_url),
        introspection_ca: auth_server.internal_ca.clone(),
        credential: ProxyCredential::TokenFile(format!("{TOKEN_FOLDER}/token")),
        otlp_headers_file: format!("{OTLP_FOLDER}/{HEADERS_FILE}"),
    };
    let config = proxy_config(spec, place);
    config.check()?;
    yaml(&config)
}

/// Injects the proxy of the ProtectedMcpServer `name` into a pod: as an init container, with its volumes. The pod stops once
/// no request is in progress.
pub fn inject(
    pod: &mut PodSpec,
    name: &str,
    spec: &ProtectedMcpServerSpec,
    auth_server: &AuthServerFacts,
    images: &Images,
) {
    let containers = pod.init_containers.get_or_insert_default();
    containers.insert(0, container(spec, images));
    for server in &mut pod.containers {
        outlive_requests(server);
    }
    pod.termination_grace_period_seconds = Some(grace_seconds(spec));
    let present = pod.volumes.get_or_insert_default();
    present.splice(0..0, volumes(name, spec, auth_server));
}

fn container(spec: &ProtectedMcpServerSpec, images: &Images) -> Container {
    let mut mounts = vec![
        pod::mount(CONFIG_VOLUME, CONFIG_FOLDER),
        pod::mount(KEYS_VOLUME, KEYS_FOLDER),
        pod::mount(TOKEN_VOLUME, TOKEN_FOLDER),
    ];
    if otlp_headers(&spec.telemetry).is_some() {
        mounts.push(pod::mount(OTLP_VOLUME, OTLP_FOLDER));
    }
    let container = Container {
        name: CONTAINER.to_owned(),
        image: Some(
            spec.proxy
                .image
                .clone()
                .unwrap_or_else(|| images.resource_proxy.clone()),
        ),
        restart_policy: Some("Always".to_owned()),
        args: Some(vec![
            "--config".to_owned(),
            format!("{CONFIG_FOLDER}/{CONFIG_FILE}"),
            "--keys".to_owned(),
            format!("{KEYS_FOLDER}/{KEYS_FILE}"),
        ]),
        ports: Some(vec![
            pod::port("proxy", PUBLIC_PORT),
            pod::port("health", HEALTH_PORT),
        ]),
        resources: Some(pod::resources(spec.proxy.resources.as_ref(), &DEFAULTS)),
        termination_message_policy: Some(pod::TERMINATION_MESSAGE_POLICY.to_owned()),
        security_context: Some(pod::container_security()),
        volume_mounts: Some(mounts),
        lifecycle: Some(Lifecycle {
            // Begins the drain while the server still runs. By an exec, not a GET: that would be for anybody.
            pre_stop: Some(LifecycleHandler {
                exec: Some(ExecAction {
                    command: Some(DRAIN.map(str::to_owned).to_vec()),
                }),
                ..LifecycleHandler::default()
            }),
            ..Lifecycle::default()
        }),
        ..Container::default()
    };
    pod::with_probes(container, 60)
}

/// Lets the server run until the proxy has drained: Kubernetes runs its preStop hook together with the proxy's, but ends the
/// proxy only after the server.
fn outlive_requests(server: &mut Container) {
    server.lifecycle = Some(Lifecycle {
        pre_stop: Some(LifecycleHandler {
            http_get: Some(HTTPGetAction {
                path: Some(proxy_health::DRAINED.to_owned()),
                port: IntOrString::Int(HEALTH_PORT.into()),
                scheme: Some("HTTP".to_owned()),
                ..HTTPGetAction::default()
            }),
            ..LifecycleHandler::default()
        }),
        ..Lifecycle::default()
    });
}

/// How long a pod may take to stop, in seconds: the longest wait for a response, and what the drain itself needs.
fn grace_seconds(spec: &ProtectedMcpServerSpec) -> i64 {
    i64::from(spec.limits.response_header_seconds) + 20
}

/// The sidecar's volumes. ConfigMap and Secret are mounted as folders, not as files, so that changes
/// reach running pods.
fn volumes(
    name: &str,
    spec: &ProtectedMcpServerSpec,
    auth_server: &AuthServerFacts,
) -> Vec<Volume> {
    let mut volumes = vec![
        pod::config_volume(CONFIG_VOLUME, names::proxy_config(name)),
        pod::secret_volume(KEYS_VOLUME, &names::proxy_keys(name), KEYS_FILE, KEYS_FILE),
        Volume {
            name: TOKEN_VOLUME.to_owned(),
            projected: Some(ProjectedVolumeSource {
                default_mode: None,
                sources: Some(vec![VolumeProjection {
                    service_account_token: Some(ServiceAccountTokenProjection {
                        audience: Some(auth_server.internal_url.clone()),
                        expiration_seconds: Some(names::TOKEN_SECONDS),
                        path: "token".to_owned(),
                    }),
                    ..VolumeProjection::default()
                }]),
            }),
            ..Volume::default()
        },
    ];
    if let Some(headers) = otlp_headers(&spec.telemetry) {
        // Without it the proxy starts, too, and exports nothing.
        let mut volume = pod::secret_volume(OTLP_VOLUME, &headers.name, &headers.key, HEADERS_FILE);
        if let Some(secret) = &mut volume.secret {
            secret.optional = Some(true);
        }
        volumes.push(volume);
    }
    volumes
}
