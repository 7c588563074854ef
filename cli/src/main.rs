//! `kubectl-mcpauth`: see `--help`.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use mcpauth_cli::{
    local::{self, LocalArgs},
    render::{self, RenderArgs},
};

/// Run and inspect MCP servers that are protected with OAuth 2.1.
///
/// A plugin for kubectl: when it is in PATH, `kubectl mcpauth` runs it.
#[derive(Parser)]
#[command(version, bin_name = "kubectl mcpauth", arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Local(LocalArgs),
    Render(RenderArgs),
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Local(args) => tokio::runtime::Runtime::new()
            .context("cannot start the async runtime")?
            .block_on(local::run(args)),
        Command::Render(args) => render::render(&args),
    }
}
