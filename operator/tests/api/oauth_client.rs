//! McpOAuthClient, with the real authorization server.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, PostParams};
use mcpauth_api::{McpAuthServer, McpOAuthClient, ProtectedMcpServer};
use serde_json::json;

use crate::support::authserver::AuthServer;
use crate::support::world::{Operator, World, specs};
use mcpauth_test_support::wait::eventually;

/// A world with an operator, an authorization server, and the client `robot`, which is ready.
async fn with_robot(name: &str) -> (World, Operator, AuthServer) {
    let world = World::new(name).await;
    let operator = world.operator();
    let authserver = AuthServer::create(&world, "auth").await;
    world
        .create::<McpOAuthClient>("robot", &specs::client())
        .await;
    world.is_ready::<McpOAuthClient>("robot").await;
    (world, operator, authserver)
}

fn path(world: &World) -> String {
    format!("clients/{}_robot", world.namespace)
}

async fn secret_of(world: &World, name: &str) -> Option<String> {
    let data = world.get::<Secret>(name).await?.data?;
    Some(String::from_utf8(data.get("client_secret")?.0.clone()).unwrap())
}

#[tokio::test]
async fn gets_its_credentials_and_is_known_to_the_authorization_server() {
    let (world, operator, authserver) = with_robot("client").await;
    let secret: Secret = world.get("robot-oauth-client").await.unwrap();
    let data = secret.data.unwrap();
    let text = |key: &str| String::from_utf8(data[key].0.clone()).unwrap();
    assert_eq!(text("client_id"), format!("{}_robot", world.namespace));
    assert_eq!(text("issuer"), "http://localhost:9000");
    assert_eq!(text("token_endpoint"), "http://localhost:9000/token");
    assert_eq!(text("client_secret").len(), 43);

    let client = authserver.get(&world, "auth", &path(&world)).await.unwrap();
    assert_eq!(client["clientName"], "Robot");
    let object: McpOAuthClient = world.get("robot").await.unwrap();
    let status = object.status.unwrap();
    assert_eq!(status.client_id.unwrap(), text("client_id"));
    assert_eq!(status.secret_name.unwrap(), "robot-oauth-client");
    operator.stop().await;
}

#[tokio::test]
async fn is_put_back_when_the_authorization_server_lost_it() {
    let (world, operator, authserver) = with_robot("lost").await;
    let before = secret_of(&world, "robot-oauth-client").await;
    // In memory it knows nothing after a restart.
    drop(authserver);
    let authserver = AuthServer::start(&world, "auth").await;
    eventually("the client is known again", || async {
        authserver.get(&world, "auth", &path(&world)).await
    })
    .await;
    assert_eq!(secret_of(&world, "robot-oauth-client").await, before);
    world.is_ready::<McpOAuthClient>("robot").await;
    operator.stop().await;
}

#[tokio::test]
async fn a_steady_state_writes_nothing() {
    let (world, operator, _authserver) = with_robot("still").await;
    operator.goes_on(4).await;
    let (versions, writes) = (world.versions().await, operator.writes());
    operator.goes_on(6).await;
    assert_eq!(world.versions().await, versions);
    assert_eq!(operator.writes(), writes);
    operator.stop().await;
}

#[tokio::test]
async fn deletion_removes_it_from_the_authorization_server() {
    let (world, operator, authserver) = with_robot("removed").await;
    world.delete::<McpOAuthClient>("robot").await;
    world.disappears::<McpOAuthClient>("robot").await;
    assert!(
        authserver
            .get(&world, "auth", &path(&world))
            .await
            .is_none()
    );
    operator.stop().await;
}

#[tokio::test]
async fn an_orphan_stays_registered() {
    let (world, operator, authserver) = with_robot("orphan").await;
    world
        .patch::<McpOAuthClient>("robot", &json!({ "spec": { "deletionPolicy": "Orphan" } }))
        .await;
    let kept = secret_of(&world, "robot-oauth-client").await;
    assert!(kept.is_some());
    world.delete::<McpOAuthClient>("robot").await;
    world.disappears::<McpOAuthClient>("robot").await;
    assert!(
        authserver
            .get(&world, "auth", &path(&world))
            .await
            .is_some()
    );
    // A new object of that name takes both up again, and deleting that one takes both away.
    world
        .create::<McpOAuthClient>("robot", &specs::client())
        .await;
    world.is_ready::<McpOAuthClient>("robot").await;
    assert_eq!(secret_of(&world, "robot-oauth-client").await, kept);
    world.delete::<McpOAuthClient>("robot").await;
    world.disappears::<McpOAuthClient>("robot").await;
    assert!(world.get::<Secret>("robot-oauth-client").await.is_none());
    let client = authserver.get(&world, "auth", &path(&world)).await;
    assert_eq!(client, None);
    operator.stop().await;
}

#[tokio::test]
async fn deletion_while_the_authorization_server_is_gone_still_ends() {
    // Its object is gone.
    let (world, operator, authserver) = with_robot("gone").await;
    drop(authserver);
    world.delete::<McpAuthServer>("auth").await;
    world.disappears::<McpAuthServer>("auth").await;
    world.delete::<McpOAuthClient>("robot").await;
    world.disappears::<McpOAuthClient>("robot").await;
    operator.stop().await;

    // It is only unreachable: that is waited out, for two minutes of the operator's clock.
    let (world, operator, authserver) = with_robot("silent").await;
    drop(authserver);
    world.delete::<McpOAuthClient>("robot").await;
    let condition = world.not_ready::<McpOAuthClient>("robot", "Deleting").await;
    assert!(
        condition
            .message
            .ends_with("after 120 s the object is deleted even if this still fails"),
        "{}",
        condition.message
    );
    world.clock.advance(Duration::from_secs(120));
    world.disappears::<McpOAuthClient>("robot").await;
    let notes = world.events("robot", "GaveUpUnregistering").await;
    assert!(
        notes.iter().any(|n| n.contains("may still be registered")),
        "{notes:?}"
    );
    operator.stop().await;
}

