//! The operator for some namespaces, and what its flags change in what it makes.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use mcp_auth_operator::framework::reconciler::referrers;
use mcp_auth_operator::framework::references::Kind;
use mcpauth_api::{McpAuthServer, ProtectedMcpServer};
use mcpauth_test_support::wait::eventually;
use serde_json::json;

use crate::support::authserver::AuthServer;
use crate::support::world::{World, specs};

#[tokio::test]
async fn a_list_of_namespaces_is_served_and_no_other() {
    let auth = World::new("listed-auth").await;
    let team = auth.neighbour("listed-team").await;
    let other = auth.neighbour("unlisted").await;
    let operator = auth.operator_for(auth.client.clone(), |config| {
        config.watch_namespaces = vec![auth.namespace.clone(), team.namespace.clone()];
        // Only what is seen counts.
        (config.resync_seconds, config.long_resync_seconds) = (3600, 3600);
    });
    let everybody = json!({ "from": "All" });
    let spec = specs::with(specs::auth_server(), "/allowedNamespaces", everybody);
    auth.create::<McpAuthServer>("auth", &spec).await;
    let _authserver = AuthServer::start(&auth, "auth").await;
    auth.pods_are_up("auth-authserver").await;
    let reference = json!({ "name": "auth", "namespace": auth.namespace });
    let spec = specs::with(specs::protected_server(), "/authServerRef", reference);
    other.create::<ProtectedMcpServer>("notes", &spec).await;
    team.create::<ProtectedMcpServer>("notes", &spec).await;
    team.pods_are_up("notes").await;
    team.is_ready::<ProtectedMcpServer>("notes").await;

    // Its own namespace's controller looks at it, and no other, which would not find it.
    let key = (auth.namespace.clone(), "auth".to_owned());
    let scopes = operator.context.scopes();
    let looks = scopes
        .iter()
        .map(|scope| referrers::<ProtectedMcpServer>(scope, Kind::AuthServer, key.clone()).len());
    assert_eq!((scopes.len(), looks.sum::<usize>()), (2, 1));

    // A change in one namespace is seen by who refers to it from another.
    let labels = json!({ "from": "Selector", "selector": { "matchLabels": { "mcp": "yes" } } });
    for (allowed, word) in [
        (json!({ "from": "Same", "selector": null }), "ask its owner"),
        (labels, "labels of namespaces"),
    ] {
        let patch = json!({ "spec": { "allowedNamespaces": allowed } });
        auth.patch::<McpAuthServer>("auth", &patch).await;
        eventually(&format!("the reference is refused: {word}"), || async {
            let condition = team
                .condition::<ProtectedMcpServer>("notes", "Ready")
                .await?;
            let refused = condition.reason == "ReferenceNotPermitted";
            (refused && condition.message.contains(word)).then_some(())
        })
        .await;
    }

    // By now somebody would have looked at it.
    let unserved: ProtectedMcpServer = other.get("notes").await.unwrap();
    assert!(unserved.status.is_none() && unserved.metadata.finalizers.is_none());
    assert!(other.get::<Deployment>("notes").await.is_none());
    operator.stop().await;
}

#[tokio::test]
async fn network_policies_are_taken_away_where_they_are_switched_off() {
    let world = World::new("policies").await;
    let operator = world.operator();
    world
        .create::<McpAuthServer>("auth", &specs::auth_server())
        .await;
    world
        .create::<ProtectedMcpServer>("notes", &specs::protected_server())
        .await;
    for name in ["auth-authserver", "notes"] {
        world.appears::<NetworkPolicy>(name).await;
    }
    operator.stop().await;

    let operator = world.operator_for(world.client.clone(), |config| {
        config.network_policies = false;
    });
    for name in ["auth-authserver", "notes"] {
        world.disappears::<NetworkPolicy>(name).await;
    }
    operator.stop().await;
}
