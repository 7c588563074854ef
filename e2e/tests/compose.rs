//! `compose.yaml`: one command brings everything up, on Postgres, at the same two URLs as on a cluster.

use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use mcp_auth_e2e::{
    command::{run, show},
    scenario::Suite,
};
use mcpauth_test_support::{mcp::Session, oauth::Client, wait::until};
use serde_json::json;

const ISSUER: &str = "http://localhost:9000";
const RESOURCE: &str = "http://localhost:9001/mcp";

fn main() -> Result<ExitCode> {
    let suite = Suite::new(|| Box::pin(logs()))?
        .scenario("one command brings it up", up)
        .scenario("the official Python client reaches a tool", python_client)
        .scenario("a client outlives a restart", restart)
        .scenario("one command takes it away", down);
    // Also after a failure: the ports are needed by others.
    Ok(suite.run(|| {
        Box::pin(async {
            let _ = down().await;
        })
    }))
}

async fn logs() {
    let _ = show("docker", &["compose", "logs", "--tail=60"]).await;
}

async fn down() -> Result<()> {
    let args = ["compose", "down", "--volumes", "--timeout=10"];
    run("docker", &args).await.map(drop)
}

/// Does nothing where it is up already.
async fn up() -> Result<()> {
    show(
        "docker",
        &["compose", "up", "--detach", "--wait", "--wait-timeout=120"],
    )
    .await?;
    show("docker", &["compose", "ps"]).await?;
    Ok(())
}

async fn python_client() -> Result<()> {
    up().await?;
    let python = std::env::var("MCP_PYTHON").context(
        "MCP_PYTHON is not set: a Python with e2e/client/requirements.txt; make sets it",
    )?;
    let transcript = show(
        &python,
        &["e2e/client/client.py", "walk", "--url", RESOURCE],
    )
    .await?;
    ensure!(transcript.contains("tools/call"), "no tool was called");
    Ok(())
}

/// The store is Postgres: the authorization server forgets nothing when it restarts.
async fn restart() -> Result<()> {
    up().await?;
    let client = Client::register(ISSUER).await?;
    let tokens = client.authorize(RESOURCE, "notes:read").await?;
    run(
        "docker",
        &["compose", "restart", "--timeout=10", "authserver"],
    )
    .await?;
    until("the token is accepted", || async {
        let session = Session::begin(RESOURCE, &tokens.access).await?;
        session.must_call("list_notes", &json!({})).await
    })
    .await?;
    Ok(())
}

/// Is there only where `harness = false` is missing: then nothing of the above would run.
#[test]
#[expect(clippy::panic, reason = "a test")]
fn no_harness() {
    panic!("e2e/Cargo.toml: [[test]] compose needs `harness = false`");
}
