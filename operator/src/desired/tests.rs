//! What matters about the objects that we build.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{Resource, ResourceExt};
use mcpauth_api::{McpAuthServer, McpOAuthClient, ProtectedMcpServer};
use mcpauth_wire::authserver_config::AuthServerConfig;
use mcpauth_wire::proxy_config::ProxyConfig;
use mcpauth_wire::telemetry::Telemetry;
use serde_json::{Value, json};

use super::{
    Admin, AuthServerFacts, BuildError, Images,
    auth_server::{self, AuthServerInputs, AuthServerObjects},
    hash,
    labels::Owner,
    names::{self, CONFIG_HASH},
    oauth_client, pod_security, postgres,
    protected_server::{self, ProtectedServerObjects},
    registration,
};

fn images() -> Images {
    Images {
        authserver: "authserver:1".to_owned(),
        resource_proxy: "resource-proxy:1".to_owned(),
        postgres: "docker.io/library/postgres:15".to_owned(),
        pull_secrets: Vec::new(),
        fixed_user_ids: true,
    }
}

fn admins() -> BTreeSet<Admin> {
    let admin = |namespace: &str| Admin {
        namespace: namespace.to_owned(),
        service_account: "operator".to_owned(),
    };
    ["mcp-auth-system", "mcp-auth"].map(admin).into()
}

fn with_meta<K: Resource<DynamicType = ()>>(mut object: K) -> K {
    object.meta_mut().namespace = Some("team".to_owned());
    object.meta_mut().uid = Some("00000000-0000-0000-0000-000000000001".to_owned());
    object
}

/// The smallest McpAuthServer, with `changes` to its spec.
fn auth_server_with(changes: &Value) -> McpAuthServer {
    let mut spec = json!({
        "issuer": "http://localhost:9000",
        "storage": { "memory": {} },
        "login": { "developmentAutoApprove": {} },
    });
    merge(&mut spec, changes);
    with_meta(McpAuthServer::new(
        "auth",
        serde_json::from_value(spec).unwrap(),
    ))
}

fn protected_server_with(changes: &Value) -> ProtectedMcpServer {
    let mut spec = json!({
        "authServerRef": { "name": "auth" },
        "resource": "http://localhost:9001/mcp",
        "server": { "template": { "image": "notes:1", "http": { "port": 8000 } } },
        "scopes": [
            { "name": "notes:read", "description": "Read notes" },
            { "name": "notes:write", "implies": ["notes:read"] },
        ],
        "access": { "rules": [{ "tools": ["create_*"], "scopes": ["notes:write"] }] },
        "friction": {
            "rate": { "calls": 60, "periodSeconds": 60 },
            "groups": [{
                "name": "writes", "tools": ["create_*"], "rate": { "calls": 30, "periodSeconds": 60 },
            }],
        },
    });
    merge(&mut spec, changes);
    with_meta(ProtectedMcpServer::new(
        "notes",
        serde_json::from_value(spec).unwrap(),
    ))
}

fn merge(into: &mut Value, changes: &Value) {
    for (key, value) in changes.as_object().unwrap() {
        into[key] = value.clone();
    }
}

pub(super) fn try_auth_server(
    changes: &Value,
    secrets_hash: &str,
) -> Result<AuthServerObjects, BuildError> {
    let object = auth_server_with(changes);
    let inputs = AuthServerInputs {
        images: &images(),
        admins: &admins(),
        secrets_hash,
        database: &postgres::PostgresInputs::default(),
    };
    auth_server::build(&Owner::of(&object).unwrap(), &object.spec, &inputs)
}

fn build_auth_server_with(changes: &Value, secrets_hash: &str) -> AuthServerObjects {
    try_auth_server(changes, secrets_hash).unwrap()
}

pub(super) fn build_auth_server(changes: &Value) -> AuthServerObjects {
    build_auth_server_with(changes, "")
}

pub(super) fn try_protected_server(changes: &Value) -> Result<ProtectedServerObjects, BuildError> {
    let object = protected_server_with(changes);
    let facts = AuthServerFacts {
        issuer: "http://localhost:9000".to_owned(),
        internal_url: names::internal_url("team", "auth", false),
        internal_ca: None,
    };
    protected_server::build(
        &Owner::of(&object).unwrap(),
        &object.spec,
        object.spec.server.template().unwrap(),
        &facts,
        &images(),
    )
}

pub(super) fn build_protected_server(changes: &Value) -> ProtectedServerObjects {
    try_protected_server(changes).unwrap()
}

