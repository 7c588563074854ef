//! The keys that the replicas of a proxy share.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use mcpauth_api::{McpAuthServer, ProtectedMcpServer};
use mcpauth_wire::proxy_keys::ProxyKeys;
use serde_json::json;

use crate::support::world::{World, specs};

const NAME: &str = "notes-proxy-keys";

fn text(secret: &Secret) -> String {
    let value = &secret.data.as_ref().unwrap()["keys"];
    String::from_utf8(value.0.clone()).unwrap()
}

async fn with_server(name: &str) -> World {
    let world = World::new(name).await;
    world
        .create::<McpAuthServer>("auth", &specs::auth_server())
        .await;
    world
        .create::<ProtectedMcpServer>("notes", &specs::protected_server())
        .await;
    world
}

#[tokio::test]
async fn they_are_made_once_and_belong_to_their_object() {
    let world = with_server("proxy-keys").await;
    let operator = world.operator();
    world.appears::<Deployment>("notes").await;
    let made: Secret = world.get(NAME).await.unwrap();
    assert_eq!(ProxyKeys::parse(&text(&made)).unwrap().all().count(), 1);
    // So it is garbage-collected with it.
    let owner = &made.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!(
        (owner.name.as_str(), owner.controller),
        ("notes", Some(true))
    );

    // A person replaces the key by a line on top.
    let rotated = ProxyKeys::new([1; 32]).to_text() + &text(&made);
    world
        .patch::<Secret>(NAME, &json!({ "stringData": { "keys": rotated } }))
        .await;
    operator.goes_on(2).await;
    assert_eq!(text(&world.get(NAME).await.unwrap()), rotated);

    world
        .patch::<Secret>(NAME, &json!({ "stringData": { "keys": "nonsense" } }))
        .await;
    let problem = world
        .not_ready::<ProtectedMcpServer>("notes", "SecretInvalid")
        .await;
    assert!(problem.message.contains(NAME), "{}", problem.message);
    assert!(!problem.message.contains("nonsense"), "{}", problem.message);
    assert_eq!(text(&world.get(NAME).await.unwrap()), "nonsense");

    // Without a Secret there is a new key.
    world.delete::<Secret>(NAME).await;
    let again: Secret = world.appears(NAME).await;
    assert_ne!(text(&again), text(&made));
    operator.stop().await;
}

/// The Secret of another is neither used nor written.
#[tokio::test]
async fn a_foreign_secret_of_that_name_is_a_conflict() {
    let world = with_server("proxy-keys-foreign").await;
    let foreign = json!({ "metadata": { "name": NAME }, "stringData": { "keys": "theirs" } });
    world
        .api::<Secret>()
        .create(
            &kube::api::PostParams::default(),
            &serde_json::from_value(foreign).unwrap(),
        )
        .await
        .unwrap();
    let operator = world.operator();
    world
        .not_ready::<ProtectedMcpServer>("notes", "NameConflict")
        .await;
    assert_eq!(text(&world.get(NAME).await.unwrap()), "theirs");
    assert!(world.get::<Deployment>("notes").await.is_none());
    operator.stop().await;
}
