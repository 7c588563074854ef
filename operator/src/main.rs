//! `mcp-auth-operator`: see `--help`.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser;
use mcp_auth_operator::authserver::Server;
use mcp_auth_operator::config::Config;
use mcp_auth_operator::run;
use mcpauth_service::program::{self, Failure};
use mcpauth_service::{clock::Clock, log};
use tokio::runtime::Runtime;

/// Runs the controllers of the MCP auth operator in a Kubernetes cluster.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    config: Config,
}

fn main() -> ExitCode {
    let result = start(Arguments::parse().config).map_err(Failure::from);
    program::exit("mcp-auth-operator", result)
}

fn start(config: Config) -> anyhow::Result<()> {
    log::init("info,kube_runtime=warn,kube_client=warn");
    let runtime = Runtime::new().context("cannot start the async runtime")?;
    let result = runtime.block_on(controllers(config));
    // A replica that lost its Lease must not write: tasks that still run are cut off.
    runtime.shutdown_background();
    result
}

async fn controllers(config: Config) -> anyhow::Result<()> {
    let client = kube::Client::try_default().await.context(
        "cannot connect to the Kubernetes API: run the operator in a cluster, or set KUBECONFIG",
    )?;
    run::run(client, config, Clock::system(), Arc::new(Server::audience)).await
}
