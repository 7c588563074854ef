//! `mcp-authserver`: reads its configuration and serves.

use std::io::{IsTerminal, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use mcp_authserver::config::Config;
use mcp_authserver::login::users;
use mcp_authserver::random;
use tracing_subscriber::EnvFilter;

/// OAuth 2.1 authorization server for MCP.
#[derive(Parser)]
#[command(name = "mcp-authserver", version)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Arguments {
    /// The configuration file, YAML.
    #[arg(long, value_name = "FILE", required = true)]
    config: Option<PathBuf>,
    /// Check the configuration and the files that it names, and exit.
    #[arg(long)]
    check: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Read a password from standard input and print its `passwordHash` for `login.localUsers`.
    HashPassword,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match (&arguments.command, &arguments.config) {
        (Some(Command::HashPassword), _) => hash_password(),
        (None, Some(config)) => return serve(config, arguments.check).await,
        (None, None) => Err(anyhow::anyhow!("--config FILE is missing; see --help")),
    };
    ended(result)
}

async fn serve(path: &Path, check: bool) -> ExitCode {
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("mcp-authserver: {}: {error}", path.display());
            return ExitCode::from(2);
        }
    };
    if check {
        println!("configuration ok");
        return ExitCode::SUCCESS;
    }
    log_to_stderr();
    ended(mcp_authserver::run::run(config).await)
}

fn ended(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mcp-authserver: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The line break at the end, which `echo` and the enter key add, is not part of the password.
fn hash_password() -> anyhow::Result<()> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .context("standard input is to be the password")?;
    let password = text.strip_suffix('\n').unwrap_or(&text);
    println!("{}", users::hash_password(password, random::bytes()?)?);
    Ok(())
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
