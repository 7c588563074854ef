//! `mcp-authserver`: reads its configuration and serves.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use mcp_authserver::config::Config;
use tracing_subscriber::EnvFilter;

/// OAuth 2.1 authorization server for MCP.
#[derive(Parser)]
#[command(name = "mcp-authserver", version)]
struct Arguments {
    /// The configuration file, YAML.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Check the configuration and the files that it names, and exit.
    #[arg(long)]
    check: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match Config::load(&arguments.config) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("mcp-authserver: {}: {error}", arguments.config.display());
            return ExitCode::from(2);
        }
    };
    if arguments.check {
        println!("configuration ok");
        return ExitCode::SUCCESS;
    }
    log_to_stderr();
    match mcp_authserver::run::run(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mcp-authserver: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// JSON lines, or plain text for a terminal; `RUST_LOG` filters.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        log.init();
    } else {
        log.json().flatten_event(true).init();
    }
}
