//! An upgrade of the operator, with another default image: objects take turns.

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams};
use mcpauth_api::{McpAuthServer, ProtectedMcpServer};
use mcpauth_test_support::wait::eventually;
use serde_json::{Value, json};

use crate::support::authserver::AuthServer;
use crate::support::world::{Operator, World, specs};

const NAMES: [&str; 5] = ["one", "two", "three", "four", "five"];

/// The operator with a default image of the proxy, which upgrades two objects at a time.
fn operator(world: &World, proxy: &str) -> Operator {
    world.operator_for(world.client.clone(), |config| {
        config.resource_proxy_image = proxy.to_owned();
        config.max_concurrent_upgrades = 2;
    })
}

fn spec(name: &str) -> Value {
    let resource = json!(format!("http://localhost:9001/{name}"));
    specs::with(specs::protected_server(), "/resource", resource)
}

async fn proxy_of(world: &World, name: &str) -> String {
    let deployment: Deployment = world.get(name).await.unwrap();
    let pod = deployment.spec.unwrap().template.spec.unwrap();
    pod.init_containers.unwrap()[0].image.clone().unwrap()
}

/// Those whose pods have this image.
async fn with(world: &World, image: &str) -> Vec<&'static str> {
    let mut found = Vec::new();
    for name in NAMES {
        if proxy_of(world, name).await == image {
            found.push(name);
        }
    }
    found
}

async fn are_with(world: &World, image: &str, count: usize) -> Vec<&'static str> {
    eventually(&format!("{count} have {image}"), || async {
        let found = with(world, image).await;
        let seen = format!("{found:?}");
        (found.len() == count).then_some(found).ok_or(seen)
    })
    .await
}

#[tokio::test]
async fn a_new_default_image_reaches_two_of_five_servers_at_a_time() {
    let world = World::new("upgrades").await;
    let first = operator(&world, "proxy:1");
    let _authserver = AuthServer::create(&world, "auth").await;
    for name in NAMES {
        world.create::<ProtectedMcpServer>(name, &spec(name)).await;
        world.pods_are_up(name).await;
        world.is_ready::<ProtectedMcpServer>(name).await;
    }
    world.pods_are_up("auth-authserver").await;
    world.is_ready::<McpAuthServer>("auth").await;
    first.stop().await;

    let second = operator(&world, "proxy:2");
    let begun = are_with(&world, "proxy:2", 2).await;
    let waiting = |begun: &[&str]| {
        let rest = NAMES.into_iter().filter(|name| !begun.contains(name));
        rest.collect::<Vec<_>>()
    };
    for name in waiting(&begun) {
        let told = world
            .reaches::<ProtectedMcpServer>(name, "Progressing", "True", "UpgradeWaiting")
            .await;
        assert!(
            told.message.contains("at most 2 objects"),
            "{}",
            told.message
        );
        world.is_ready::<ProtectedMcpServer>(name).await;
    }
    second.goes_on(10).await;
    assert_eq!(with(&world, "proxy:2").await, begun);

    // Another process goes on with what this one began.
    second.stop().await;
    let third = operator(&world, "proxy:2");
    third.goes_on(10).await;
    assert_eq!(with(&world, "proxy:2").await, begun);

    // What a person changes, and what is new, does not wait.
    let changed = waiting(&begun)[0];
    let server = json!({ "image": "notes:2" });
    let patch = json!({ "spec": { "server": { "template": server } } });
    world.patch::<ProtectedMcpServer>(changed, &patch).await;
    let begun = are_with(&world, "proxy:2", 3).await;
    assert!(begun.contains(&changed));
    world
        .create::<ProtectedMcpServer>("six", &spec("six"))
        .await;
    world.appears::<Deployment>("six").await;
    assert_eq!(proxy_of(&world, "six").await, "proxy:2");
    // Nor does a number of pods: they run as before.
    let [scaled, last] = waiting(&begun)[..] else {
        panic!("{begun:?}")
    };
    let three = json!({ "spec": { "replicas": 3 } });
    world.patch::<ProtectedMcpServer>(scaled, &three).await;
    eventually("it is scaled", || async {
        let deployment: Deployment = world.get(scaled).await?;
        (deployment.spec?.replicas == Some(3)).then_some(())
    })
    .await;
    assert_eq!(with(&world, "proxy:2").await, begun);

    // One is complete, another overdue: the next two.
    let mut ended = begun.iter().filter(|name| **name != changed);
    world.pods_are_up(ended.next().unwrap()).await;
    are_with(&world, "proxy:2", 4).await;
    let overdue = ended.next().unwrap();
    let deployment: Deployment = world.get(overdue).await.unwrap();
    let status = json!({ "status": {
        "observedGeneration": deployment.metadata.generation,
        "conditions": [{ "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded" }],
    }});
    let params = PatchParams::default();
    let deployments = world.api::<Deployment>();
    deployments
        .patch_status(overdue, &params, &Patch::Merge(status))
        .await
        .unwrap();
    are_with(&world, "proxy:2", 5).await;
    for name in [scaled, last] {
        world.pods_are_up(name).await;
        world.is_ready::<ProtectedMcpServer>(name).await;
        world
            .reaches::<ProtectedMcpServer>(name, "Progressing", "False", "Ready")
            .await;
    }
    third.stop().await;
}
