//! `mcp-resource-proxy`: see the library.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use mcp_resource_proxy::compiled::Runtime;
use mcp_resource_proxy::config::{Config, ConfigError};
use mcp_resource_proxy::drain::{self, Drain};
use mcp_resource_proxy::keys;
use mcp_resource_proxy::metrics::Metrics;
use mcp_resource_proxy::proxy::Proxy;
use mcp_resource_proxy::readiness::Readiness;
use mcp_resource_proxy::reload::{Reloader, State};
use mcp_resource_proxy::reload_keys::KeysReloader;
use mcp_resource_proxy::{client, server};
use mcpauth_service::audit::Audit;
use mcpauth_service::clock::Clock;
use mcpauth_service::health::Health;
use mcpauth_service::listener::Listener;
use mcpauth_service::log;
use mcpauth_service::otlp::{Destination, Traces};
use mcpauth_service::program::{self, Failure};
use mcpauth_service::shutdown::Shutdown;
use mcpauth_wire::proxy_health;
use mcpauth_wire::proxy_keys::ProxyKeys;
use mcpauth_wire::read;
use mcpauth_wire::telemetry::{self, Otlp};
use tokio::runtime::Handle;

/// New connections are refused as soon as SIGTERM comes.
const LEAD: Duration = Duration::ZERO;
/// How long the last audit lines may take to be written.
const FLUSH: Duration = Duration::from_secs(1);

/// OAuth 2.1 resource server: a proxy in front of one MCP server.
#[derive(Debug, Parser)]
#[command(name = "mcp-resource-proxy", version)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Arguments {
    /// The configuration file (YAML).
    #[arg(long, value_name = "FILE", required = true)]
    config: Option<PathBuf>,
    /// The file with the keys that the replicas of this proxy share. Without it, sessions end with the process.
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// Check the configuration, then exit.
    #[arg(long)]
    check: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Ask the proxy in this container to drain, as a preStop hook: it serves on until it is told to stop.
    Drain,
}

/// A configuration, and the text that it was read from; the keys, if there is a file.
struct Loaded {
    config: Config,
    text: String,
    traces: Result<Option<Destination>, ConfigError>,
    keys: Option<(PathBuf, ProxyKeys)>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match (&arguments.command, &arguments.config) {
        (Some(Command::Drain), _) => drain::ask().map_err(Failure::from),
        (None, Some(config)) => {
            let load = |path: &Path| {
                let loaded = load(path, arguments.keys.as_deref())?;
                match &loaded.traces {
                    Err(fault) if arguments.check => Err(fault.clone()),
                    _ => Ok(loaded),
                }
            };
            let run = |loaded| run(config.clone(), loaded);
            program::with_configuration(config, arguments.check, load, run)
        }
        (None, None) => Err(Failure::other("--config FILE is missing; see --help")),
    };
    program::exit("mcp-resource-proxy", result)
}

fn load(path: &Path, keys: Option<&Path>) -> Result<Loaded, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::new("", format!("cannot be read: {error}")))?;
    let config = Config::parse(&text)?;
    let keys = keys.map(|path| keys::read(path).map(|keys| (path.to_owned(), keys)));
    let keys = keys.transpose()?;
    let traces = traces(config.telemetry.otlp.as_ref());
    let traces = traces.map_err(|invalid| read::located(&text, invalid));
    Ok(Loaded {
        config,
        text,
        traces,
        keys,
    })
}

/// Where traces go, if anywhere.
fn traces(otlp: Option<&Otlp>) -> Result<Option<Destination>, ConfigError> {
    let Some(otlp) = otlp else { return Ok(None) };
    let key = "telemetry.otlp.headersFile";
    let headers = otlp.headers_file.as_ref().map(|file| {
        let text = std::fs::read_to_string(file).map_err(|error| {
            ConfigError::new(key, format!("{} cannot be read: {error}", file.display()))
        })?;
        telemetry::parse_headers(key, &text)
    });
    Ok(Some(Destination {
        endpoint: otlp.endpoint.clone(),
        headers: headers.transpose()?.unwrap_or_default(),
        service: "mcp-resource-proxy",
        version: env!("CARGO_PKG_VERSION"),
    }))
}

