//! `mcp-auth-operator`: see `--help`.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser;
use mcp_auth_operator::authserver::Server;
use mcp_auth_operator::config::Config;
use mcp_auth_operator::{clock, run};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Runs the controllers of the MCP auth operator in a Kubernetes cluster.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    config: Config,
}

fn main() -> ExitCode {
    match start(Cli::parse().config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mcp-auth-operator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    let result = runtime.block_on(controllers(config));
    // What still runs has no say any more: a leader that lost its Lease must not write.
    runtime.shutdown_background();
    result
}

async fn controllers(config: Config) -> anyhow::Result<()> {
    log();
    let client = kube::Client::try_default()
        .await
        .context("cannot connect to the Kubernetes API: run it in a cluster, or set KUBECONFIG")?;
    let stop = CancellationToken::new();
    let (mut term, mut int) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let asked = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        tracing::info!("stopping");
        asked.cancel();
    });
    run::run(
        client,
        config,
        clock::system(),
        Arc::new(Server::audience),
        stop,
    )
    .await
}

/// Logs go to stderr: JSON lines, or text on a terminal.
fn log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| "info,kube_runtime=warn,kube_client=warn".into());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        log.init();
    } else {
        log.json().init();
    }
}
