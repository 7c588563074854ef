//! ProtectedMcpServer, with the real authorization server.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams, PostParams};
use mcp_auth_operator::framework::apply::Applier;
use mcp_auth_operator::framework::written::Written;
use mcp_auth_operator::metrics::Metrics;
use mcpauth_api::{McpAuthServer, McpOAuthClient, ProtectedMcpServer};
use serde_json::json;

use crate::support::authserver::AuthServer;
use crate::support::world::{World, specs};
use mcpauth_test_support::wait::eventually;

#[tokio::test]
async fn is_registered_and_ready_and_removed_on_deletion() {
    let world = World::new("protected").await;
    let operator = world.operator();
    let authserver = AuthServer::create(&world, "auth").await;
    world
        .create::<ProtectedMcpServer>("notes", &specs::protected_server())
        .await;
    world
        .reaches::<ProtectedMcpServer>("notes", "Registered", "True", "Ready")
        .await;
    world
        .not_ready::<ProtectedMcpServer>("notes", "PodsNotReady")
        .await;
    world.pods_are_up("notes").await;
    world.is_ready::<ProtectedMcpServer>("notes").await;
    world
        .reaches::<ProtectedMcpServer>("notes", "Available", "True", "Ready")
        .await;

    let path = format!("resources/{}.notes", world.namespace);
    let resource = authserver.get(&world, "auth", &path).await.unwrap();
    assert_eq!(resource["resource"], "http://localhost:9001/mcp");
    let introspector = format!("system:serviceaccount:{}:notes", world.namespace);
    assert_eq!(resource["introspectors"], json!([introspector]));

    world.delete::<ProtectedMcpServer>("notes").await;
    world.disappears::<ProtectedMcpServer>("notes").await;
    assert!(authserver.get(&world, "auth", &path).await.is_none());
    operator.stop().await;
}

#[tokio::test]
async fn pods_start_while_the_authorization_server_is_away() {
    let world = World::new("away").await;
    let operator = world.operator();
    world
        .create::<McpAuthServer>("auth", &specs::auth_server())
        .await;
    world
        .create::<ProtectedMcpServer>("notes", &specs::protected_server())
        .await;
    let condition = world
        .is_unknown::<ProtectedMcpServer>("notes", "AuthServerUnreachable")
        .await;
    assert!(
        condition.message.contains("does not respond at"),
        "{}",
        condition.message
    );
    world.pods_are_up("notes").await;
    world
        .reaches::<ProtectedMcpServer>("notes", "Available", "True", "Ready")
        .await;
    world
        .is_unknown::<ProtectedMcpServer>("notes", "AuthServerUnreachable")
        .await;

    // It comes, and its Ready finds those who wait for it.
    let _authserver = AuthServer::start(&world, "auth").await;
    world.pods_are_up("auth-authserver").await;
    world.is_ready::<ProtectedMcpServer>("notes").await;
    operator.stop().await;
}

#[tokio::test]
async fn a_changed_policy_reaches_the_configuration_and_not_the_pods() {
    let world = World::new("policy").await;
    let operator = world.operator();
    world
        .create::<McpAuthServer>("auth", &specs::auth_server())
        .await;
    world
        .create::<ProtectedMcpServer>("notes", &specs::protected_server())
        .await;
    let before: Deployment = world.appears("notes").await;
    let access = json!({ "spec": { "access": { "rules": [{ "tools": ["purge_*"], "scopes": ["notes:write"] }] } } });
    world.patch::<ProtectedMcpServer>("notes", &access).await;
    eventually("proxy.yaml has the new policy", || async {
        let data = world.get::<ConfigMap>("notes-proxy-v1").await?.data?;
        data["proxy.yaml"].contains("purge_").then_some(())
    })
    .await;
    operator.goes_on(2).await;
    let after: Deployment = world.get("notes").await.unwrap();
    assert_eq!(after.metadata.generation, before.metadata.generation);
    operator.stop().await;
}

