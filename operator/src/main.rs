//! `mcp-auth-operator`: see `--help`.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use mcp_auth_operator::authserver::Server;
use mcp_auth_operator::config::Config;
use mcp_auth_operator::local::{LocalArgs, RenderArgs};
use mcp_auth_operator::{clock, local, run};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// OAuth 2.1 in front of MCP servers, on Kubernetes.
#[derive(Parser)]
#[command(version, subcommand_precedence_over_arg = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the controllers in a cluster. This is the default.
    Run(Box<Config>),
    /// Run manifests as processes on this machine and walk the OAuth flow through them.
    Local(LocalArgs),
    /// Write the configuration files that manifests mean, to run the programs some other way.
    Render(RenderArgs),
}

/// The flags of `run` when no command is named.
#[derive(Parser)]
struct RunOnly {
    #[command(flatten)]
    config: Config,
}

fn main() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mcp-auth-operator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Option<Command>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    let result = match command {
        None => runtime.block_on(controllers(RunOnly::parse().config)),
        Some(Command::Run(config)) => runtime.block_on(controllers(*config)),
        Some(Command::Local(args)) => runtime.block_on(local::run(args)),
        Some(Command::Render(args)) => local::render(&args),
    };
    // What still runs has no say any more: a leader that lost its Lease must not write.
    runtime.shutdown_background();
    result
}

async fn controllers(config: Config) -> anyhow::Result<()> {
    log();
    let client = kube::Client::try_default().await.context(
        "no way to the Kubernetes API: run it in a cluster, or set KUBECONFIG; `local` needs no cluster",
    )?;
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
