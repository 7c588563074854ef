//! Resource servers elsewhere: registered alone, and introspecting with a secret.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use kube::api::PostParams;
use mcpauth_api::{McpAuthServer, McpOAuthClient, ProtectedMcpServer};
use mcpauth_test_support::wait::eventually;
use serde_json::{Value, json};

use crate::support::authserver::AuthServer;
use crate::support::world::{World, specs};

const SECRET: &str = "5f0c1d8e9b7a4632aa10fe5d7c3b9841";
const NOTES: &str = "https://notes.example.com/mcp";

fn external() -> Value {
    json!({
        "authServerRef": { "name": "auth" },
        "resource": NOTES,
        "server": { "external": {} },
        "scopes": [{ "name": "notes:read" }],
    })
}

fn with_caller() -> Value {
    let caller = json!({
        "id": "remote-notes", "secretRef": { "name": "remote" }, "server": { "name": "notes" },
    });
    let introspection = json!({ "public": true, "callers": [caller] });
    specs::with(specs::auth_server(), "/introspection", introspection)
}

async fn put_secret(world: &World, value: &str) {
    let secret = json!({ "metadata": { "name": "remote" }, "stringData": { "secret": value } });
    let secret: Secret = serde_json::from_value(secret).unwrap();
    let api = world.api::<Secret>();
    api.create(&PostParams::default(), &secret).await.unwrap();
}

#[tokio::test]
async fn a_server_elsewhere_is_only_registered_and_introspects_its_own_tokens() {
    let world = World::new("external").await;
    let operator = world.operator();
    put_secret(&world, &format!("{SECRET}\n")).await;
    world.create::<McpAuthServer>("auth", &with_caller()).await;
    let authserver = AuthServer::start(&world, "auth").await;
    world.pods_are_up("auth-authserver").await;
    world
        .create::<ProtectedMcpServer>("notes", &external())
        .await;
    let ready = world.is_ready::<ProtectedMcpServer>("notes").await;
    assert!(ready.message.contains("elsewhere"), "{}", ready.message);
    assert!(
        ready.message.contains("credential:remote-notes"),
        "{}",
        ready.message
    );
    world
        .reaches::<ProtectedMcpServer>("notes", "Registered", "True", "Ready")
        .await;
    assert!(
        world
            .condition::<ProtectedMcpServer>("notes", "Available")
            .await
            .is_none()
    );
    assert!(world.get::<Deployment>("notes").await.is_none());
    assert!(world.get::<Service>("notes").await.is_none());
    assert!(world.get::<ServiceAccount>("notes").await.is_none());
    let config: ConfigMap = world.get("auth-authserver-v1").await.unwrap();
    assert!(!format!("{config:?}").contains(SECRET));

    let other = specs::with(external(), "/resource", json!("https://mail.example.com"));
    world.create::<ProtectedMcpServer>("mail", &other).await;
    let ready = world.is_ready::<ProtectedMcpServer>("mail").await;
    assert!(
        ready.message.contains("nobody can check its tokens"),
        "{}",
        ready.message
    );
    let scopes = json!(["notes:read"]);
    let resources = json!([
        { "name": "notes", "scopes": scopes }, { "name": "mail", "scopes": scopes },
    ]);
    let client = specs::with(specs::client(), "/resources", resources);
    world.create::<McpOAuthClient>("robot", &client).await;
    world.is_ready::<McpOAuthClient>("robot").await;

    let token = authserver.token_of(&world, "robot", NOTES).await.unwrap();
    let ask = async |secret: &str, token: &str| {
        let (status, answer) = authserver.introspect("remote-notes", secret, token).await;
        (status, answer["active"].as_bool())
    };
    assert_eq!(ask(SECRET, &token).await, (200, Some(true)));
    assert_eq!(ask("wrong", &token).await, (401, None));
    let foreign = authserver
        .token_of(&world, "robot", "https://mail.example.com")
        .await
        .unwrap();
    assert_eq!(ask(SECRET, &foreign).await, (200, Some(false)));

    // Its registration goes with it; the caller stays configured and learns nothing.
    world.delete::<ProtectedMcpServer>("notes").await;
    world.disappears::<ProtectedMcpServer>("notes").await;
    assert_eq!(ask(SECRET, &token).await, (200, Some(false)));
    operator.stop().await;
}

#[tokio::test]
async fn a_callers_secret_is_checked_and_rolls_the_pods_when_it_changes() {
    let world = World::new("callers").await;
    let operator = world.operator();
    world.create::<McpAuthServer>("auth", &with_caller()).await;
    let missing = world
        .not_ready::<McpAuthServer>("auth", "SecretNotFound")
        .await;
    let field = "spec.introspection.callers[0].secretRef";
    assert!(missing.message.starts_with(field), "{}", missing.message);
    put_secret(&world, "hunter2").await;
    let weak = world
        .not_ready::<McpAuthServer>("auth", "SecretInvalid")
        .await;
    assert!(weak.message.starts_with(field), "{}", weak.message);
    assert!(!weak.message.contains("hunter2"), "{}", weak.message);
    assert!(world.get::<Deployment>("auth-authserver").await.is_none());

    let change = async |value: &str| {
        let patch = json!({ "stringData": { "secret": value } });
        world.patch::<Secret>("remote", &patch).await;
    };
    change(SECRET).await;
    let template = async || {
        let deployment: Deployment = world.appears("auth-authserver").await;
        deployment.spec.unwrap().template
    };
    let before = template().await;
    change("another-secret-0123456789abcdef").await;
    eventually("the pods are replaced", || async {
        (template().await.metadata != before.metadata).then_some(())
    })
    .await;
    operator.stop().await;
}

#[tokio::test]
async fn a_server_does_not_move_between_here_and_elsewhere() {
    let world = World::new("moves").await;
    world
        .create::<ProtectedMcpServer>("notes", &external())
        .await;
    let template = specs::protected_server()["server"]["template"].clone();
    let patch = json!({ "spec": { "server": { "external": null, "template": template } } });
    let patch = kube::api::Patch::Merge(patch);
    let params = kube::api::PatchParams::default();
    let error = world
        .api::<ProtectedMcpServer>()
        .patch("notes", &params, &patch)
        .await;
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("delete the object and create it again"),
        "{error}"
    );
}
