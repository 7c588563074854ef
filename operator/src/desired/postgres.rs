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

pub mod major;
pub mod volume;

use self::major::{MajorChange, Running};
use super::{
    Images,
    labels::{Component, Owner},
    names::{self, CONFIG_HASH, POSTGRES_PORT},
    network_policy, pod,
};

const COMPONENT: Component = Component::Postgres;
/// The user `postgres` of the official image.
const USER: i64 = 999;
const ROLE: &str = "mcpauth";
const DATABASE: &str = "mcpauth";
const DATA: &str = "/var/lib/postgresql/data";
/// It accepts connections. Over TCP, because during initialization the image runs a server that listens only on the
/// socket. With a role, because a uid that the platform sets has no name that could be one.
const READY: &str = "pg_isready -q -h 127.0.0.1 -U \"$POSTGRES_USER\"";
/// It answers, even if only to say that it is starting or stopping (status 1): to recover after a crash may take longer
/// than any limit, and would begin anew if it were killed.
const ALIVE: &str = "pg_isready -q -h 127.0.0.1 -U \"$POSTGRES_USER\" || [ $? -eq 1 ]";
const DEFAULTS: pod::DefaultResources = pod::DefaultResources {
    cpu: "100m",
    memory: "128Mi",
    memory_limit: "512Mi",
};

/// Runs before the server.
const PREPARE: &str = include_str!("postgres/prepare.sh");
/// The container that runs it; when it is done, its termination message is the volume's major version.
pub const PREPARE_CONTAINER: &str = "prepare";

/// What the builder needs besides the spec.
#[derive(Clone, Debug, Default)]
pub struct PostgresInputs {
    /// What has run on the volume.
    pub running: Option<Running>,
    /// The volume's size in the StatefulSet, where it cannot change.
    pub template_size: Option<Quantity>,
    /// Hash of the password: the pod is replaced when it changes.
    pub password_hash: String,
}

/// The children of the database, except for its Secret ([`secret`]).
#[derive(Clone, Debug, PartialEq)]
pub struct PostgresObjects {
    /// The port.
    pub service: Service,
    /// Allows only the authorization server's pods.
    pub network_policy: NetworkPolicy,
    /// The pod and its volume, of which `deletionPolicy` says whether it outlives the McpAuthServer.
    pub stateful_set: StatefulSet,
    /// Why the image is not the spec's.
    pub refused: Option<MajorChange>,
}

/// The Secret with the connection details. `password` must need no escaping in a URL.
#[must_use]
pub fn secret(owner: &Owner, password: &str) -> Secret {
    let name = names::postgres(&owner.name);
    let host = format!("{name}.{}.svc", owner.namespace);
    let uri = format!("postgres://{ROLE}:{password}@{host}:{POSTGRES_PORT}/{DATABASE}");
    super::secret(
        owner.kept(name, COMPONENT),
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
pub fn build(
    owner: &Owner,
    spec: &ManagedPostgres,
    images: &Images,
    inputs: &PostgresInputs,
) -> PostgresObjects {
    let name = names::postgres(&owner.name);
    let running = inputs.running.as_ref();
    let chosen = major::choose(spec.image.as_deref(), &images.postgres, running);
    let (image, refused) = match chosen {
        Ok(image) => (image, None),
        Err(change) => (change.keeps().to_owned(), Some(change)),
    };
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
        stateful_set: stateful_set(owner, spec, images, &image, inputs),
        refused,
    }
}

fn stateful_set(
    owner: &Owner,
    spec: &ManagedPostgres,
    images: &Images,
    image: &str,
    inputs: &PostgresInputs,
) -> StatefulSet {
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
            volume_claim_templates: Some(vec![volume_claim(spec, inputs)]),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(owner.labels(COMPONENT)),
                    annotations: Some(BTreeMap::from([(
                        CONFIG_HASH.to_owned(),
                        inputs.password_hash.clone(),
                    )])),
                    ..ObjectMeta::default()
                }),
                spec: Some(PodSpec {
                    automount_service_account_token: Some(false),
                    enable_service_links: Some(false),
                    image_pull_secrets: pod::pull_secrets(images),
                    security_context: Some(pod::pod_security(USER, images)),
                    // Time for a clean shutdown under load.
                    termination_grace_period_seconds: Some(60),
                    init_containers: Some(vec![prepare(spec, image)]),
                    containers: vec![server(spec, image)],
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

fn volume_claim(spec: &ManagedPostgres, inputs: &PostgresInputs) -> PersistentVolumeClaim {
    // The StatefulSet would be refused with another size than it was created with. The claim itself can grow.
    let size = || Quantity(spec.size.0.clone());
    let size = inputs.template_size.clone().unwrap_or_else(size);
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some("data".to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: spec.storage_class_name.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), size)])),
                limits: None,
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

fn prepare(spec: &ManagedPostgres, image: &str) -> Container {
    Container {
        name: PREPARE_CONTAINER.to_owned(),
        command: Some(["sh", "-c", PREPARE].map(str::to_owned).to_vec()),
        ..container(spec, image)
    }
}

fn server(spec: &ManagedPostgres, image: &str) -> Container {
    let mut server = container(spec, image);
    server
        .env
        .get_or_insert_default()
        .push(variable("POSTGRES_DB", DATABASE));
    let mounts = server.volume_mounts.get_or_insert_default();
    mounts.push(pod::writable_mount("run", "/var/run/postgresql"));
    Container {
        name: "postgres".to_owned(),
        ports: Some(vec![pod::port("postgres", POSTGRES_PORT)]),
        // Long enough for initdb on a slow disk.
        startup_probe: Some(probe(ALIVE, 2, 150)),
        liveness_probe: Some(probe(ALIVE, 10, 6)),
        readiness_probe: Some(probe(READY, 5, 2)),
        ..server
    }
}

/// What both containers have.
fn container(spec: &ManagedPostgres, image: &str) -> Container {
    Container {
        image: Some(image.to_owned()),
        env: Some(vec![
            variable("POSTGRES_USER", ROLE),
            variable("POSTGRES_PASSWORD_FILE", "/etc/mcpauth/postgres/password"),
            // Below the volume's root, which may contain `lost+found`.
            variable("PGDATA", &format!("{DATA}/pgdata")),
        ]),
        resources: Some(pod::resources(spec.resources.as_ref(), &DEFAULTS)),
        termination_message_policy: Some(pod::TERMINATION_MESSAGE_POLICY.to_owned()),
        security_context: Some(pod::container_security()),
        volume_mounts: Some(vec![
            pod::writable_mount("data", DATA),
            pod::mount("password", "/etc/mcpauth/postgres"),
            pod::writable_mount("tmp", "/tmp"),
        ]),
        ..Container::default()
    }
}

fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        value_from: None,
    }
}

fn probe(script: &str, period: i32, failures: i32) -> Probe {
    Probe {
        exec: Some(ExecAction {
            command: Some(["sh", "-c", script].map(str::to_owned).to_vec()),
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(5),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}