#[tokio::test]
async fn a_secret_that_is_missing_is_ready_false_never_regenerated_over_a_live_one() {
    let (world, operator, _authserver) = with_robot("no-secret").await;
    let kept: Secret = world.get("robot-oauth-client").await.unwrap();
    eventually("the operator tells of the lost Secret", || async {
        // A reconcile that has read the Secret before makes it again, as it was: then it is lost once more.
        let api = world.api::<Secret>();
        let _ = api
            .delete("robot-oauth-client", &DeleteParams::default())
            .await;
        let ready = world.condition::<McpOAuthClient>("robot", "Ready").await;
        let seen = format!("{ready:?}");
        ready.filter(|c| c.reason == "SecretLost").ok_or(seen)
    })
    .await;
    operator.goes_on(1).await;
    assert!(world.get::<Secret>("robot-oauth-client").await.is_none());

    let mut restored = kept.clone();
    restored.metadata.resource_version = None;
    restored.metadata.uid = None;
    world
        .api::<Secret>()
        .create(&PostParams::default(), &restored)
        .await
        .unwrap();
    world.is_ready::<McpOAuthClient>("robot").await;
    assert_eq!(
        world
            .get::<Secret>("robot-oauth-client")
            .await
            .unwrap()
            .data,
        kept.data
    );
    operator.stop().await;
}

#[tokio::test]
async fn a_public_client_that_turns_confidential_gets_a_secret_also_after_a_failure() {
    let world = World::new("turned").await;
    let operator = world.operator();
    let _authserver = AuthServer::create(&world, "auth").await;
    let public = json!({
        "authServerRef": { "name": "auth" }, "clientName": "Robot",
        "tokenEndpointAuthMethod": "none", "redirectUris": ["http://localhost/callback"],
    });
    world.create::<McpOAuthClient>("robot", &public).await;
    world.is_ready::<McpOAuthClient>("robot").await;
    assert_eq!(secret_of(&world, "robot-oauth-client").await, None);

    let change = json!({ "spec": {
        "tokenEndpointAuthMethod": "client_secret_basic", "resources": [{ "name": "notes" }],
    }});
    world.patch::<McpOAuthClient>("robot", &change).await;
    world
        .not_ready::<McpOAuthClient>("robot", "ResourceNotFound")
        .await;
    world
        .create::<ProtectedMcpServer>("notes", &specs::protected_server())
        .await;
    world.is_ready::<McpOAuthClient>("robot").await;
    assert!(secret_of(&world, "robot-oauth-client").await.is_some());

    // Now it has one that can be lost.
    let emptied = json!({ "data": { "client_secret": null } });
    eventually("the operator tells of the emptied Secret", || async {
        // A reconcile that has read the Secret before writes it again, as it was: then it is emptied once more.
        world.patch::<Secret>("robot-oauth-client", &emptied).await;
        let ready = world.condition::<McpOAuthClient>("robot", "Ready").await;
        let seen = format!("{ready:?}");
        ready.filter(|c| c.reason == "SecretLost").ok_or(seen)
    })
    .await;
    operator.stop().await;
}

#[tokio::test]
async fn a_secret_of_another_name_keeps_the_value() {
    let (world, operator, _authserver) = with_robot("renamed").await;
    let before = secret_of(&world, "robot-oauth-client").await;
    world
        .patch::<McpOAuthClient>(
            "robot",
            &json!({ "spec": { "secret": { "name": "moved" } } }),
        )
        .await;
    world.appears::<Secret>("moved").await;
    world.disappears::<Secret>("robot-oauth-client").await;
    assert_eq!(secret_of(&world, "moved").await, before);
    operator.stop().await;
}

#[tokio::test]
async fn a_secret_that_someone_else_has_is_not_overwritten() {
    let world = World::new("theirs").await;
    let operator = world.operator();
    world
        .create::<McpAuthServer>("auth", &specs::auth_server())
        .await;
    let spec = specs::with(
        specs::client(),
        "/secret",
        json!({ "name": "auth-authserver-keys" }),
    );
    let keys: Secret = world.appears("auth-authserver-keys").await;
    world.create::<McpOAuthClient>("robot", &spec).await;
    world
        .not_ready::<McpOAuthClient>("robot", "NameConflict")
        .await;
    assert_eq!(
        world.get::<Secret>("auth-authserver-keys").await.unwrap(),
        keys
    );
    operator.stop().await;
}

#[tokio::test]
async fn resources_by_name_are_resolved_and_waited_for() {
    let world = World::new("named").await;
    let operator = world.operator();
    let authserver = AuthServer::create(&world, "auth").await;
    let spec = specs::with(
        specs::client(),
        "/resources",
        json!([{ "name": "notes", "scopes": ["notes:read"] }]),
    );
    world.create::<McpOAuthClient>("robot", &spec).await;
    world
        .not_ready::<McpOAuthClient>("robot", "ResourceNotFound")
        .await;
    world
        .create::<ProtectedMcpServer>("notes", &specs::protected_server())
        .await;
    world.is_ready::<McpOAuthClient>("robot").await;
    let client = authserver.get(&world, "auth", &path(&world)).await.unwrap();
    let named = json!([{ "uri": "http://localhost:9001/mcp", "scopes": ["notes:read"] }]);
    assert_eq!(client["resources"], named);
    assert_eq!(client["namespace"], json!(world.namespace));
    operator.stop().await;
}
