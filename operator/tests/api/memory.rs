//! The operator's memory, as a process of its own that serves many objects.
//!
//! `make bench` measures the release build, which `OPERATOR_PROGRAM` names then, by what is resident. A
//! dev build's unoptimised file is larger than all the rest: there only what the program allocated counts.

use std::process::Command;

use futures::StreamExt as _;
use mcpauth_api::{McpAuthServer, McpOAuthClient, ProtectedMcpServer};
use serde_json::json;

use crate::support::world::{Object, World, specs};
use mcpauth_test_support::memory::Memory;
use mcpauth_test_support::process::{Process, free_ports};
use mcpauth_test_support::wait::eventually;

#[tokio::test]
async fn many_objects_take_less_than_40_mb() {
    objects_take_less_than(50, 40.0).await;
}

#[tokio::test]
#[ignore = "takes minutes: make scale"]
async fn three_thousand_objects_take_less_than_60_mb() {
    objects_take_less_than(1000, 60.0).await;
}

/// With `objects` of each kind, the operator takes less than `limit` MB.
async fn objects_take_less_than(objects: usize, limit: f64) {
    let release = std::env::var_os("OPERATOR_PROGRAM");
    let program = release
        .clone()
        .unwrap_or_else(|| env!("CARGO_BIN_EXE_mcp-auth-operator").into());
    let world = World::new("memory").await;
    let folder = tempfile::tempdir().unwrap();
    let [health] = free_ports();
    let mut command = Command::new(program);
    command
        .args(["--watch-namespace", &world.namespace])
        .args(["--namespace", &world.namespace])
        .args(["--health-address", &format!("127.0.0.1:{health}")])
        .env("KUBECONFIG", world.cluster.kubeconfig());
    let process = Process::logging(&mut command, &folder.path().join("log"));

    futures::stream::iter(0..objects)
        .for_each_concurrent(16, |at| create_three(&world, at))
        .await;
    for at in 0..objects {
        judged::<McpAuthServer>(&world, &format!("auth-{at}")).await;
    }
    for at in 0..objects {
        judged::<ProtectedMcpServer>(&world, &format!("notes-{at}")).await;
    }
    for at in 0..objects {
        judged::<McpOAuthClient>(&world, &format!("robot-{at}")).await;
    }

    let Memory {
        resident,
        allocated,
    } = process.memory();
    println!(
        "operator with {} objects: {resident:.1} MB resident, {allocated:.1} MB allocated (limit {limit})",
        3 * objects
    );
    let counts = if release.is_some() {
        resident
    } else {
        allocated
    };
    assert!(counts < limit, "{counts:.1} MB");
}

/// An authorization server, a protected server and a client of it, which get all their children.
async fn create_three(world: &World, at: usize) {
    let name = |kind: &str| format!("{kind}-{at}");
    let url = |path: &str| json!(format!("http://localhost:{}{path}", 10_000 + at));
    let auth = specs::with(specs::auth_server(), "/issuer", url(""));
    world.create::<McpAuthServer>(&name("auth"), &auth).await;
    let reference = || json!({ "name": name("auth") });
    let server = specs::with(specs::protected_server(), "/resource", url("/mcp"));
    let server = specs::with(server, "/authServerRef", reference());
    world
        .create::<ProtectedMcpServer>(&name("notes"), &server)
        .await;
    let client = specs::with(specs::client(), "/authServerRef", reference());
    world
        .create::<McpOAuthClient>(&name("robot"), &client)
        .await;
}

/// Waits until the operator has told how it is with an object.
async fn judged<K: Object>(world: &World, name: &str) {
    eventually(&format!("{name} has a condition"), || {
        world.condition::<K>(name, "Ready")
    })
    .await;
}
