//! The operator's memory, as a process of its own that serves many objects.
//!
//! `make bench` measures the release build, which `OPERATOR_PROGRAM` names then, by what is resident. A
//! dev build's unoptimised file is larger than all the rest: there only what the program allocated counts.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says so when it fails"
)]

#[expect(dead_code, reason = "the other program uses the rest")]
#[path = "../support/mod.rs"]
mod support;

use std::process::Command;

use mcpauth_api::{McpAuthServer, McpOAuthClient, ProtectedMcpServer};
use serde_json::json;

use support::cluster::{free_ports, tied};
use support::eventually;
use support::world::{Object, World, specs};

/// Of each kind.
const OBJECTS: usize = 50;
/// What the operator may take, in MB.
const LIMIT: f64 = 40.0;

#[tokio::test]
async fn many_objects_take_less_than_40_mb() {
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
    let mut shell = tied(&command, folder.path(), "log");

    for at in 0..OBJECTS {
        create_three(&world, at).await;
    }
    for at in 0..OBJECTS {
        judged::<McpAuthServer>(&world, &format!("auth-{at}")).await;
        judged::<ProtectedMcpServer>(&world, &format!("notes-{at}")).await;
        judged::<McpOAuthClient>(&world, &format!("robot-{at}")).await;
    }

    let status = status_of_child(shell.id());
    drop(shell.stdin.take());
    shell.wait().unwrap();
    let resident = megabytes(&status, "VmRSS:");
    let allocated = megabytes(&status, "RssAnon:");
    println!(
        "operator with {} objects: {resident:.1} MB resident, {allocated:.1} MB allocated (limit {LIMIT})",
        3 * OBJECTS
    );
    let counts = if release.is_some() {
        resident
    } else {
        allocated
    };
    assert!(counts < LIMIT, "{status}");
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

/// `/proc/PID/status` of the one child of a process.
fn status_of_child(parent: u32) -> String {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let child = std::fs::read_to_string(path).unwrap();
    std::fs::read_to_string(format!("/proc/{}/status", child.trim())).unwrap()
}

/// A field of `/proc/PID/status`, which is in kB, in MB.
fn megabytes(status: &str, field: &str) -> f64 {
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kilobytes: f64 = line.unwrap().replace("kB", "").trim().parse().unwrap();
    kilobytes * 1024.0 / 1e6
}
