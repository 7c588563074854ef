//! The children of a McpAuthServer.

use std::collections::{BTreeMap, BTreeSet};
use std::iter;

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
        core::v1::{
            ConfigMap, Container, KeyToPath, PodSpec, PodTemplateSpec, ProjectedVolumeSource,
            Secret, SecretProjection, Service, ServiceAccount, Volume, VolumeProjection,
        },
        networking::v1::{NetworkPolicy, NetworkPolicyPeer},
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use mcpauth_api::{
    McpAuthServerSpec,
    auth_server::{Ca, Login, PostgresStorage, Storage},
};
use mcpauth_wire::authserver_config::{
    Credential, Internal, InternalTls, Listen, ServiceAccountTokens,
};

use super::{
    Admin, BuildError, Images,
    authserver_config::{
        AuthServerPlace, authserver_config, initial_access_token, postgres_ca, wants_postgres,
    },
    everywhere, hash,
    labels::{Component, Owner},
    names::{self, CONFIG_HASH, HEALTH_PORT, INTERNAL_PORT, PUBLIC_PORT},
    network_policy, pod,
    pod_template::{self, Own, Refused},
    postgres::{self, PostgresInputs, PostgresObjects},
    secret,
    telemetry::otlp_headers,
    yaml,
};

const COMPONENT: Component = Component::AuthServer;
const CONTAINER: &str = "authserver";
const CONFIG_FOLDER: &str = "/etc/mcpauth/config";
const CONFIG_FILE: &str = "authserver.yaml";
/// The volume with the secrets of callers that introspect.
const CALLERS_VOLUME: &str = "introspection";
/// The volume with the certificate of the internal port.
const TLS_VOLUME: &str = "internal-tls";
/// The key of a Secret of the type `kubernetes.io/tls` with the certificate and its chain.
pub const CERTIFICATE: &str = "tls.crt";
/// Its key with the private key.
pub const PRIVATE_KEY: &str = "tls.key";
/// Its key with the CA.
pub const CA: &str = "ca.crt";
const DEFAULTS: pod::DefaultResources = pod::DefaultResources {
    cpu: "50m",
    memory: "64Mi",
    memory_limit: "256Mi",
};

/// What the builder needs besides the spec.
#[derive(Clone, Debug)]
pub struct AuthServerInputs<'a> {
    /// Default images.
    pub images: &'a Images,
    /// Who may use the admin API: the operator itself, and others that it was told of.
    pub admins: &'a BTreeSet<Admin>,
    /// Hash of the data of the Secrets that the pods mount ([`hash`]): pods restart when it
    /// changes.
    pub secrets_hash: &'a str,
    /// What is known of the managed PostgreSQL.
    pub database: &'a PostgresInputs,
}

/// The children of a McpAuthServer, except for the Secrets with random values, which are created once:
/// [`keys_secret`] and [`postgres::secret`].
#[derive(Clone, Debug, PartialEq)]
pub struct AuthServerObjects {
    /// The identity of the pods.
    pub service_account: ServiceAccount,
    /// `authserver.yaml`.
    pub config_map: ConfigMap,
    /// The managed PostgreSQL, when the spec asks for one.
    pub postgres: Option<PostgresObjects>,
    /// The pods.
    pub deployment: Deployment,
    /// The public port.
    pub service: Service,
    /// The internal port.
    pub internal_service: Service,
    /// Blocks the internal port for all but proxies and the operator.
    pub network_policy: NetworkPolicy,
    /// Only with more than one replica.
    pub disruption_budget: Option<PodDisruptionBudget>,
}

