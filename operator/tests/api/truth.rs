//! What the status says is what is: the policy in force, and why there are no pods.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use http::Method;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Event as CoreEvent;
use kube::api::{Patch, PatchParams, PostParams};
use mcpauth_api::protected_server::Proxies;
use mcpauth_api::{McpAuthServer, ProtectedMcpServer};
use mcpauth_test_support::wait::eventually;
use mcpauth_wire::proxy_health::{InForce, Rejected};
use serde_json::json;

use crate::support::authserver::AuthServer;
use crate::support::faults::{self, Fate};
use crate::support::proxies;
use crate::support::world::{World, specs};

/// Ready is true only while every proxy runs the policy as it is written.
#[tokio::test]
async fn ready_waits_for_every_proxy_to_run_the_policy() {
    let world = World::new("in-force").await;
    let operator = world.operator();
    let _authserver = AuthServer::create(&world, "auth").await;
    let two = specs::with(specs::protected_server(), "/replicas", json!(2));
    world.create::<ProtectedMcpServer>("notes", &two).await;
    world.pods_are_up("notes").await;
    world.is_ready::<ProtectedMcpServer>("notes").await;
    let applied = async |status, reason| {
        world
            .reaches::<ProtectedMcpServer>("notes", "PolicyApplied", status, reason)
            .await
    };
    applied("True", "Ready").await;
    let status = world
        .get::<ProtectedMcpServer>("notes")
        .await
        .unwrap()
        .status
        .unwrap();
    assert_eq!(
        status.proxies.unwrap(),
        Proxies {
            total: 2,
            in_force: 2
        }
    );
    let first = status.policy_hash.unwrap();

    // One proxy follows, the other keeps what it has.
    let following = proxies::following(world.api(), "notes").await;
    let said = Arc::new(Mutex::new(InForce {
        hash: first.clone(),
        rejected: None,
    }));
    let saying = Arc::clone(&said);
    let other = proxies::answering(move || {
        let said = saying.lock().unwrap().clone();
        async move { Some(said) }
    })
    .await;
    world.proxies_are_up("notes", &[following, other]).await;
    let tighter = json!({ "spec": { "access": { "unmatched": "RequireAllScopes", "rules": [] } } });
    world.patch::<ProtectedMcpServer>("notes", &tighter).await;
    let pending = world
        .not_ready::<ProtectedMcpServer>("notes", "PolicyPending")
        .await;
    eventually("one of two proxies runs the new policy", || async {
        let condition = applied("False", "PolicyPending").await;
        condition
            .message
            .starts_with("1 of 2 proxies")
            .then_some(())
    })
    .await;
    assert!(
        pending.message.contains("proxies run the policy"),
        "{}",
        pending.message
    );
    let progressing = world
        .condition::<ProtectedMcpServer>("notes", "Progressing")
        .await;
    assert_eq!(progressing.unwrap().status, "True");

    let status = world
        .get::<ProtectedMcpServer>("notes")
        .await
        .unwrap()
        .status
        .unwrap();
    let second = status.policy_hash.unwrap();
    assert_ne!(first, second);
    let reason = "access.rules: unknown field".to_owned();
    said.lock().unwrap().rejected = Some(Rejected {
        hash: Some(second.clone()),
        reason,
    });
    let rejected = world
        .not_ready::<ProtectedMcpServer>("notes", "PolicyRejected")
        .await;
    assert!(
        rejected
            .message
            .contains("keeps the previous one: access.rules: unknown field"),
        "{}",
        rejected.message
    );
    world
        .reaches::<ProtectedMcpServer>("notes", "Degraded", "True", "PolicyRejected")
        .await;

    *said.lock().unwrap() = InForce {
        hash: second,
        rejected: None,
    };
    world.is_ready::<ProtectedMcpServer>("notes").await;
    operator.stop().await;

    // A restart writes nothing, although it asks again.
    let before = world.versions().await;
    let operator = world.operator();
    operator.goes_on(6).await;
    assert_eq!(world.versions().await, before);
    assert_eq!(operator.writes(), 0);

    // A pod that does not answer: nobody knows.
    let nowhere = 1;
    world.proxies_are_up("notes", &[following, nowhere]).await;
    world.pods_are_up_as_they_are("notes").await;
    let unknown = world
        .is_unknown::<ProtectedMcpServer>("notes", "Unreachable")
        .await;
    assert!(
        unknown.message.contains("NetworkPolicies"),
        "{}",
        unknown.message
    );
    applied("Unknown", "Unreachable").await;
    operator.stop().await;
}

