//! The PostgreSQL of `storage.postgres.managed`: one instance with a volume, following the conventions of the
//! official `postgres` image.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec},
        core::v1::{
            Container, EnvVar, ExecAction, PersistentVolumeClaim, PersistentVolumeClaimSpec,
            PodSpec, PodTemplateSpec, Probe, Secret, Service, VolumeResourceRequirements,
        },
        networking::v1::NetworkPolicy,
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};
use mcpauth_api::auth_server::ManagedPostgres;

use super::{
    Images,
    labels::{Component, Owner},
    names::{self, POSTGRES_PORT},
    network_policy, pod,
};

const COMPONENT: Component = Component::Postgres;
/// The user `postgres` of the official image.
const USER: i64 = 999;
const ROLE: &str = "mcpauth";
const DATABASE: &str = "mcpauth";
const DATA: &str = "/var/lib/postgresql/data";
const DEFAULTS: pod::DefaultResources = pod::DefaultResources {
    cpu: "100m",
    memory: "128Mi",
    memory_limit: "512Mi",
};

/// The children of the database, except for its Secret ([`secret`]).
#[derive(Clone, Debug, PartialEq)]
pub struct PostgresObjects {
    /// The port.
    pub service: Service,
    /// Allows only the authorization server's pods.
    pub network_policy: NetworkPolicy,
    /// The pod and its volume, of which `deletionPolicy` says whether it outlives the McpAuthServer.
    pub stateful_set: StatefulSet,
}

/// The Secret with the connection details. `password` must need no escaping in a URL. It must be created only
/// once, because the database is initialized with it.
#[must_use]
pub fn secret(owner: &Owner, password: &str) -> Secret {
    let name = names::postgres(&owner.name);
    let host = format!("{name}.{}.svc", owner.namespace);
    let uri = format!("postgres://{ROLE}:{password}@{host}:{POSTGRES_PORT}/{DATABASE}");
    super::secret(
        owner.child(name, COMPONENT),
        [
            ("username", ROLE.to_owned()),
            ("password", password.to_owned()),
            ("dbname", DATABASE.to_owned()),
            ("host", host),
            ("port", POSTGRES_PORT.to_string()),
            ("uri", uri),
        ],
    )
}

/// Builds the children.
#[must_use]
pub fn build(owner: &Owner, spec: &ManagedPostgres, images: &Images) -> PostgresObjects {
    let name = names::postgres(&owner.name);
    PostgresObjects {
        service: pod::internal_service(owner, name.clone(), COMPONENT, "postgres", POSTGRES_PORT),
        network_policy: network_policy::build(
            owner,
            name,
            COMPONENT,
            vec![network_policy::only(
                POSTGRES_PORT,
                vec![network_policy::pods_of(owner, Component::AuthServer)],
            )],
        ),
        stateful_set: stateful_set(owner, spec, images),
    }
}

fn stateful_set(owner: &Owner, spec: &ManagedPostgres, images: &Images) -> StatefulSet {
    let name = names::postgres(&owner.name);
    StatefulSet {
        metadata: owner.child(name.clone(), COMPONENT),
        spec: Some(StatefulSetSpec {
            replicas: Some(1),
            selector: owner.selector(COMPONENT),
            service_name: Some(name.clone()),
            // Otherwise a pod that never became ready would block the rollout of a corrected image.
            pod_management_policy: Some("Parallel".to_owned()),
            persistent_volume_claim_retention_policy: Some(
                StatefulSetPersistentVolumeClaimRetentionPolicy {
                    when_deleted: Some(spec.deletion_policy.as_str().to_owned()),
                    when_scaled: Some("Retain".to_owned()),
                },
            ),
            volume_claim_templates: Some(vec![volume_claim(spec)]),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(owner.labels(COMPONENT)),
                    ..ObjectMeta::default()
                }),
                spec: Some(PodSpec {
                    automount_service_account_token: Some(false),
                    enable_service_links: Some(false),
                    image_pull_secrets: pod::pull_secrets(images),
                    security_context: Some(pod::pod_security(USER)),
                    // Time for a clean shutdown under load.
                    termination_grace_period_seconds: Some(60),
                    containers: vec![container(spec, images)],
                    volumes: Some(vec![
                        pod::secret_volume("password", &name, "password", "password"),
                        pod::scratch_volume("run"),
                        pod::scratch_volume("tmp"),
                    ]),
                    ..PodSpec::default()
                }),
            },
            ..StatefulSetSpec::default()
        }),
        status: None,
    }
}

fn volume_claim(spec: &ManagedPostgres) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some("data".to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: spec.storage_class_name.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([(
                    "storage".to_owned(),
                    Quantity(spec.size.0.clone()),
                )])),
                limits: None,
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

fn container(spec: &ManagedPostgres, images: &Images) -> Container {
    let variable = |name: &str, value: &str| EnvVar {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        value_from: None,
    };
    // Over TCP, because during initialization the image runs a server that listens only on the socket.
    let ready = |period, failures| Probe {
        exec: Some(ExecAction {
            command: Some(
                ["pg_isready", "-h", "127.0.0.1", "-U", ROLE, "-d", DATABASE]
                    .map(str::to_owned)
                    .to_vec(),
            ),
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(5),
        failure_threshold: Some(failures),
        ..Probe::default()
    };
    Container {
        name: "postgres".to_owned(),
        image: Some(
            spec.image
                .clone()
                .unwrap_or_else(|| images.postgres.clone()),
        ),
        env: Some(vec![
            variable("POSTGRES_USER", ROLE),
            variable("POSTGRES_DB", DATABASE),
            variable("POSTGRES_PASSWORD_FILE", "/etc/mcpauth/postgres/password"),
            // Below the volume's root, which may contain `lost+found`.
            variable("PGDATA", &format!("{DATA}/pgdata")),
        ]),
        ports: Some(vec![pod::port("postgres", POSTGRES_PORT)]),
        resources: Some(pod::resources(spec.resources.as_ref(), &DEFAULTS)),
        termination_message_policy: Some(pod::TERMINATION_MESSAGE_POLICY.to_owned()),
        security_context: Some(pod::container_security()),
        startup_probe: Some(ready(2, 90)),
        liveness_probe: Some(ready(10, 6)),
        readiness_probe: Some(ready(5, 2)),
        volume_mounts: Some(vec![
            pod::writable_mount("data", DATA),
            pod::mount("password", "/etc/mcpauth/postgres"),
            pod::writable_mount("run", "/var/run/postgresql"),
            pod::writable_mount("tmp", "/tmp"),
        ]),
        ..Container::default()
    }
}
