//! `mcp-resource-proxy`: see the library.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use clap::Parser;
use mcp_resource_proxy::clock::Clock;
use mcp_resource_proxy::compiled::Parts;
use mcp_resource_proxy::config::Config;
use mcp_resource_proxy::health::Health;
use mcp_resource_proxy::metrics::Metrics;
use mcp_resource_proxy::proxy::Proxy;
use mcp_resource_proxy::reload::Reloader;
use mcp_resource_proxy::server;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// OAuth 2.1 in front of one MCP server.
#[derive(Debug, Parser)]
#[command(name = "mcp-resource-proxy", version)]
struct Arguments {
    /// The configuration file (YAML).
    #[arg(long)]
    config: PathBuf,
    /// Read the configuration, say whether it can be used, and exit.
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let file = arguments.config.display();
    let text = match std::fs::read_to_string(&arguments.config) {
        Ok(text) => text,
        Err(error) => return fail(2, &format!("{file}: cannot be read: {error}")),
    };
    let config = match Config::parse(&text) {
        Ok(config) => config,
        Err(error) => return fail(2, &format!("{file}: {error}")),
    };
    if arguments.check {
        println!("configuration ok");
        return ExitCode::SUCCESS;
    }
    log();
    match run(arguments.config.clone(), text, config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &format!("{error:#}")),
    }
}

fn fail(code: u8, message: &str) -> ExitCode {
    eprintln!("mcp-resource-proxy: {message}");
    ExitCode::from(code)
}

fn log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        builder.init();
    } else {
        builder.json().flatten_event(true).init();
    }
}

fn run(path: PathBuf, text: String, config: Config) -> anyhow::Result<()> {
    // Two threads serve thousands of requests a second; more of them only cost memory.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(4)
        .enable_all()
        .build()?;
    runtime.block_on(serve(path, text, config))
}

async fn serve(path: PathBuf, text: String, config: Config) -> anyhow::Result<()> {
    let mut session_key = [0; 32];
    SystemRandom::new()
        .fill(&mut session_key)
        .context("the system gives no random numbers")?;
    let listen = config.listen;
    let parts = Parts {
        clock: Clock::system(),
        client: server::http_client(),
        metrics: Metrics::new(),
    };
    let health = Health::new(parts.metrics.clone());
    let proxy = Arc::new(Proxy::new(config, parts, &session_key)?);
    let listener = server::bind(listen.proxy, "listen.proxy").await?;
    let health_listener = server::bind(listen.health, "listen.health").await?;
    let (address, health_address) = (listener.local_addr()?, health_listener.local_addr()?);
    tokio::spawn(server::serve_health(health_listener, health.clone()));
    tokio::spawn(Reloader::new(path, text, Arc::clone(&proxy)).watch());

    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    tracing::info!(proxy = %address, health = %health_address, "listening");
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("draining");
        health.drain();
    };
    server::serve(listener, proxy, stop).await;
    tracing::info!("stopped");
    Ok(())
}