/// Builds the children.
///
/// # Errors
/// When the authserver would reject the configuration, or the pod template is not allowed.
pub fn build(
    owner: &Owner,
    spec: &McpAuthServerSpec,
    inputs: &AuthServerInputs<'_>,
) -> Result<AuthServerObjects, BuildError> {
    let config = config_yaml(owner, spec, inputs.admins)?;
    let config_hash = hash([config.as_bytes(), inputs.secrets_hash.as_bytes()]);
    let name = owner.workload(COMPONENT);
    Ok(AuthServerObjects {
        service_account: ServiceAccount {
            metadata: owner.child(name.clone(), COMPONENT),
            // The pod's own spec requests it.
            automount_service_account_token: Some(false),
            ..ServiceAccount::default()
        },
        config_map: pod::config_map(
            owner,
            names::auth_server_config(&owner.name),
            COMPONENT,
            CONFIG_FILE,
            config,
        ),
        postgres: match &spec.storage {
            Storage::Postgres(PostgresStorage::Managed(managed)) => Some(postgres::build(
                owner,
                managed,
                inputs.images,
                inputs.database,
            )),
            Storage::Postgres(PostgresStorage::External(_)) | Storage::Memory(_) => None,
        },
        deployment: deployment(owner, spec, inputs.images, config_hash)?,
        service: pod::public_service(owner, COMPONENT, &spec.service),
        internal_service: pod::internal_service(
            owner,
            names::internal_service(&owner.name),
            COMPONENT,
            "http",
            INTERNAL_PORT,
        ),
        network_policy: network_policy::build(
            owner,
            name,
            COMPONENT,
            vec![
                network_policy::everybody(&[PUBLIC_PORT, HEALTH_PORT]),
                network_policy::only(INTERNAL_PORT, internal_peers(inputs.admins)),
            ],
        ),
        disruption_budget: pod::disruption_budget(owner, COMPONENT, spec.replicas),
    })
}

fn internal_peers(admins: &BTreeSet<Admin>) -> Vec<NetworkPolicyPeer> {
    let namespaces: BTreeSet<&str> = admins.iter().map(|a| a.namespace.as_str()).collect();
    let admins = namespaces.into_iter().map(network_policy::namespace);
    iter::once(network_policy::proxies())
        .chain(admins)
        .collect()
}

/// The key with the pepper in its Secret.
pub const PEPPER: &str = "pepper";

/// The Secret with the pepper, 32 random bytes. It must be created only once, because all tokens depend
/// on it.
#[must_use]
pub fn keys_secret(owner: &Owner, pepper: &[u8; 32]) -> Secret {
    use base64::{Engine, prelude::BASE64_STANDARD};

    let line = format!("1:{}\n", BASE64_STANDARD.encode(pepper));
    let metadata = owner.kept(names::keys_secret(&owner.name), COMPONENT);
    secret(metadata, [(PEPPER, line)])
}

fn config_yaml(
    owner: &Owner,
    spec: &McpAuthServerSpec,
    admins: &BTreeSet<Admin>,
) -> Result<String, BuildError> {
    let place = AuthServerPlace {
        listen: Listen {
            public: everywhere(PUBLIC_PORT),
            internal: everywhere(INTERNAL_PORT),
            health: everywhere(HEALTH_PORT),
        },
        keys_file: "/etc/mcpauth/keys/pepper".to_owned(),
        postgres_url_file: wants_postgres(spec).then(|| "/etc/mcpauth/postgres/uri".to_owned()),
        postgres_ca_file: postgres_ca(spec).map(|_| "/etc/mcpauth/postgres-ca/ca.crt".to_owned()),
        users_file: "/etc/mcpauth/users/users.yaml".to_owned(),
        initial_access_token_file: "/etc/mcpauth/registration/token".to_owned(),
        otlp_headers_file: "/etc/mcpauth/otlp/headers".to_owned(),
        internal: Internal {
            service_account_tokens: Some(ServiceAccountTokens {
                audience: names::internal_url(
                    &owner.namespace,
                    &owner.name,
                    spec.internal_tls.is_some(),
                ),
            }),
            credentials: Vec::new(),
            tls: internal_tls(spec),
            admins: admins.iter().map(Admin::principal).collect(),
        },
        callers: callers(spec),
        resources: Vec::new(),
        clients: Vec::new(),
    };
    let config = authserver_config(spec, place);
    config.check()?;
    yaml(&config)
}

