//! `mcp-auth-operator`: see `--help`.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use http::Uri;
use mcp_auth_operator::authserver::Server;
use mcp_auth_operator::config::Config;
use mcp_auth_operator::{probe, run};
use mcpauth_service::program::{self, Failure};
use mcpauth_service::{clock::Clock, log};
use tokio::runtime::Runtime;

/// Run the controllers of the MCP auth operator in a Kubernetes cluster.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    config: Config,
}

#[derive(Subcommand)]
enum Command {
    /// Poll an operator's readiness URL until it is ready; used by `helm test`
    Probe {
        /// URL to poll, such as http://NAME-metrics.NAMESPACE.svc:9090/readyz
        url: Uri,
        /// How long to wait, in seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 60)]
        timeout_seconds: u16,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        None => start(arguments.config),
        Some(Command::Probe {
            url,
            timeout_seconds,
        }) => ask(&url, Duration::from_secs(timeout_seconds.into())),
    };
    let result = result.map_err(Failure::from);
    program::exit("mcp-auth-operator", result)
}

fn start(config: Config) -> anyhow::Result<()> {
    log::init("info,kube_runtime=warn,kube_client=warn", None);
    let runtime = Runtime::new().context("cannot start the async runtime")?;
    let result = runtime.block_on(controllers(config));
    // A replica that lost its Lease must not write: abort the tasks that are still running.
    runtime.shutdown_background();
    result
}

fn ask(url: &Uri, patience: Duration) -> anyhow::Result<()> {
    let runtime = Runtime::new().context("cannot start the async runtime")?;
    runtime.block_on(probe::probe(url, patience))?;
    println!("{url} is ready");
    Ok(())
}

async fn controllers(config: Config) -> anyhow::Result<()> {
    let client = kube::Client::try_default().await.context(
        "cannot connect to the Kubernetes API: run the operator in a cluster, or set KUBECONFIG",
    )?;
    run::run(client, config, Clock::system(), Arc::new(Server::url)).await
}
