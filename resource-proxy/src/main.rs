//! `mcp-resource-proxy`: see the library.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use clap::Parser;
use mcp_resource_proxy::compiled::Runtime;
use mcp_resource_proxy::config::{Config, ConfigError};
use mcp_resource_proxy::metrics::Metrics;
use mcp_resource_proxy::proxy::Proxy;
use mcp_resource_proxy::reload::Reloader;
use mcp_resource_proxy::{client, server};
use mcpauth_service::clock::Clock;
use mcpauth_service::health::Health;
use mcpauth_service::listener::Listener;
use mcpauth_service::shutdown::Shutdown;
use mcpauth_service::{log, program};

/// New connections are refused as soon as SIGTERM comes.
const LEAD: Duration = Duration::ZERO;

/// OAuth 2.1 resource server: a proxy in front of one MCP server.
#[derive(Debug, Parser)]
#[command(name = "mcp-resource-proxy", version)]
struct Arguments {
    /// The configuration file (YAML).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Check the configuration, then exit.
    #[arg(long)]
    check: bool,
}

/// A configuration, and the text that it was read from.
struct Loaded {
    config: Config,
    text: String,
}

fn main() -> ExitCode {
    let Arguments { config, check } = Arguments::parse();
    let run = |loaded| run(config.clone(), loaded);
    let result = program::with_configuration(&config, check, load, run);
    program::exit("mcp-resource-proxy", result)
}

fn load(path: &Path) -> Result<Loaded, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::new("", format!("cannot be read: {error}")))?;
    let config = Config::parse(&text)?;
    Ok(Loaded { config, text })
}

fn run(path: PathBuf, loaded: Loaded) -> anyhow::Result<()> {
    log::init("info");
    // Two threads serve thousands of requests per second; more threads would only cost memory.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(4)
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    runtime.block_on(serve(path, loaded))
}

async fn serve(path: PathBuf, Loaded { config, text }: Loaded) -> anyhow::Result<()> {
    let mut session_key = [0; 32];
    SystemRandom::new()
        .fill(&mut session_key)
        .context("the system's random number generator failed")?;
    let shutdown = Shutdown::on_signal(LEAD)?;
    let listen = config.listen;
    let runtime = Runtime {
        clock: Clock::system(),
        client: client::new(),
        metrics: Metrics::new(),
    };
    let metrics = runtime.metrics.clone();
    // Readiness does not depend on the authorization server: restarting or isolating a proxy would not help.
    let health = Health::new(shutdown.clone(), move || metrics.encode());
    let proxy = Arc::new(Proxy::new(config, runtime, &session_key)?);
    let listener = Listener::bind("listen.proxy", listen.proxy).await?;
    let probes = Listener::bind("listen.health", listen.health).await?;
    tracing::info!(proxy = %listener.address(), health = %probes.address(), "serving");
    let health_port = health.serve(probes);
    tokio::spawn(Reloader::new(path, text, Arc::clone(&proxy)).watch());
    health.ready();
    server::serve(listener, proxy, shutdown).await;
    health_port.stop().await;
    tracing::info!("stopped");
    Ok(())
}
