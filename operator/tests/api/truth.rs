//! What the status says is what is: the policy in force, and why there are no pods.

use std::sync::{Arc, Mutex};

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams};
use mcpauth_api::ProtectedMcpServer;
use mcpauth_api::protected_server::Proxies;
use mcpauth_test_support::wait::eventually;
use mcpauth_wire::proxy_health::{InForce, Rejected};
use serde_json::json;

use crate::support::authserver::AuthServer;
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