pub(super) fn auth_server_pod(objects: &AuthServerObjects) -> PodSpec {
    objects
        .deployment
        .spec
        .clone()
        .unwrap()
        .template
        .spec
        .unwrap()
}

pub(super) fn protected_server_pod(objects: &ProtectedServerObjects) -> PodSpec {
    objects
        .deployment
        .spec
        .clone()
        .unwrap()
        .template
        .spec
        .unwrap()
}

fn managed() -> Value {
    json!({ "storage": { "postgres": { "managed": {} } } })
}

fn postgres_pod() -> PodSpec {
    let stateful_set = build_auth_server(&managed()).postgres.unwrap().stateful_set;
    stateful_set.spec.unwrap().template.spec.unwrap()
}

/// What <https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted> asks for,
/// and what we ask for besides.
#[test]
fn every_pod_meets_the_restricted_standard() {
    let pods = [
        auth_server_pod(&build_auth_server(&json!({}))),
        protected_server_pod(&build_protected_server(&json!({}))),
        postgres_pod(),
    ];
    for pod in pods {
        let security = pod.security_context.as_ref().unwrap();
        assert_eq!(security.run_as_non_root, Some(true));
        assert!(security.run_as_user.unwrap() > 0);
        assert_eq!(
            security.seccomp_profile.as_ref().unwrap().type_,
            "RuntimeDefault"
        );
        for container in pod
            .containers
            .iter()
            .chain(pod.init_containers.iter().flatten())
        {
            let security = container.security_context.as_ref().unwrap();
            assert_eq!(security.allow_privilege_escalation, Some(false));
            assert_eq!(security.read_only_root_filesystem, Some(true));
            let capabilities = security.capabilities.as_ref().unwrap();
            assert_eq!(capabilities.drop, Some(vec!["ALL".to_owned()]));
            let resources = container.resources.as_ref().unwrap();
            assert!(resources.requests.as_ref().unwrap().contains_key("cpu"));
            assert!(resources.limits.as_ref().unwrap().contains_key("memory"));
        }
    }
}

/// The pods of an authorization server, its database and a protected server.
fn pods_with(images: &Images) -> [PodSpec; 3] {
    let object = auth_server_with(&managed());
    let inputs = AuthServerInputs {
        images,
        admins: &admins(),
        secrets_hash: "",
        database: &postgres::PostgresInputs::default(),
    };
    let owner = Owner::of(&object).unwrap();
    let server = auth_server::build(&owner, &object.spec, &inputs).unwrap();
    let database = server.postgres.as_ref().unwrap().stateful_set.spec.clone();
    let object = protected_server_with(&json!({}));
    let facts = AuthServerFacts {
        issuer: "http://localhost:9000".to_owned(),
        internal_url: names::internal_url("team", "auth", false),
        internal_ca: None,
    };
    let owner = Owner::of(&object).unwrap();
    let (spec, template) = (&object.spec, object.spec.server.template().unwrap());
    let protected = protected_server::build(&owner, spec, template, &facts, images).unwrap();
    [
        auth_server_pod(&server),
        database.unwrap().template.spec.unwrap(),
        protected_server_pod(&protected),
    ]
}

#[test]
fn every_pod_is_pulled_by_the_operators_secrets() {
    let images = Images {
        pull_secrets: vec!["mirror".to_owned(), "other".to_owned()],
        ..images()
    };
    for pod in pods_with(&images) {
        let secrets = pod.image_pull_secrets.unwrap();
        let names: Vec<&str> = secrets.iter().map(|secret| secret.name.as_str()).collect();
        assert_eq!(names, ["mirror", "other"]);
    }
    // Without any the field is left to the ServiceAccount's.
    let pod = protected_server_pod(&build_protected_server(&json!({})));
    assert_eq!(pod.image_pull_secrets, None);
}

/// All values of these keys, at any depth.
fn values_of<'a>(value: &'a Value, keys: &[&str]) -> Vec<&'a Value> {
    match value {
        Value::Object(fields) => {
            let here = fields
                .iter()
                .filter(|(key, _)| keys.contains(&key.as_str()));
            let below = fields.values().flat_map(|value| values_of(value, keys));
            here.map(|(_, value)| value).chain(below).collect()
        }
        Value::Array(items) => items
            .iter()
            .flat_map(|item| values_of(item, keys))
            .collect(),
        _ => Vec::new(),
    }
}