#[tokio::test]
async fn only_what_a_memory_may_lose_is_looked_at_often() {
    let world = World::new("often").await;
    let operator = world.operator_for(world.client.clone(), |config| {
        config.watch_namespaces = vec![world.namespace.clone()];
        config.long_resync_seconds = 3600;
    });
    let database: Secret = serde_json::from_value(json!({
        "metadata": { "name": "database" }, "stringData": { "uri": "postgres://u:p@db/d" },
    }))
    .unwrap();
    let secrets = world.api::<Secret>();
    secrets
        .create(&PostParams::default(), &database)
        .await
        .unwrap();
    let storage = json!({ "postgres": { "external": { "urlSecretRef": { "name": "database" } } } });
    let kept = specs::with(specs::auth_server(), "/storage", storage);
    world
        .create::<McpAuthServer>("auth", &specs::auth_server())
        .await;
    world.create::<McpAuthServer>("kept", &kept).await;
    let _in_memory = AuthServer::start(&world, "auth").await;
    let _in_database = AuthServer::start(&world, "kept").await;
    world
        .create::<ProtectedMcpServer>("notes", &specs::protected_server())
        .await;
    let reference = json!({ "name": "kept" });
    let client = specs::with(specs::client(), "/authServerRef", reference);
    world.create::<McpOAuthClient>("robot", &client).await;
    for name in ["auth-authserver", "kept-authserver", "notes"] {
        world.pods_are_up(name).await;
    }
    world.is_ready::<McpAuthServer>("auth").await;
    world.is_ready::<McpAuthServer>("kept").await;
    world.is_ready::<ProtectedMcpServer>("notes").await;
    world.is_ready::<McpOAuthClient>("robot").await;

    // What the last changes have set off comes to its end first.
    let often = || operator.reconciles_of("ProtectedMcpServer");
    let others = || operator.reconciles() - often();
    let goes_on = async || {
        let goal = often() + 3;
        eventually("it is looked at often", || async {
            (often() >= goal).then_some(())
        })
        .await;
    };
    goes_on().await;
    let before = others();
    goes_on().await;
    assert_eq!(others(), before);

    // A change of the authorization server that does not concern its clients does not wake them.
    let clients = || operator.reconciles_of("McpOAuthClient");
    let before = clients();
    let note = json!({ "metadata": { "annotations": { "note": "of no concern" } } });
    world.patch::<McpAuthServer>("kept", &note).await;
    goes_on().await;
    assert_eq!(clients(), before);
    world.pods_are_down("kept-authserver").await;
    eventually("the client is looked at", || async {
        (clients() > before).then_some(())
    })
    .await;
    operator.stop().await;
}

/// Kubelet writes a changed ConfigMap into a pod once a minute, or when the pod changes.
#[tokio::test]
async fn a_changed_policy_touches_the_pods_so_that_it_arrives_at_once() {
    let world = World::new("hurry").await;
    let operator = world.operator();
    let _authserver = AuthServer::create(&world, "auth").await;
    world
        .create::<ProtectedMcpServer>("notes", &specs::protected_server())
        .await;
    let deployment: Deployment = world.appears("notes").await;
    let mut labels = deployment.spec.unwrap().template.metadata.unwrap().labels;
    let own_labels = labels.clone();
    let pods = world.api::<Pod>();
    world.pods_are_up("notes").await;
    for name in ["notes-x", "other-x"] {
        let pod = json!({
            "metadata": { "name": name, "labels": labels },
            "spec": { "containers": [{ "name": "server", "image": "notes:test" }] },
        });
        let pod: Pod = serde_json::from_value(pod).unwrap();
        pods.create(&PostParams::default(), &pod).await.unwrap();
        // One of an earlier revision that has ended: it does not keep the policy from being in force.
        let ended = json!({ "status": { "phase": "Failed" } });
        let params = PatchParams::default();
        pods.patch_status(name, &params, &Patch::Merge(ended))
            .await
            .unwrap();
        labels
            .get_or_insert_default()
            .insert("mcpauth.io/protected-server".to_owned(), "other".to_owned());
    }
    world.is_ready::<ProtectedMcpServer>("notes").await;
    let version = async |name: &str| pods.get(name).await.unwrap().resource_version();
    let (before, other) = (version("notes-x").await, version("other-x").await);
    operator.goes_on(3).await;
    assert_eq!(version("notes-x").await, before);

    let access = json!({ "spec": { "access": { "rules": [{ "tools": ["purge_*"], "scopes": ["notes:write"] }] } } });
    world.patch::<ProtectedMcpServer>("notes", &access).await;
    eventually("the pod is touched", || async {
        let pod = pods.get("notes-x").await.unwrap();
        let config: ConfigMap = world.get("notes-proxy-v1").await?;
        let told = pod.annotations().get("mcpauth.io/config-hash")?.clone();
        (config.metadata.annotations?["mcpauth.io/desired-hash"] == told).then_some(())
    })
    .await;
    let touched = version("notes-x").await;
    // Injected, not owned: the pod stays whose it was.
    let pod = pods.get("notes-x").await.unwrap();
    assert_eq!(pod.metadata.owner_references, None);
    assert_eq!(pod.metadata.labels, own_labels);
    operator.goes_on(3).await;
    operator.stop().await;
    let operator = world.operator();
    operator.goes_on(3).await;
    assert_eq!(version("notes-x").await, touched);
    assert_eq!(version("other-x").await, other);
    operator.stop().await;
}

