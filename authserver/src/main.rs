//! `mcp-authserver`: reads its configuration and serves.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use mcp_authserver::config::Config;
use mcp_authserver::login::password;
use mcp_authserver::random;
use mcpauth_service::log;
use mcpauth_service::otlp::Traces;
use mcpauth_service::program::{self, Failure};
use tokio::runtime::Runtime;

/// OAuth 2.1 authorization server for MCP.
#[derive(Parser)]
#[command(name = "mcp-authserver", version)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Arguments {
    /// The configuration file (YAML).
    #[arg(long, value_name = "FILE", required = true)]
    config: Option<PathBuf>,
    /// Check the configuration and the files that it names, then exit.
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

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match (&arguments.command, &arguments.config) {
        (Some(Command::HashPassword), _) => hash_password().map_err(Failure::from),
        (None, Some(config)) => {
            program::with_configuration(config, arguments.check, Config::load, serve)
        }
        (None, None) => Err(Failure::other("--config FILE is missing; see --help")),
    };
    program::exit("mcp-authserver", result)
}

fn serve(config: Config) -> anyhow::Result<()> {
    let runtime = Runtime::new().context("cannot start the async runtime")?;
    let traces = config.traces.as_ref();
    let traces = traces.map(|to| Traces::start(to, runtime.handle().clone()));
    let traces = traces.transpose()?;
    log::init(config.log_level.as_str(), traces.as_ref());
    let public = Runtime::new().context("cannot start the async runtime of the public port")?;
    let result = runtime.block_on(mcp_authserver::run::run(config, public.handle()));
    if let Some(traces) = traces {
        traces.stop();
    }
    result
}

/// The line break at the end, which `echo` and the enter key add, is not part of the password.
fn hash_password() -> anyhow::Result<()> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .context("cannot read the password from standard input")?;
    let password = text.strip_suffix('\n').unwrap_or(&text);
    println!("{}", password::hash(password, random::bytes()?)?);
    Ok(())
}