fn run(path: PathBuf, loaded: Loaded) -> anyhow::Result<()> {
    // Two threads serve thousands of requests per second; more threads would only cost memory.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(4)
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let traces = start(&loaded.traces, runtime.handle().clone());
    let exported = traces.as_ref().ok().and_then(Option::as_ref);
    log::init(loaded.config.telemetry.log_level.as_str(), exported);
    if let Err(reason) = &traces {
        tracing::error!(
            reason,
            "traces are not exported until a restart with a valid configuration of them"
        );
    }
    let result = runtime.block_on(serve(path, loaded, traces.is_err()));
    if let Ok(Some(traces)) = traces {
        traces.stop();
    }
    result
}

/// Whatever is wrong with where traces go, the policy is in force.
fn start(
    to: &Result<Option<Destination>, ConfigError>,
    runtime: Handle,
) -> Result<Option<Traces>, String> {
    let to = to.as_ref().map_err(ToString::to_string)?;
    let traces = to.as_ref().map(|to| Traces::start(to, runtime));
    traces.transpose().map_err(|error| format!("{error:#}"))
}

async fn serve(path: PathBuf, loaded: Loaded, lacks_traces: bool) -> anyhow::Result<()> {
    let Loaded {
        config, text, keys, ..
    } = loaded;
    let shared = keys.as_ref().map(|(_, keys)| keys.clone());
    let in_use = shared.map_or_else(keys::random, Ok)?;
    let shutdown = Shutdown::on_signal(LEAD)?;
    let listen = config.listen;
    let clock = Clock::system();
    let metrics = Metrics::new();
    metrics.lacks_traces(lacks_traces);
    let audit = match config.telemetry.audit.enabled {
        true => Audit::on_standard_output(clock.clone(), metrics.audit_lines()),
        false => Ok(Audit::off()),
    };
    let audit = audit.context("cannot start the audit")?;
    let runtime = Runtime {
        drain: Drain::new(shutdown.clone(), clock.clone()),
        clock,
        client: client::new(),
        metrics,
        audit: audit.clone(),
    };
    let metrics = runtime.metrics.clone();
    let health = Health::new(shutdown.clone(), move || metrics.encode());
    let proxy = Arc::new(Proxy::new(config, runtime, &in_use)?);
    let reloader = Reloader::new(path, text, Arc::clone(&proxy));
    pages(&health, &proxy, reloader.state());
    let listener = Listener::bind("listen.proxy", listen.proxy).await?;
    let probes = Listener::bind("listen.health", listen.health).await?;
    tracing::info!(proxy = %listener.address(), health = %probes.address(), "serving");
    let health_port = health.serve(probes);
    tokio::spawn(reloader.watch());
    if let Some((path, keys)) = keys {
        tokio::spawn(KeysReloader::new(path, keys, Arc::clone(&proxy)).watch());
    }
    // It does not depend on the authorization server: to isolate a proxy would not bring that back.
    let readiness = Arc::new(Readiness::new(Arc::clone(&proxy)));
    health.ready_if(move || {
        let readiness = Arc::clone(&readiness);
        async move { readiness.check().await }
    });
    server::serve(listener, proxy, shutdown).await;
    health_port.stop().await;
    if !audit.flush(FLUSH) {
        tracing::error!("audit lines are lost: nobody reads standard output");
    }
    tracing::info!("stopped");
    Ok(())
}

/// What the health port answers besides the probes.
fn pages(health: &Health, proxy: &Proxy, state: State) {
    health.page(proxy_health::CONFIGURATION, move || {
        let state = serde_json::to_string(&state.in_force()).unwrap_or_default();
        async move { ("application/json", state) }
    });
    let drain = Arc::clone(&proxy.runtime().drain);
    health.page(proxy_health::DRAINED, move || {
        let drain = Arc::clone(&drain);
        async move {
            let said = drain.hook().await;
            ("text/plain; charset=utf-8", format!("{said}\n"))
        }
    });
}
