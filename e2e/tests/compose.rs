//! `compose.yaml`: one command brings everything up, on Postgres, at the same two URLs as on a cluster.

use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use mcp_auth_e2e::{
    command::{run, show},
    mcp::Session,
    oauth::Client,
    scenario::Suite,
    wait::until,
};
use serde_json::json;

const ISSUER: &str = "http://localhost:9000";
const RESOURCE: &str = "http://localhost:9001/mcp";

#[tokio::main]
async fn main() -> ExitCode {
    let mut suite = Suite::begin("compose.yaml");
    suite.scenario("one command brings it up", up()).await;
    suite
        .scenario("the official Python client reaches a tool", python_client())
        .await;
    suite
        .scenario("a client outlives a restart", restart())
        .await;
    if suite.has_failed() {
        let _ = show("docker", &["compose", "logs", "--tail=60"]).await;
    }
    // Also after a failure: the ports are needed by others.
    let down = run("docker", &["compose", "down", "--volumes", "--timeout=10"]).await;
    suite
        .scenario("one command takes it away", async { down.map(|_| ()) })
        .await;
    suite.end()
}

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
    let client = Client::register(ISSUER).await?;
    let tokens = client.authorize(RESOURCE, "notes:read").await?;
    run(
        "docker",
        &["compose", "restart", "--timeout=10", "authserver"],
    )
    .await?;
    until("the token is accepted", 60, || async {
        let session = Session::begin(RESOURCE, &tokens.access).await?;
        session.must_call("list_notes", &json!({})).await
    })
    .await?;
    Ok(())
}