/// The files of the internal port's certificate, which are reloaded when they change.
fn internal_tls(spec: &McpAuthServerSpec) -> Option<InternalTls> {
    let file = |key| format!("/etc/mcpauth/{TLS_VOLUME}/{key}").into();
    spec.internal_tls.as_ref().map(|_| InternalTls {
        cert_file: file(CERTIFICATE),
        key_file: file(PRIVATE_KEY),
    })
}

/// The callers that introspect with a secret. Their ids are names of files.
fn callers(spec: &McpAuthServerSpec) -> Vec<Credential> {
    let callers = spec.introspection.callers.iter();
    callers
        .map(|caller| Credential {
            id: caller.id.clone(),
            secret_file: format!("/etc/mcpauth/{CALLERS_VOLUME}/{}", caller.id).into(),
        })
        .collect()
}

/// All their secrets, in one volume.
fn callers_volume(spec: &McpAuthServerSpec) -> Volume {
    let callers = spec.introspection.callers.iter();
    let sources = callers.map(|caller| VolumeProjection {
        secret: Some(SecretProjection {
            name: caller.secret_ref.name.clone(),
            items: Some(vec![KeyToPath {
                key: caller.secret_ref.key.clone(),
                path: caller.id.clone(),
                mode: None,
            }]),
            optional: None,
        }),
        ..VolumeProjection::default()
    });
    Volume {
        name: CALLERS_VOLUME.to_owned(),
        projected: Some(ProjectedVolumeSource {
            sources: Some(sources.collect()),
            default_mode: None,
        }),
        ..Volume::default()
    }
}

fn deployment(
    owner: &Owner,
    spec: &McpAuthServerSpec,
    images: &Images,
    config_hash: String,
) -> Result<Deployment, Refused> {
    let volumes = volumes(owner, spec);
    let pod = PodSpec {
        service_account_name: Some(owner.workload(COMPONENT)),
        // To read the cluster's keys for ServiceAccount tokens, which needs no permission.
        automount_service_account_token: Some(true),
        enable_service_links: Some(false),
        image_pull_secrets: pod::pull_secrets(images),
        security_context: Some(pod::pod_security(pod::USER, images)),
        topology_spread_constraints: Some(pod::spread(owner.selector(COMPONENT))),
        containers: vec![container(spec, images, &volumes)],
        volumes: Some(volumes),
        ..PodSpec::default()
    };
    let own = Own::of(&pod, CONTAINER);
    let mut template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(owner.labels(COMPONENT)),
            annotations: Some(BTreeMap::from([(CONFIG_HASH.to_owned(), config_hash)])),
            ..ObjectMeta::default()
        }),
        spec: Some(pod),
    };
    pod_template::merge(&mut template, spec.pod_template.as_ref(), &own)?;
    Ok(Deployment {
        metadata: owner.child(owner.workload(COMPONENT), COMPONENT),
        spec: Some(DeploymentSpec {
            replicas: Some(spec.replicas),
            selector: owner.selector(COMPONENT),
            strategy: Some(strategy(&spec.storage)),
            template,
            ..DeploymentSpec::default()
        }),
        status: None,
    })
}

/// Every field is set: defaults that the API server has filled in would stay otherwise, and `Recreate` is rejected
/// together with them.
fn strategy(storage: &Storage) -> DeploymentStrategy {
    let quarter = Some(IntOrString::String("25%".to_owned()));
    match storage {
        // During a rolling update, two pods with separate in-memory stores would give different answers.
        Storage::Memory(_) => DeploymentStrategy {
            type_: Some("Recreate".to_owned()),
            rolling_update: None,
        },
        Storage::Postgres(_) => DeploymentStrategy {
            type_: Some("RollingUpdate".to_owned()),
            rolling_update: Some(RollingUpdateDeployment {
                max_surge: quarter.clone(),
                max_unavailable: quarter,
            }),
        },
    }
}