#[tokio::test]
async fn nothing_is_injected_into_an_object_that_is_gone_or_was_replaced() {
    let world = World::new("inject").await;
    let maps = world.api::<ConfigMap>();
    let map: ConfigMap =
        serde_json::from_value(json!({ "metadata": { "name": "theirs" } })).unwrap();
    let (metrics, written) = (Metrics::default(), Written::default());
    let applier = Applier {
        manager: "test",
        written: &written,
        metrics: &metrics,
        fresh: false,
    };
    let fields = json!({ "metadata": { "annotations": { "note": "injected" } } });

    let first = maps.create(&PostParams::default(), &map).await.unwrap();
    applier
        .inject(&maps, &first.metadata, &fields)
        .await
        .unwrap();
    let injected = maps.get("theirs").await.unwrap();
    assert_eq!(injected.annotations()["note"], "injected");

    world.delete::<ConfigMap>("theirs").await;
    world.disappears::<ConfigMap>("theirs").await;
    applier
        .inject(&maps, &first.metadata, &fields)
        .await
        .unwrap();
    assert_eq!(world.get::<ConfigMap>("theirs").await, None);

    maps.create(&PostParams::default(), &map).await.unwrap();
    applier
        .inject(&maps, &first.metadata, &fields)
        .await
        .unwrap();
    assert!(maps.get("theirs").await.unwrap().annotations().is_empty());
}

#[tokio::test]
async fn a_resource_that_another_one_has_is_a_conflict() {
    let world = World::new("twice").await;
    let operator = world.operator();
    let _authserver = AuthServer::create(&world, "auth").await;
    world
        .create::<ProtectedMcpServer>("one", &specs::protected_server())
        .await;
    world.pods_are_up("one").await;
    world.is_ready::<ProtectedMcpServer>("one").await;
    world
        .create::<ProtectedMcpServer>("two", &specs::protected_server())
        .await;
    world.pods_are_up("two").await;
    world
        .not_ready::<ProtectedMcpServer>("two", "ResourceConflict")
        .await;
    world
        .reaches::<ProtectedMcpServer>("two", "Degraded", "True", "ResourceConflict")
        .await;
    world.is_ready::<ProtectedMcpServer>("one").await;
    operator.stop().await;
}

#[tokio::test]
async fn a_reference_to_nothing_is_told_and_followed_when_it_exists() {
    let world = World::new("nothing").await;
    let operator = world.operator();
    world
        .create::<ProtectedMcpServer>("notes", &specs::protected_server())
        .await;
    let condition = world
        .not_ready::<ProtectedMcpServer>("notes", "AuthServerNotFound")
        .await;
    assert!(
        condition
            .message
            .contains("create it, or correct spec.authServerRef")
    );
    assert!(world.get::<Deployment>("notes").await.is_none());
    world
        .create::<McpAuthServer>("auth", &specs::auth_server())
        .await;
    world.appears::<Deployment>("notes").await;
    let _authserver = AuthServer::start(&world, "auth").await;
    world
        .reaches::<ProtectedMcpServer>("notes", "Registered", "True", "Ready")
        .await;

    // With the authorization server goes what was registered there. The pods are told of all the same.
    world.pods_are_up("notes").await;
    world
        .reaches::<ProtectedMcpServer>("notes", "Available", "True", "Ready")
        .await;
    world.delete::<McpAuthServer>("auth").await;
    world
        .reaches::<ProtectedMcpServer>("notes", "Registered", "False", "AuthServerNotFound")
        .await;
    world.pods_are_down("notes").await;
    world
        .reaches::<ProtectedMcpServer>("notes", "Available", "False", "PodsNotReady")
        .await;
    operator.stop().await;
}

#[tokio::test]
async fn an_operator_of_one_namespace_refuses_references_to_others() {
    let world = World::new("one-only").await;
    let operator = world.operator();
    let elsewhere = json!({ "name": "auth", "namespace": "elsewhere" });
    let spec = specs::with(specs::protected_server(), "/authServerRef", elsewhere);
    world.create::<ProtectedMcpServer>("notes", &spec).await;
    world
        .not_ready::<ProtectedMcpServer>("notes", "ReferenceNotPermitted")
        .await;
    world.delete::<ProtectedMcpServer>("notes").await;
    world.disappears::<ProtectedMcpServer>("notes").await;
    operator.stop().await;
}