/// OpenShift refuses every uid and gid that is not of the namespace's range.
#[test]
fn no_pod_names_a_user_where_the_platform_sets_them() {
    let keys = [
        "runAsUser",
        "runAsGroup",
        "fsGroup",
        "supplementalGroups",
        "defaultMode",
        "mode",
    ];
    let fixed = pods_with(&images());
    let free = pods_with(&Images {
        fixed_user_ids: false,
        ..images()
    });
    for (fixed, free) in fixed.into_iter().zip(free) {
        let named = serde_json::to_value(&fixed).unwrap();
        assert_eq!(values_of(&named, &keys).len(), 3, "{named}");
        let named = serde_json::to_value(&free).unwrap();
        assert!(values_of(&named, &keys).is_empty(), "{named}");
        // Nothing else differs.
        let mut expected = fixed;
        let security = expected.security_context.as_mut().unwrap();
        security.run_as_user = None;
        security.run_as_group = None;
        security.fs_group = None;
        assert_eq!(free, expected);
        assert_eq!(pod_security::of_pod(&free), Vec::<String>::new());
    }
}

/// The chart's PodMonitors select by these.
#[test]
fn what_is_scraped_has_its_labels_and_its_port() {
    let server = build_auth_server(&json!({})).deployment;
    let protected = build_protected_server(&json!({})).deployment;
    for (deployment, name) in [(server, "mcp-authserver"), (protected, "mcp-server")] {
        let template = deployment.spec.unwrap().template;
        let labels = template.metadata.unwrap().labels.unwrap();
        assert_eq!(labels["app.kubernetes.io/name"], name);
        assert_eq!(labels["app.kubernetes.io/managed-by"], "mcp-auth-operator");
        let pod = template.spec.unwrap();
        let containers = pod.init_containers.iter().flatten().chain(&pod.containers);
        let ports = containers.flat_map(|container| container.ports.iter().flatten());
        let health = ports.filter(|port| port.name.as_deref() == Some("health"));
        let numbers: Vec<i32> = health.map(|port| port.container_port).collect();
        assert_eq!(numbers, [9090], "{name}");
    }
}