fn container(spec: &McpAuthServerSpec, images: &Images, volumes: &[Volume]) -> Container {
    let container = Container {
        name: CONTAINER.to_owned(),
        image: Some(
            spec.image
                .clone()
                .unwrap_or_else(|| images.authserver.clone()),
        ),
        args: Some(vec![
            "--config".to_owned(),
            format!("{CONFIG_FOLDER}/{CONFIG_FILE}"),
        ]),
        ports: Some(vec![
            pod::port("public", PUBLIC_PORT),
            pod::port("internal", INTERNAL_PORT),
            pod::port("health", HEALTH_PORT),
        ]),
        resources: Some(pod::resources(spec.resources.as_ref(), &DEFAULTS)),
        termination_message_policy: Some(pod::TERMINATION_MESSAGE_POLICY.to_owned()),
        security_context: Some(pod::container_security()),
        volume_mounts: Some(
            volumes
                .iter()
                .map(|v| pod::mount(&v.name, &format!("/etc/mcpauth/{}", v.name)))
                .collect(),
        ),
        ..Container::default()
    };
    // Long enough for migrations, and for a database that is starting at the same time.
    pod::with_probes(container, 180)
}

fn ca_volume(ca: Ca<'_>) -> Volume {
    let (volume, path) = ("postgres-ca", "ca.crt");
    match ca {
        Ca::Secret(ca) => pod::secret_volume(volume, &ca.name, &ca.key, path),
        Ca::ConfigMap(ca) => pod::config_map_volume(volume, &ca.name, &ca.key, path),
    }
}

/// The name of the Secret with the pepper.
fn pepper_secret(owner: &Owner, spec: &McpAuthServerSpec) -> String {
    let given = spec.keys.as_ref().map(|keys| keys.secret_ref.name.clone());
    given.unwrap_or_else(|| names::keys_secret(&owner.name))
}

/// Each is mounted at `/etc/mcpauth/NAME`.
fn volumes(owner: &Owner, spec: &McpAuthServerSpec) -> Vec<Volume> {
    let mut volumes = vec![
        pod::config_volume("config", names::auth_server_config(&owner.name)),
        pod::secret_volume("keys", &pepper_secret(owner, spec), PEPPER, PEPPER),
    ];
    match &spec.storage {
        Storage::Memory(_) => {}
        Storage::Postgres(PostgresStorage::Managed(_)) => volumes.push(pod::secret_volume(
            "postgres",
            &names::postgres(&owner.name),
            "uri",
            "uri",
        )),
        Storage::Postgres(PostgresStorage::External(external)) => {
            let url = &external.url_secret_ref;
            volumes.push(pod::secret_volume("postgres", &url.name, &url.key, "uri"));
            volumes.extend(external.ca().map(ca_volume));
        }
    }
    match &spec.login {
        Login::DevelopmentAutoApprove(_) => {}
        Login::LocalUsers(users) => volumes.push(pod::secret_volume(
            "users",
            &users.secret_ref.name,
            &users.secret_ref.key,
            "users.yaml",
        )),
    }
    if let Some(token) = initial_access_token(spec) {
        let volume = pod::secret_volume("registration", &token.name, &token.key, "token");
        volumes.push(volume);
    }
    if let Some(headers) = otlp_headers(&spec.telemetry) {
        let volume = pod::secret_volume("otlp", &headers.name, &headers.key, "headers");
        volumes.push(volume);
    }
    if !spec.introspection.callers.is_empty() {
        volumes.push(callers_volume(spec));
    }
    if let Some(tls) = &spec.internal_tls {
        let (secret, keys) = (&tls.secret_ref.name, [CERTIFICATE, PRIVATE_KEY]);
        volumes.push(pod::secret_keys_volume(TLS_VOLUME, secret, &keys));
    }
    volumes
}
