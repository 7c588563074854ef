//! What a spec says of its pods, on a real API server.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::PostParams;
use mcpauth_api::{McpAuthServer, ProtectedMcpServer};
use mcpauth_test_support::wait::eventually;
use serde_json::{Value, json};

use crate::support::authserver::AuthServer;
use crate::support::world::{World, specs};

const RESTRICTED: &str = "PodSecurityRestricted";

async fn environment_hash(world: &World) -> Option<String> {
    annotation(world, "mcpauth.io/environment-hash").await
}

/// An annotation of the pods.
async fn annotation(world: &World, name: &str) -> Option<String> {
    let deployment: Deployment = world.appears("notes").await;
    let metadata = deployment.spec.unwrap().template.metadata.unwrap();
    metadata.annotations?.get(name).cloned()
}

/// The policy that the proxies read.
async fn policy(world: &World) -> Option<String> {
    let config: ConfigMap = world.appears("notes-proxy-v1").await;
    config.data?.remove("proxy.yaml")
}

#[tokio::test]
async fn what_the_environment_comes_from_replaces_the_pods_when_it_changes() {
    let world = World::new("environment").await;
    let operator = world.operator();
    let secret: Secret = serde_json::from_value(json!({
        "metadata": { "name": "api" }, "stringData": { "key": "one", "other": "one" },
    }))
    .unwrap();
    let settings: ConfigMap = serde_json::from_value(json!({
        "metadata": { "name": "settings" }, "data": { "level": "info" },
    }))
    .unwrap();
    let new = PostParams::default();
    world.api().create(&new, &secret).await.unwrap();
    world.api().create(&new, &settings).await.unwrap();
    world
        .create::<McpAuthServer>("auth", &specs::auth_server())
        .await;
    let mut spec = specs::protected_server();
    let template = &mut spec["server"]["template"];
    template["env"] = json!([
        { "name": "KEY", "valueFrom": { "secretKeyRef": { "name": "api", "key": "key" } } },
        { "name": "LATER", "valueFrom": { "secretKeyRef": { "name": "later", "key": "key", "optional": true } } },
    ]);
    template["envFrom"] = json!([{ "configMapRef": { "name": "settings" } }]);
    world.create::<ProtectedMcpServer>("notes", &spec).await;

    let mut before = environment_hash(&world).await;
    assert!(before.is_some());
    let later: Secret = serde_json::from_value(json!({
        "metadata": { "name": "later" }, "stringData": { "key": "one" },
    }))
    .unwrap();
    for change in ["secret", "config map", "a Secret that was not there"] {
        match change {
            "secret" => {
                let value = json!({ "stringData": { "key": "two" } });
                drop(world.patch::<Secret>("api", &value).await);
            }
            "config map" => {
                let value = json!({ "data": { "level": "debug" } });
                drop(world.patch::<ConfigMap>("settings", &value).await);
            }
            _ => drop(world.api().create(&new, &later).await.unwrap()),
        }
        let what = format!("the pods follow: {change}");
        before = eventually(&what, || async {
            let now = environment_hash(&world).await;
            (now != before).then_some(now)
        })
        .await;
    }

    // A key that no container reads, and what is no value at all.
    let unused =
        json!({ "stringData": { "other": "two" }, "metadata": { "labels": { "a": "b" } } });
    world.patch::<Secret>("api", &unused).await;
    operator.goes_on(2).await;
    assert_eq!(environment_hash(&world).await, before);
    operator.stop().await;
}

/// The proxy reads them only when it starts.
#[tokio::test]
async fn what_a_proxy_tells_of_its_work_replaces_the_pods_when_it_changes() {
    let world = World::new("telemetry").await;
    let operator = world.operator();
    world
        .create::<McpAuthServer>("auth", &specs::auth_server())
        .await;
    world
        .create::<ProtectedMcpServer>("notes", &specs::protected_server())
        .await;
    let hash = || annotation(&world, "mcpauth.io/telemetry-hash");
    assert_eq!(hash().await, None, "the default needs none");
    let telemetry = |value: Value| {
        let patch = json!({ "spec": { "telemetry": value } });
        let world = &world;
        async move { drop(world.patch::<ProtectedMcpServer>("notes", &patch).await) }
    };
    let changed = async |before: Option<String>| {
        eventually("the pods are replaced", || async {
            let now = hash().await;
            (now != before).then_some(now)
        })
        .await
    };
    telemetry(json!({ "logLevel": "debug" })).await;
    let debug = changed(None).await;
    let otlp =
        json!({ "endpoint": "http://collector:4318", "headersSecretRef": { "name": "otlp" } });
    telemetry(json!({ "otlp": otlp })).await;
    let missing = world
        .not_ready::<ProtectedMcpServer>("notes", "SecretNotFound")
        .await;
    assert_eq!(
        missing.message,
        "spec.telemetry.otlp.headersSecretRef: Secret otlp does not exist: create it with key headers"
    );
    let (before, pods) = (policy(&world).await, hash().await);
    assert_eq!(pods, debug, "no pod is replaced for the sake of its hash");
    let unmatched = json!({ "spec": { "access": { "unmatched": "AnyToken" } } });
    world.patch::<ProtectedMcpServer>("notes", &unmatched).await;
    eventually("the new policy is in force without the headers", || async {
        (policy(&world).await != before).then_some(())
    })
    .await;
    world
        .not_ready::<ProtectedMcpServer>("notes", "SecretNotFound")
        .await;
    let secret: Secret = serde_json::from_value(json!({
        "metadata": { "name": "otlp" }, "stringData": { "headers": "hunter2" },
    }))
    .unwrap();
    let new = PostParams::default();
    world.api().create(&new, &secret).await.unwrap();
    let invalid = world
        .not_ready::<ProtectedMcpServer>("notes", "SecretInvalid")
        .await;
    assert!(!invalid.message.contains("hunter2"), "{}", invalid.message);
    let headers = |value: &str| json!({ "stringData": { "headers": value } });
    world.patch::<Secret>("otlp", &headers("x-key: one")).await;
    let one = changed(debug).await;
    world.patch::<Secret>("otlp", &headers("x-key: two")).await;
    changed(one).await;
    operator.stop().await;
}

