//! The operator for all namespaces: references from one to another.
//!
//! On an API server of their own, since such an operator serves the objects of every test.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Api;
use kube::api::{Patch, PatchParams};
use mcpauth_api::{McpAuthServer, McpOAuthClient, ProtectedMcpServer};
use serde_json::json;

use crate::support::authserver::AuthServer;
use crate::support::world::{World, specs};
use mcpauth_test_support::wait::eventually;

async fn label(world: &World, labels: serde_json::Value) {
    let api: Api<Namespace> = Api::all(world.client.clone());
    let patch = json!({ "metadata": { "labels": labels } });
    api.patch(
        &world.namespace,
        &PatchParams::default(),
        &Patch::Merge(patch),
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn a_cross_namespace_reference_without_permission_is_refused() {
    let auth = World::apart("auth").await;
    let team = auth.neighbour("team").await;
    let operator = auth.operator_with(auth.client.clone(), None);
    auth.create::<McpAuthServer>("auth", &specs::auth_server())
        .await;
    let authserver = AuthServer::start(&auth, "auth").await;
    auth.pods_are_up("auth-authserver").await;
    let reference = json!({ "name": "auth", "namespace": auth.namespace });
    let spec = specs::with(specs::protected_server(), "/authServerRef", reference);
    team.create::<ProtectedMcpServer>("notes", &spec).await;
    let condition = team
        .not_ready::<ProtectedMcpServer>("notes", "ReferenceNotPermitted")
        .await;
    assert!(
        condition.message.contains("spec.allowedNamespaces"),
        "{}",
        condition.message
    );
    let reference = json!({ "name": "auth", "namespace": auth.namespace });
    let client = specs::with(specs::client(), "/authServerRef", reference);
    team.create::<McpOAuthClient>("robot", &client).await;
    team.not_ready::<McpOAuthClient>("robot", "ReferenceNotPermitted")
        .await;
    let path = format!("resources/{}.notes", team.namespace);
    let client_path = format!("clients/{}_robot", team.namespace);
    for path in [&path, &client_path] {
        assert!(authserver.get(&auth, "auth", path).await.is_none());
    }
    assert!(team.get::<Deployment>("notes").await.is_none());

    // A selector admits it as soon as the namespace has the label.
    let selector = json!({ "from": "Selector", "selector": { "matchLabels": { "mcp": "yes" } } });
    auth.patch::<McpAuthServer>(
        "auth",
        &json!({ "spec": { "allowedNamespaces": selector } }),
    )
    .await;
    label(&team, json!({ "mcp": "yes" })).await;
    team.pods_are_up("notes").await;
    team.is_ready::<ProtectedMcpServer>("notes").await;
    assert!(authserver.get(&auth, "auth", &path).await.is_some());
    team.is_ready::<McpOAuthClient>("robot").await;
    let secret = async || team.get::<Secret>("robot-oauth-client").await.unwrap().data;
    let before = secret().await;

    // Withdrawn: the registrations go, and with them every token.
    label(&team, json!({ "mcp": null })).await;
    team.reaches::<ProtectedMcpServer>("notes", "Registered", "False", "ReferenceNotPermitted")
        .await;
    team.reaches::<McpOAuthClient>("robot", "Registered", "False", "ReferenceNotPermitted")
        .await;
    for path in [&path, &client_path] {
        assert!(authserver.get(&auth, "auth", path).await.is_none());
    }

    // Also when the status has said so before: others may write it.
    authserver.put_client(&auth, "auth", &client_path).await;
    let touch = json!({ "metadata": { "annotations": { "note": "look again" } } });
    team.patch::<McpOAuthClient>("robot", &touch).await;
    eventually("the client is gone again", || async {
        let client = authserver.get(&auth, "auth", &client_path).await;
        client.is_none().then_some(())
    })
    .await;

    // Given again: the client is what it was.
    label(&team, json!({ "mcp": "yes" })).await;
    team.is_ready::<McpOAuthClient>("robot").await;
    assert!(authserver.get(&auth, "auth", &client_path).await.is_some());
    assert_eq!(secret().await, before);

    // Withdrawn while the authorization server is away: made good when it is back.
    auth.endpoints.lock().unwrap().clear();
    team.reaches::<McpOAuthClient>("robot", "Registered", "False", "AuthServerUnreachable")
        .await;
    label(&team, json!({ "mcp": null })).await;
    team.not_ready::<McpOAuthClient>("robot", "ReferenceNotPermitted")
        .await;
    authserver.is_found(&auth, "auth");
    team.reaches::<McpOAuthClient>("robot", "Registered", "False", "ReferenceNotPermitted")
        .await;
    assert!(authserver.get(&auth, "auth", &client_path).await.is_none());
    operator.stop().await;
}
