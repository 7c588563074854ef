//! What the status of each kind says beside its conditions, and what `kubectl get` shows of it.

use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt as _;
use mcpauth_api::{McpAuthServer, McpOAuthClient, ProtectedMcpServer};
use serde_json::Value;

use crate::support::authserver::AuthServer;
use crate::support::world::{Object, World, specs};

async fn status<K: Object>(world: &World, name: &str) -> Value {
    let object = world.raw::<K>().get(name).await.unwrap();
    object.data["status"].clone()
}

#[tokio::test]
async fn the_status_says_where_everything_is() {
    let world = World::new("status").await;
    let operator = world.operator();
    let authserver = AuthServer::create(&world, "auth").await;
    world.pods_are_up("auth-authserver").await;
    world
        .create::<ProtectedMcpServer>("notes", &specs::protected_server())
        .await;
    world.pods_are_up("notes").await;
    world
        .create::<McpOAuthClient>("robot", &specs::client())
        .await;
    world.is_ready::<McpAuthServer>("auth").await;
    world.is_ready::<ProtectedMcpServer>("notes").await;
    world.is_ready::<McpOAuthClient>("robot").await;

    let metadata = authserver.metadata().await;
    let client = status::<McpOAuthClient>(&world, "robot").await;
    assert_eq!(client["tokenEndpoint"], metadata["token_endpoint"]);
    assert_eq!(client["issuer"], metadata["issuer"]);
    let server = status::<ProtectedMcpServer>(&world, "notes").await;
    assert_eq!(server["issuer"], metadata["issuer"]);

    let auth = status::<McpAuthServer>(&world, "auth").await;
    let internal = format!(
        "http://auth-authserver-internal.{}.svc:8081",
        world.namespace
    );
    assert_eq!(auth["internalUrl"], internal);
    let deployment: Deployment = world.get("auth-authserver").await.unwrap();
    let template = deployment.spec.unwrap().template.metadata.unwrap();
    let hash = &template.annotations.unwrap()["mcpauth.io/config-hash"];
    assert_eq!(auth["configHash"].as_str(), Some(hash.as_str()));
    operator.stop().await;
}

/// What `kubectl get -o wide` shows: the columns' names, priorities and the row.
async fn columns<K: Object>(world: &World, name: &str) -> Vec<(String, i64, Value)> {
    let api = world.api::<K>();
    let request = http::Request::get(format!("{}/{name}", api.resource_url()))
        .header("accept", "application/json;as=Table;g=meta.k8s.io;v=v1")
        .body(Vec::new())
        .unwrap();
    let table: Value = world.client.request(request).await.unwrap();
    let cells = table["rows"][0]["cells"].as_array().unwrap().clone();
    let definitions = table["columnDefinitions"].as_array().unwrap();
    let pairs = definitions.iter().zip(cells);
    pairs
        .map(|(definition, cell)| {
            let name = definition["name"].as_str().unwrap().to_owned();
            (name, definition["priority"].as_i64().unwrap(), cell)
        })
        .collect()
}

#[tokio::test]
async fn wide_columns_have_the_message() {
    let world = World::new("columns").await;
    let operator = world.operator();
    let client = world
        .create::<McpOAuthClient>("robot", &specs::client())
        .await;
    let condition = world
        .not_ready::<McpOAuthClient>(&client.name_any(), "AuthServerNotFound")
        .await;
    let columns = columns::<McpOAuthClient>(&world, "robot").await;
    let cell = |name: &str| {
        let mut found = columns.iter().filter(|(column, _, _)| column == name);
        let (_, priority, cell) = found.next().unwrap();
        (*priority, cell.clone())
    };
    assert_eq!(cell("Ready"), (0, "False".into()));
    assert_eq!(cell("Reason"), (0, "AuthServerNotFound".into()));
    assert_eq!(cell("Message"), (1, condition.message.into()));
    operator.stop().await;
}