async fn with_pod_template(world: &World, spec: Value) {
    let patch = json!({ "spec": { "podTemplate": { "spec": spec } } });
    world.patch::<ProtectedMcpServer>("notes", &patch).await;
}

#[tokio::test]
async fn a_pod_template_reaches_the_pods_unless_it_is_refused() {
    let world = World::new("pod-template").await;
    let operator = world.operator();
    let authserver = AuthServer::create(&world, "auth").await;
    world
        .create::<ProtectedMcpServer>("notes", &specs::protected_server())
        .await;
    world.pods_are_up("notes").await;
    world.is_ready::<ProtectedMcpServer>("notes").await;
    world
        .reaches::<ProtectedMcpServer>("notes", RESTRICTED, "True", "Ready")
        .await;

    with_pod_template(&world, json!({ "hostNetwork": true, "toleration": [] })).await;
    let refused = world
        .not_ready::<ProtectedMcpServer>("notes", "InvalidSpec")
        .await;
    for field in ["hostNetwork", "toleration"] {
        let field = format!("spec.podTemplate.spec.{field}: ");
        assert!(refused.message.contains(&field), "{}", refused.message);
    }

    let server = json!({ "name": "server", "securityContext": { "capabilities": { "add": ["NET_ADMIN"] } } });
    let proxy = json!({ "name": "resource-proxy", "resources": { "limits": { "memory": "1Gi" } } });
    let exporter = json!({ "name": "exporter", "image": "exporter:1" });
    let allowed = json!({
        "hostNetwork": null, "toleration": null, "serviceAccountName": "theirs",
        "containers": [server, exporter], "initContainers": [proxy],
    });
    with_pod_template(&world, allowed).await;
    let weak = world
        .reaches::<ProtectedMcpServer>("notes", RESTRICTED, "False", "BelowRestricted")
        .await;
    let field = "containers[server].securityContext.capabilities.add";
    assert!(weak.message.contains(field), "{}", weak.message);
    let pod = eventually("the template is in the Deployment", || async {
        let deployment: Deployment = world.get("notes").await?;
        let pod = deployment.spec?.template.spec?;
        (pod.containers.len() == 2).then_some(pod)
    })
    .await;
    let sidecar = &pod.init_containers.unwrap()[0];
    let limits = sidecar.resources.clone().unwrap().limits.unwrap();
    assert_eq!(limits["memory"].0, "1Gi");
    assert_eq!(pod.service_account_name.as_deref(), Some("theirs"));

    let path = format!("resources/{}.notes", world.namespace);
    let introspector = format!("system:serviceaccount:{}:theirs", world.namespace);
    eventually("the other ServiceAccount introspects", || async {
        let resource = authserver.get(&world, "auth", &path).await?;
        (resource["introspectors"] == json!([introspector])).then_some(())
    })
    .await;

    // Taken away, it is as before.
    let none = json!({ "spec": { "podTemplate": null } });
    world.patch::<ProtectedMcpServer>("notes", &none).await;
    world.pods_are_up("notes").await;
    world
        .reaches::<ProtectedMcpServer>("notes", RESTRICTED, "True", "Ready")
        .await;
    let deployment: Deployment = world.get("notes").await.unwrap();
    let pod = deployment.spec.unwrap().template.spec.unwrap();
    assert_eq!(pod.containers.len(), 1);
    assert_eq!(pod.service_account_name.as_deref(), Some("notes"));
    operator.stop().await;
}

#[tokio::test]
async fn what_only_the_kubernetes_api_knows_to_be_wrong_is_told() {
    let world = World::new("pod-refused").await;
    let operator = world.operator();
    world
        .create::<McpAuthServer>("auth", &specs::auth_server())
        .await;
    let mut spec = specs::protected_server();
    let mount = json!({ "name": "nowhere", "mountPath": "/data" });
    spec["server"]["template"]["volumeMounts"] = json!([mount]);
    world.create::<ProtectedMcpServer>("notes", &spec).await;
    let refused = world
        .not_ready::<ProtectedMcpServer>("notes", "ApplyFailed")
        .await;
    for part in ["containers[0].volumeMounts[0].name", "nowhere"] {
        assert!(refused.message.contains(part), "{}", refused.message);
    }
    operator.stop().await;
}
