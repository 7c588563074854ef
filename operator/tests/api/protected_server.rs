//! ProtectedMcpServer, with the real authorization server.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use mcpauth_api::{McpAuthServer, ProtectedMcpServer};
use serde_json::json;

use crate::support::authserver::AuthServer;
use crate::support::eventually;
use crate::support::world::{World, specs};

#[tokio::test]
async fn is_registered_and_ready_and_removed_on_deletion() {
    let world = World::new("protected").await;
    let operator = world.operator();
    world
        .create::<McpAuthServer>("auth", &specs::auth_server())
        .await;
    let authserver = AuthServer::start(&world, "auth").await;
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
        .not_ready::<ProtectedMcpServer>("notes", "AuthServerUnreachable")
        .await;
    assert!(
        condition.message.contains("does not answer at"),
        "{}",
        condition.message
    );
    world.pods_are_up("notes").await;
    world
        .reaches::<ProtectedMcpServer>("notes", "Available", "True", "Ready")
        .await;
    world
        .not_ready::<ProtectedMcpServer>("notes", "AuthServerUnreachable")
        .await;

    // It comes, and its Ready finds those who wait for it.
    let _authserver = AuthServer::start(&world, "auth").await;
    world.pods_are_up("auth").await;
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
    let tools = json!({ "spec": { "tools": [{ "name": "purge_*", "scopes": ["notes:write"] }] } });
    world.patch::<ProtectedMcpServer>("notes", &tools).await;
    eventually("proxy.yaml has the new policy", || async {
        let data = world.get::<ConfigMap>("notes-proxy").await?.data?;
        data["proxy.yaml"].contains("purge_").then_some(())
    })
    .await;
    operator.goes_on(2).await;
    let after: Deployment = world.get("notes").await.unwrap();
    assert_eq!(after.metadata.generation, before.metadata.generation);
    operator.stop().await;
}

#[tokio::test]
async fn a_resource_that_another_one_has_is_a_conflict() {
    let world = World::new("twice").await;
    let operator = world.operator();
    world
        .create::<McpAuthServer>("auth", &specs::auth_server())
        .await;
    let _authserver = AuthServer::start(&world, "auth").await;
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