/// Quotas, Pod Security and webhooks keep pods from being created, and only the Deployment says so.
#[tokio::test]
async fn why_there_is_no_pod_is_told() {
    let world = World::new("no-pod").await;
    let operator = world.operator();
    let _authserver = AuthServer::create(&world, "auth").await;
    world
        .create::<ProtectedMcpServer>("notes", &specs::protected_server())
        .await;
    let fails = |pod: &str| {
        json!({ "status": { "conditions": [{
            "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
            "message": format!("pods \"{pod}\" is forbidden: exceeded quota: team, requested: pods=1, limited: pods=0"),
        }]}})
    };
    world.appears::<Deployment>("notes").await;
    let deployments = world.api::<Deployment>();
    let params = PatchParams::default();
    let patch = Patch::Merge(fails("notes-a"));
    deployments
        .patch_status("notes", &params, &patch)
        .await
        .unwrap();
    let told = world
        .not_ready::<ProtectedMcpServer>("notes", "PodsNotCreated")
        .await;
    assert!(
        told.message.contains("exceeded quota: team"),
        "{}",
        told.message
    );
    world
        .reaches::<ProtectedMcpServer>("notes", "Degraded", "True", "PodsNotCreated")
        .await;
    let before = world
        .get::<ProtectedMcpServer>("notes")
        .await
        .unwrap()
        .metadata
        .resource_version;
    // Each try names another pod, and is no news.
    let patch = Patch::Merge(fails("notes-b"));
    deployments
        .patch_status("notes", &params, &patch)
        .await
        .unwrap();
    operator.goes_on(3).await;
    let after = world
        .get::<ProtectedMcpServer>("notes")
        .await
        .unwrap()
        .metadata
        .resource_version;
    assert_eq!(after, before);

    let overdue = json!({ "status": { "conditions": [{
        "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
    }]}});
    deployments
        .patch_status("notes", &params, &Patch::Merge(overdue))
        .await
        .unwrap();
    world
        .not_ready::<ProtectedMcpServer>("notes", "RolloutStuck")
        .await;
    world
        .reaches::<ProtectedMcpServer>("notes", "Degraded", "True", "RolloutStuck")
        .await;
    operator.stop().await;
}

/// An event about the managed database, as the StatefulSet controller writes it.
async fn database_event(world: &World, name: &str, reason: &str, second: u32, message: &str) {
    let set: StatefulSet = world.appears("auth-authserver-db").await;
    let time = format!("2030-01-01T00:00:{second:02}Z");
    let event: CoreEvent = serde_json::from_value(json!({
        "metadata": { "name": name },
        "involvedObject": {
            "apiVersion": "apps/v1", "kind": "StatefulSet", "namespace": world.namespace,
            "name": set.metadata.name, "uid": set.metadata.uid,
        },
        "reason": reason, "message": message, "type": "Warning", "count": 1,
        "firstTimestamp": time, "lastTimestamp": time,
        "source": { "component": "statefulset-controller" },
        "reportingComponent": "statefulset-controller",
    }))
    .unwrap();
    let events = world.api::<CoreEvent>();
    events.create(&PostParams::default(), &event).await.unwrap();
}

/// As for Deployments, but only events say why a StatefulSet has no pod.
#[tokio::test]
async fn why_the_database_has_no_pod_is_told() {
    let world = World::new("no-database-pod").await;
    let reads = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&reads);
    let counting = move |method: &Method, path: &str| {
        if method == Method::GET && path.ends_with("/events") {
            counter.fetch_add(1, Ordering::SeqCst);
        }
        Fate::Pass
    };
    let client = faults::client(world.cluster, Arc::new(counting));
    let operator = world.operator_with(client, Some(&world.namespace));
    let managed = json!({ "postgres": { "managed": {} } });
    let spec = specs::with(specs::auth_server(), "/storage", managed);
    world.create::<McpAuthServer>("auth", &spec).await;
    world
        .not_ready::<McpAuthServer>("auth", "DatabaseNotReady")
        .await;

    let quota = "create Pod auth-authserver-db-0 in StatefulSet auth-authserver-db failed error: \
                 pods \"auth-authserver-db-0\" is forbidden: exceeded quota: team";
    database_event(&world, "one", "FailedCreate", 5, quota).await;
    let told = world
        .not_ready::<McpAuthServer>("auth", "PodsNotCreated")
        .await;
    for part in ["PostgreSQL: ", "a pod is forbidden: exceeded quota: team"] {
        assert!(told.message.contains(part), "{}", told.message);
    }
    world
        .reaches::<McpAuthServer>("auth", "Degraded", "True", "PodsNotCreated")
        .await;

    // Created since.
    let created = "create Pod auth-authserver-db-0 in StatefulSet auth-authserver-db successful";
    database_event(&world, "two", "SuccessfulCreate", 6, created).await;
    world
        .not_ready::<McpAuthServer>("auth", "DatabaseNotReady")
        .await;

    // With all its pods, events are not read.
    world.database_is_up("auth-authserver-db").await;
    world.pods_are_up("auth-authserver").await;
    world.is_ready::<McpAuthServer>("auth").await;
    operator.goes_on(1).await;
    let before = reads.load(Ordering::SeqCst);
    assert!(before > 0);
    operator.goes_on(3).await;
    assert_eq!(reads.load(Ordering::SeqCst), before);
    operator.stop().await;
}