/// An autoscaler and `kubectl scale` write the scale subresource of our kind; a manifest that does not name the
/// replicas leaves them alone.
#[tokio::test]
async fn replicas_are_scaled_and_a_manifest_without_them_does_not_reset_them() {
    let world = World::new("scale").await;
    let operator = world.operator();
    let _authserver = AuthServer::create(&world, "auth").await;
    let servers = world.api::<ProtectedMcpServer>();
    let manifest = json!({
        "apiVersion": "mcpauth.io/v1alpha1", "kind": "ProtectedMcpServer",
        "metadata": { "name": "notes" }, "spec": specs::protected_server(),
    });
    let apply = async || {
        let params = PatchParams::apply("kubectl");
        servers
            .patch("notes", &params, &Patch::Apply(&manifest))
            .await
            .unwrap();
    };
    apply().await;
    world.pods_are_up("notes").await;
    world.is_ready::<ProtectedMcpServer>("notes").await;

    let scale = async |replicas: i32| {
        let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
        let params = PatchParams::default();
        servers.patch_scale("notes", &params, &patch).await.unwrap()
    };
    let scaled_to = async |replicas: i32| {
        eventually("the Deployment is scaled", || async {
            let spec = world.get::<Deployment>("notes").await?.spec?;
            (spec.replicas == Some(replicas)).then_some(())
        })
        .await;
    };
    scale(3).await;
    scaled_to(3).await;
    apply().await;
    operator.goes_on(3).await;
    scaled_to(3).await;
    world.pods_are_up("notes").await;
    let status = eventually("the scale subresource counts three pods", || async {
        let status = servers.get_scale("notes").await.unwrap().status?;
        (status.replicas == 3).then_some(status)
    })
    .await;
    assert_eq!(
        status.selector.as_deref(),
        Some("app.kubernetes.io/name=mcp-server,mcpauth.io/protected-server=notes")
    );

    scale(0).await;
    scaled_to(0).await;
    world.pods_are_down("notes").await;
    world
        .not_ready::<ProtectedMcpServer>("notes", "ScaledToZero")
        .await;
    scale(1).await;
    scaled_to(1).await;
    world.pods_are_up("notes").await;
    world.is_ready::<ProtectedMcpServer>("notes").await;
    operator.stop().await;
}

/// The annotation stops every change, is reported, and does not stop the deletion.
#[tokio::test]
async fn a_paused_object_is_left_alone_until_it_is_resumed_or_deleted() {
    let world = World::new("paused").await;
    let _operator = world.operator();
    world
        .create::<McpAuthServer>("auth", &specs::auth_server())
        .await;
    world
        .create::<ProtectedMcpServer>("notes", &specs::protected_server())
        .await;
    let image = async || {
        let deployment = world.appears::<Deployment>("notes").await;
        let pod = deployment.spec.unwrap().template.spec.unwrap();
        pod.containers[0].image.clone().unwrap()
    };
    let before = image().await;

    let pause = json!({
        "metadata": { "annotations": { "mcpauth.io/paused": "true" } },
        "spec": { "server": { "template": { "image": "other:1" } } },
    });
    world.patch::<ProtectedMcpServer>("notes", &pause).await;
    world
        .reaches::<ProtectedMcpServer>("notes", "Paused", "True", "Paused")
        .await;
    let server = world.appears::<ProtectedMcpServer>("notes").await;
    let observed = server.status.unwrap().observed_generation;
    assert!(
        observed < server.metadata.generation,
        "the spec is not in force"
    );
    assert_eq!(image().await, before);

    let resume = json!({ "metadata": { "annotations": { "mcpauth.io/paused": null } } });
    world.patch::<ProtectedMcpServer>("notes", &resume).await;
    world
        .reaches::<ProtectedMcpServer>("notes", "Paused", "False", "Resumed")
        .await;
    assert_eq!(image().await, "other:1");

    world.patch::<ProtectedMcpServer>("notes", &pause).await;
    world
        .reaches::<ProtectedMcpServer>("notes", "Paused", "True", "Paused")
        .await;
    // Without it, there is nowhere to unregister from.
    world.ends::<McpAuthServer>("auth").await;
    world.ends::<ProtectedMcpServer>("notes").await;
}