#[test]
fn nobody_gets_round_the_proxy_or_to_the_database() {
    let policy = build_protected_server(&json!({})).network_policy;
    let spec = serde_json::to_value(policy.spec.unwrap()).unwrap();
    let labels = |name: &str, kind: &str, owner: &str| {
        json!({ "matchLabels": {
            "app.kubernetes.io/name": name, format!("mcpauth.io/{kind}"): owner } })
    };
    let port = |port: u16| json!({ "protocol": "TCP", "port": port });
    let expected = json!({
        "podSelector": labels("mcp-server", "protected-server", "notes"), "policyTypes": ["Ingress"],
        "ingress": [{ "ports": [port(8080), port(9090)] }],
    });
    assert_eq!(spec, expected);

    let policy = build_auth_server(&json!({})).network_policy;
    let spec = serde_json::to_value(policy.spec.unwrap()).unwrap();
    let proxies = json!({ "app.kubernetes.io/name": "mcp-server", "app.kubernetes.io/managed-by": "mcp-auth-operator" });
    let admin = |name: &str| json!({ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": name } } });
    let expected = json!({
        "podSelector": labels("mcp-authserver", "auth-server", "auth"), "policyTypes": ["Ingress"],
        "ingress": [
            { "ports": [port(8080), port(9090)] },
            { "from": [
                { "namespaceSelector": {}, "podSelector": { "matchLabels": proxies } },
                admin("mcp-auth"), admin("mcp-auth-system"),
            ], "ports": [port(8081)] },
        ],
    });
    assert_eq!(spec, expected);

    let policy = build_auth_server(&managed()).postgres.unwrap();
    let spec = serde_json::to_value(policy.network_policy.spec.unwrap()).unwrap();
    let expected = json!({
        "podSelector": labels("postgres", "auth-server", "auth"), "policyTypes": ["Ingress"],
        "ingress": [{
            "from": [{ "podSelector": labels("mcp-authserver", "auth-server", "auth") }], "ports": [port(5432)],
        }],
    });
    assert_eq!(spec, expected);
}

#[test]
fn the_proxy_is_a_native_sidecar_that_starts_first() {
    let pod = protected_server_pod(&build_protected_server(&json!({})));
    let sidecars = pod.init_containers.unwrap();
    assert_eq!(sidecars.len(), 1);
    assert_eq!(sidecars[0].restart_policy.as_deref(), Some("Always"));
    assert_ne!(sidecars[0].startup_probe, sidecars[0].liveness_probe);
    assert_ne!(sidecars[0].liveness_probe, sidecars[0].readiness_probe);
}

#[test]
fn only_the_proxy_has_a_token_and_only_for_the_authserver() {
    let pod = protected_server_pod(&build_protected_server(&json!({})));
    assert_eq!(pod.automount_service_account_token, Some(false));
    let token = pod
        .volumes
        .iter()
        .flatten()
        .find(|v| v.projected.is_some())
        .unwrap();
    let sources = token.projected.as_ref().unwrap().sources.as_ref().unwrap();
    let audience = &sources[0].service_account_token.as_ref().unwrap().audience;
    assert_eq!(
        audience.as_deref(),
        Some("http://auth-authserver-internal.team.svc:8081")
    );
    let has_token = |container: &Container| {
        container
            .volume_mounts
            .iter()
            .flatten()
            .any(|mount| mount.name == token.name)
    };
    assert!(has_token(&pod.init_containers.as_ref().unwrap()[0]));
    assert!(!pod.containers.iter().any(has_token));
}

#[test]
fn a_service_reaches_only_the_proxy() {
    let objects =
        build_protected_server(&json!({ "service": { "type": "NodePort", "nodePort": 30901 } }));
    let service = objects.service.spec.unwrap();
    assert_eq!(service.type_.as_deref(), Some("NodePort"));
    let ports = service.ports.unwrap();
    assert_eq!(ports.len(), 1);
    assert_eq!((ports[0].port, ports[0].node_port), (80, Some(30901)));
    assert_eq!(ports[0].target_port, Some(IntOrString::Int(8080)));
}

#[test]
fn the_internal_port_is_never_published() {
    let objects = build_auth_server(&json!({ "service": { "type": "LoadBalancer" } }));
    assert_eq!(
        objects.service.spec.unwrap().type_.as_deref(),
        Some("LoadBalancer")
    );
    let internal = objects.internal_service;
    assert_eq!(internal.name_any(), "auth-authserver-internal");
    let spec = internal.spec.unwrap();
    assert_eq!(spec.type_.as_deref(), Some("ClusterIP"));
    assert_eq!(spec.ports.unwrap()[0].port, 8081);
}

#[test]
fn a_changed_policy_leaves_the_pods_alone() {
    let before = build_protected_server(&json!({}));
    let after = build_protected_server(&json!({ "access": {}, "identity": { "headers": {} } }));
    assert_ne!(before.config_map, after.config_map);
    assert_eq!(before.deployment, after.deployment);
}

#[test]
fn a_changed_setting_or_secret_restarts_the_authserver() {
    let annotation = |objects: AuthServerObjects| {
        let template = objects.deployment.spec.unwrap().template;
        template.metadata.unwrap().annotations.unwrap()[CONFIG_HASH].clone()
    };
    let before = annotation(build_auth_server(&json!({})));
    assert_eq!(before, annotation(build_auth_server(&json!({}))));
    let settings = json!({ "tokens": { "accessTokenSeconds": 60 } });
    assert_ne!(before, annotation(build_auth_server(&settings)));
    assert_ne!(
        before,
        annotation(build_auth_server_with(&json!({}), "other"))
    );
}

#[test]
fn memory_is_never_served_by_two_pods_at_once() {
    let strategy = |objects: AuthServerObjects| {
        objects
            .deployment
            .spec
            .unwrap()
            .strategy
            .unwrap()
            .type_
            .unwrap()
    };
    assert_eq!(strategy(build_auth_server(&json!({}))), "Recreate");
    assert_eq!(strategy(build_auth_server(&managed())), "RollingUpdate");
}

#[test]
fn a_disruption_budget_is_for_several_replicas() {
    assert!(build_auth_server(&json!({})).disruption_budget.is_none());
    let mut changes = managed();
    changes["replicas"] = json!(2);
    let budget = build_auth_server(&changes).disruption_budget.unwrap();
    // Nor must a pod that never comes up keep a node from being drained.
    let policy = budget.spec.unwrap().unhealthy_pod_eviction_policy;
    assert_eq!(policy.as_deref(), Some("AlwaysAllow"));
}

#[test]
fn postgres_comes_only_when_it_is_asked_for() {
    assert!(build_auth_server(&json!({})).postgres.is_none());
    let by_secret = json!({ "storage": { "postgres": { "external": { "urlSecretRef": { "name": "db-app" } } } } });
    let objects = build_auth_server(&by_secret);
    assert!(objects.postgres.is_none());
    let volumes = auth_server_pod(&objects).volumes.unwrap();
    let secret = volumes
        .iter()
        .find(|v| v.name == "postgres")
        .unwrap()
        .secret
        .clone()
        .unwrap();
    assert_eq!(secret.secret_name.as_deref(), Some("db-app"));
    assert_eq!(secret.items.unwrap()[0].key, "uri");
}

#[test]
fn postgres_is_initialised_from_the_secret_that_the_authserver_reads() {
    let object = auth_server_with(&managed());
    let owner = Owner::of(&object).unwrap();
    let data = postgres::secret(&owner, "p4ss").data.unwrap();
    let text = |key: &str| String::from_utf8(data[key].0.clone()).unwrap();
    assert_eq!(
        text("uri"),
        "postgres://mcpauth:p4ss@auth-authserver-db.team.svc:5432/mcpauth"
    );
    assert_eq!(text("password"), "p4ss");
    let pod = postgres_pod();
    let env = pod.containers[0].env.as_ref().unwrap();
    let value = |name: &str| {
        env.iter()
            .find(|v| v.name == name)
            .unwrap()
            .value
            .clone()
            .unwrap()
    };
    assert_eq!(value("POSTGRES_USER"), text("username"));
    assert_eq!(value("POSTGRES_DB"), text("dbname"));
    assert!(value("PGDATA").starts_with("/var/lib/postgresql/data/"));
    let volume = pod
        .volumes
        .iter()
        .flatten()
        .find(|v| v.name == "password")
        .unwrap();
    assert_eq!(
        volume.secret.as_ref().unwrap().secret_name.as_deref(),
        Some("auth-authserver-db")
    );
}

#[test]
fn the_initial_access_token_is_where_the_authserver_reads_it() {
    let gate = json!({ "registration": { "dynamic": { "initialAccessTokenSecretRef": { "name": "gate" } } } });
    let objects = build_auth_server(&gate);
    let pod = auth_server_pod(&objects);
    let mut volumes = pod.volumes.iter().flatten();
    let volume = volumes
        .find(|volume| volume.name == "registration")
        .unwrap();
    let secret = volume.secret.as_ref().unwrap();
    assert_eq!(secret.secret_name.as_deref(), Some("gate"));
    let item = &secret.items.as_ref().unwrap()[0];
    let mounts = pod.containers[0].volume_mounts.as_ref().unwrap();
    let mount = mounts
        .iter()
        .find(|mount| mount.name == "registration")
        .unwrap();
    // Of a folder: a single file would never be updated.
    assert_eq!(mount.sub_path, None);
    let file = format!("{}/{}", mount.mount_path, item.path);
    let config = objects.config_map.data.unwrap();
    let config = AuthServerConfig::parse(&config["authserver.yaml"]).unwrap();
    let dynamic = config.registration.dynamic.unwrap();
    assert_eq!(dynamic.initial_access_token_file, Some(file.into()));

    let open = build_auth_server(&json!({ "registration": { "dynamic": {} } }));
    let volumes = auth_server_pod(&open).volumes.unwrap();
    assert!(volumes.iter().all(|volume| volume.name != "registration"));
}

#[test]
fn the_headers_for_the_collector_are_where_the_authserver_reads_them() {
    let otlp = json!({ "endpoint": "http://collector:4318", "headersSecretRef": { "name": "otlp", "key": "h" } });
    let telemetry = json!({ "logLevel": "debug", "audit": { "enabled": false }, "otlp": otlp });
    let objects = build_auth_server(&json!({ "telemetry": telemetry }));
    let pod = auth_server_pod(&objects);
    let mut volumes = pod.volumes.iter().flatten();
    let volume = volumes.find(|volume| volume.name == "otlp").unwrap();
    let secret = volume.secret.as_ref().unwrap();
    assert_eq!(secret.secret_name.as_deref(), Some("otlp"));
    let item = &secret.items.as_ref().unwrap()[0];
    assert_eq!(item.key, "h");
    let mounts = pod.containers[0].volume_mounts.as_ref().unwrap();
    let mount = mounts.iter().find(|mount| mount.name == "otlp").unwrap();
    let file = format!("{}/{}", mount.mount_path, item.path);
    let config = objects.config_map.data.unwrap();
    let config = AuthServerConfig::parse(&config["authserver.yaml"]).unwrap();
    let expected = json!({
        "logLevel": "debug", "audit": { "enabled": false },
        "otlp": { "endpoint": "http://collector:4318", "headersFile": file },
    });
    assert_eq!(serde_json::to_value(config.telemetry).unwrap(), expected);

    let usual = build_auth_server(&json!({}));
    let volumes = auth_server_pod(&usual).volumes.unwrap();
    assert!(volumes.iter().all(|volume| volume.name != "otlp"));
    let config = usual.config_map.data.unwrap();
    let config = AuthServerConfig::parse(&config["authserver.yaml"]).unwrap();
    assert_eq!(config.telemetry, Telemetry::default());
}

#[test]
fn the_headers_for_the_collector_are_where_the_proxy_reads_them() {
    let otlp = json!({ "endpoint": "http://collector:4318", "headersSecretRef": { "name": "otlp", "key": "h" } });
    let telemetry = json!({ "logLevel": "debug", "audit": { "enabled": false }, "otlp": otlp });
    let objects = build_protected_server(&json!({ "telemetry": telemetry }));
    let pod = protected_server_pod(&objects);
    let mut volumes = pod.volumes.iter().flatten();
    let volume = volumes.find(|volume| volume.name == "mcpauth-otlp");
    let secret = volume.unwrap().secret.as_ref().unwrap();
    assert_eq!(secret.secret_name.as_deref(), Some("otlp"));
    let item = &secret.items.as_ref().unwrap()[0];
    assert_eq!(item.key, "h");
    let proxy = &pod.init_containers.as_ref().unwrap()[0];
    let mut mounts = proxy.volume_mounts.iter().flatten();
    let mount = mounts.find(|mount| mount.name == "mcpauth-otlp").unwrap();
    let file = format!("{}/{}", mount.mount_path, item.path);
    let config = objects.config_map.data.unwrap();
    let config = ProxyConfig::parse(&config["proxy.yaml"]).unwrap();
    let expected = json!({
        "logLevel": "debug", "audit": { "enabled": false },
        "otlp": { "endpoint": "http://collector:4318", "headersFile": file },
    });
    assert_eq!(serde_json::to_value(config.telemetry).unwrap(), expected);

    let usual = build_protected_server(&json!({}));
    let volumes = protected_server_pod(&usual).volumes.unwrap();
    assert!(volumes.iter().all(|volume| volume.name != "mcpauth-otlp"));
    let config = usual.config_map.data.unwrap();
    let config = ProxyConfig::parse(&config["proxy.yaml"]).unwrap();
    assert_eq!(config.telemetry, Telemetry::default());
}

/// With `OrderedReady` the controller waits for ever for the broken pod.
#[test]
fn a_mended_image_replaces_a_pod_that_never_came_up() {
    let stateful_set = build_auth_server(&managed()).postgres.unwrap().stateful_set;
    let policy = stateful_set.spec.unwrap().pod_management_policy;
    assert_eq!(policy.as_deref(), Some("Parallel"));
}

/// Argo CD takes what has this label for a part of its application of that name, and prunes it if it has no owner.
#[test]
fn what_outlives_its_owner_is_no_part_of_an_application() {
    let auth = Owner::of(&auth_server_with(&managed())).unwrap();
    let robot: McpOAuthClient = with_meta(McpOAuthClient::new(
        "robot",
        serde_json::from_value(json!({ "authServerRef": { "name": "auth" } })).unwrap(),
    ));
    let client = Owner::of(&robot).unwrap();
    for secret in [
        auth_server::keys_secret(&auth, &[7; 32]),
        postgres::secret(&auth, "secret"),
        oauth_client::secret(&client, &robot.spec, None, "http://localhost:9000"),
    ] {
        let labels = secret.metadata.labels.unwrap();
        assert_eq!(labels["app.kubernetes.io/managed-by"], "mcp-auth-operator");
        assert!(!labels.contains_key("app.kubernetes.io/instance"));
        assert_eq!(secret.metadata.owner_references, None);
    }
}

#[test]
fn children_belong_to_their_owner() {
    let objects = build_auth_server(&managed());
    for meta in [
        objects.service_account.meta(),
        objects.config_map.meta(),
        objects.deployment.meta(),
        objects.service.meta(),
        objects.internal_service.meta(),
        objects.postgres.as_ref().unwrap().stateful_set.meta(),
        objects.postgres.as_ref().unwrap().service.meta(),
    ] {
        let owner = &meta.owner_references.as_ref().unwrap()[0];
        assert_eq!(
            (owner.kind.as_str(), owner.controller),
            ("McpAuthServer", Some(true))
        );
        assert_eq!(meta.namespace.as_deref(), Some("team"));
        let labels = meta.labels.as_ref().unwrap();
        assert_eq!(labels["app.kubernetes.io/instance"], "auth");
        assert_eq!(labels["app.kubernetes.io/managed-by"], "mcp-auth-operator");
    }
}

#[test]
fn names_at_the_length_limit_give_valid_children() {
    let mut object = auth_server_with(&managed());
    object.metadata.name = Some("a".repeat(38));
    let owner = Owner::of(&object).unwrap();
    let inputs = AuthServerInputs {
        images: &images(),
        admins: &admins(),
        secrets_hash: "",
        database: &postgres::PostgresInputs::default(),
    };
    let objects = auth_server::build(&owner, &object.spec, &inputs).unwrap();
    assert!(objects.internal_service.name_any().len() <= 63);
    // Pods of a StatefulSet carry its name and a hash of eleven characters in one label.
    assert!(objects.postgres.unwrap().stateful_set.name_any().len() <= 52);
}

#[test]
fn the_keys_secret_is_what_the_authserver_reads() {
    let object = auth_server_with(&json!({}));
    let secret = auth_server::keys_secret(&Owner::of(&object).unwrap(), &[0; 32]);
    let pepper = String::from_utf8(secret.data.unwrap()["pepper"].0.clone()).unwrap();
    assert_eq!(pepper, format!("1:{}=\n", "A".repeat(43)));
}

#[test]
fn a_public_client_has_no_secret() {
    let client = |method: &str| {
        let spec = json!({
            "authServerRef": { "name": "auth" },
            "clientName": "x",
            "tokenEndpointAuthMethod": method,
            "redirectUris": ["http://localhost/callback"],
        });
        with_meta(McpOAuthClient::new(
            "robot",
            serde_json::from_value(spec).unwrap(),
        ))
    };
    let public = client("none");
    assert_eq!(
        registration::client("team", "robot", &public.spec, Vec::new(), Some("s")).client_secret,
        None
    );
    let confidential = client("client_secret_basic");
    let registered = registration::client(
        "team",
        "robot",
        &confidential.spec,
        Vec::new(),
        Some("s3cr3t"),
    );
    assert_eq!(
        registered
            .client_secret
            .as_ref()
            .map(mcpauth_wire::Secret::reveal),
        Some("s3cr3t")
    );
    assert!(!format!("{registered:?}").contains("s3cr3t"));
    let owner = Owner::of(&confidential).unwrap();
    let secret = oauth_client::secret(
        &owner,
        &confidential.spec,
        Some("s3cr3t"),
        "http://localhost:9000",
    );
    assert_eq!(secret.name_any(), "robot-oauth-client");
    let data = secret.data.unwrap();
    assert_eq!(data["client_id"].0, b"team_robot");
    assert_eq!(data["token_endpoint"].0, b"http://localhost:9000/token");
}

#[test]
fn the_hash_tells_parts_apart() {
    assert_ne!(
        hash([b"ab".as_slice(), b"c"]),
        hash([b"a".as_slice(), b"bc"])
    );
    assert_eq!(hash([b"ab".as_slice()]).len(), 32);
}

#[test]
fn what_a_spec_says_of_compute_resources_takes_nothing_else_away() {
    let resources = |given: Value| {
        let objects = build_auth_server(&json!({ "resources": given }));
        let pod = objects.deployment.spec.unwrap().template.spec.unwrap();
        serde_json::to_value(pod.containers[0].resources.clone().unwrap()).unwrap()
    };
    let full = |cpu: &str, memory: &str, limits: Value| json!({ "requests": { "cpu": cpu, "memory": memory }, "limits": limits });
    for (given, expected) in [
        (json!({}), full("50m", "64Mi", json!({ "memory": "256Mi" }))),
        (
            json!({ "requests": { "cpu": "1" } }),
            full("1", "64Mi", json!({ "memory": "256Mi" })),
        ),
        (
            json!({ "requests": { "memory": "1Gi" } }),
            full("50m", "1Gi", json!({ "memory": "1Gi" })),
        ),
        (
            json!({ "limits": { "cpu": 2, "memory": "128Mi" } }),
            full("50m", "64Mi", json!({ "cpu": "2", "memory": "128Mi" })),
        ),
        // Kubernetes requests the limit where there is no request.
        (
            json!({ "limits": { "cpu": "10m", "memory": "32Mi" } }),
            json!({ "limits": { "cpu": "10m", "memory": "32Mi" } }),
        ),
    ] {
        assert_eq!(resources(given.clone()), expected, "{given}");
    }
}

#[test]
fn a_service_is_published_as_the_spec_says() {
    let plain = build_auth_server(&json!({})).service;
    assert_eq!(plain.name_any(), "auth-authserver");
    let port = plain.spec.unwrap().ports.unwrap().remove(0);
    assert_eq!(
        (port.port, port.target_port),
        (80, Some(IntOrString::Int(8080)))
    );

    let service = build_protected_server(&json!({ "service": {
        "type": "LoadBalancer", "port": 8443, "nodePort": 30001,
        "annotations": { "lb.example/kind": "internal" },
        "labels": { "team": "x", "app.kubernetes.io/managed-by": "me" },
        "loadBalancerClass": "lb.example/nlb", "loadBalancerSourceRanges": ["192.0.2.0/24"],
        "externalTrafficPolicy": "Local", "ipFamilyPolicy": "PreferDualStack",
        "sessionAffinity": "ClientIP",
    }}))
    .service;
    assert_eq!(service.name_any(), "notes");
    assert_eq!(service.annotations()["lb.example/kind"], "internal");
    assert_eq!(service.labels()["team"], "x");
    assert_eq!(
        service.labels()["app.kubernetes.io/managed-by"],
        "mcp-auth-operator"
    );
    let spec = serde_json::to_value(service.spec.unwrap()).unwrap();
    let expected = json!({
        "type": "LoadBalancer",
        "ports": [{ "name": "http", "port": 8443, "targetPort": 8080, "nodePort": 30001, "protocol": "TCP" }],
        "selector": { "app.kubernetes.io/name": "mcp-server", "mcpauth.io/protected-server": "notes" },
        "loadBalancerClass": "lb.example/nlb", "loadBalancerSourceRanges": ["192.0.2.0/24"],
        "externalTrafficPolicy": "Local", "ipFamilyPolicy": "PreferDualStack",
        "sessionAffinity": "ClientIP",
    });
    assert_eq!(spec, expected);
}

/// A McpAuthServer and a ProtectedMcpServer can have the same name.
#[test]
fn children_of_two_kinds_of_one_name_differ() {
    let auth = build_auth_server(&managed());
    let database = auth.postgres.unwrap();
    let auth = [
        auth.deployment.name_any(),
        auth.service.name_any(),
        auth.service_account.name_any(),
        auth.config_map.name_any(),
        database.stateful_set.name_any(),
    ];
    assert!(
        auth.iter().all(|name| name.starts_with("auth-authserver")),
        "{auth:?}"
    );
    let notes = build_protected_server(&json!({}));
    assert_eq!(notes.deployment.name_any(), "notes");
    assert_eq!(notes.config_map.name_any(), "notes-proxy-v1");
}

#[test]
fn with_a_certificate_the_internal_port_and_its_callers_use_tls() {
    let plain = build_auth_server(&json!({}));
    let tls = json!({ "internalTls": { "secretRef": { "name": "issued" } } });
    let objects = build_auth_server(&tls);
    let config = |objects: &AuthServerObjects| {
        let text = objects.config_map.data.clone().unwrap()["authserver.yaml"].clone();
        AuthServerConfig::parse(&text).unwrap().internal
    };
    assert_eq!(config(&plain).tls, None);
    let internal = config(&objects);
    let url = "https://auth-authserver-internal.team.svc:8081";
    assert_eq!(internal.service_account_tokens.unwrap().audience, url);
    let files = internal.tls.unwrap();
    let pod = auth_server_pod(&objects);
    let volumes = pod.volumes.unwrap();
    let volume = volumes
        .iter()
        .find(|one| one.name == "internal-tls")
        .unwrap();
    let secret = volume.secret.as_ref().unwrap();
    assert_eq!(secret.secret_name.as_deref(), Some("issued"));
    let mounts = pod.containers[0].volume_mounts.clone().unwrap();
    let mount = mounts
        .iter()
        .find(|one| one.name == "internal-tls")
        .unwrap();
    let mounted = secret.items.as_ref().unwrap().iter();
    let mounted: Vec<_> = mounted
        .map(|item| std::path::Path::new(&mount.mount_path).join(&item.path))
        .collect();
    // Never the CA: it is no business of the server's.
    assert_eq!(mounted, [files.cert_file, files.key_file]);

    let object = protected_server_with(&json!({}));
    let ca = "-----BEGIN CERTIFICATE-----\n…\n-----END CERTIFICATE-----\n";
    let facts = AuthServerFacts {
        issuer: "http://localhost:9000".to_owned(),
        internal_url: names::internal_url("team", "auth", true),
        internal_ca: Some(ca.to_owned()),
    };
    let (owner, template) = (Owner::of(&object).unwrap(), object.spec.server.template());
    let objects =
        protected_server::build(&owner, &object.spec, template.unwrap(), &facts, &images());
    let objects = objects.unwrap();
    let text = objects.config_map.data.clone().unwrap()["proxy.yaml"].clone();
    let introspection = ProxyConfig::parse(&text).unwrap().introspection;
    assert_eq!(introspection.endpoint, format!("{url}/introspect"));
    assert_eq!(introspection.ca.as_deref(), Some(ca));
    let pod = serde_json::to_value(protected_server_pod(&objects)).unwrap();
    assert_eq!(values_of(&pod, &["audience"]), [&json!(url)]);
}
