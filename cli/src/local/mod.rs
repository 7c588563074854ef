//! `local`: runs manifests as processes on loopback, and goes through the OAuth flow with a scripted client.

mod ports;
mod process;
mod relay;
mod screen;
mod stack;
mod walk;

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
};

use process::Processes;
use screen::Screen;
use stack::Stack;

use crate::manifests::{self, Manifests};

/// Run manifests on this machine, without a cluster
///
/// Starts the authorization server, each MCP server and its resource-proxy as processes that listen on
/// loopback and keep their state in memory. Then a scripted client goes through the OAuth flow and prints each
/// request. After that everything keeps running until Ctrl-C, and the output says how to connect your own client.
///
/// The issuer and each spec.resource must be http URLs on localhost; they decide which ports are used. Each
/// ProtectedMcpServer needs spec.server.template.command. That command, mcp-authserver and mcp-resource-proxy are
/// looked up next to this program first, then in PATH.
#[derive(clap::Args, Clone, Debug)]
pub struct LocalArgs {
    /// YAML file with one McpAuthServer, at least one ProtectedMcpServer, and the McpOAuthClients and Secrets that
    /// go with them
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// Exit after the scripted client is done, instead of running until Ctrl-C
    #[arg(long)]
    pub once: bool,
}

/// Runs the manifests as processes on loopback, goes through the flow, and runs until SIGINT, SIGTERM or SIGHUP.
///
/// # Errors
/// When the manifests are invalid, a port is in use, a process does not become ready or ends unexpectedly, or a step of
/// the flow fails.
pub async fn run(args: LocalArgs) -> anyhow::Result<()> {
    let manifests = manifests::read(&args.file)?;
    let color = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let screen = Screen::new(color);
    let logs = tempfile::Builder::new()
        .prefix("mcp-auth-logs-")
        .tempdir()?;
    let mut processes = Processes::default();
    let result = tokio::select! {
        result = serve(&manifests, &args, &screen, logs.path(), &mut processes) => result,
        () = stop_signal() => Ok(()),
    };
    processes.stop().await;
    let started = logs
        .path()
        .read_dir()
        .is_ok_and(|mut files| files.next().is_some());
    match result {
        Err(error) if started => {
            let kept = logs.keep();
            Err(anyhow::anyhow!(
                "{error:#}\nThe logs of the programs are in {}",
                kept.display()
            ))
        }
        result => result,
    }
}

async fn serve(
    manifests: &Manifests,
    args: &LocalArgs,
    screen: &Screen,
    logs: &Path,
    processes: &mut Processes,
) -> anyhow::Result<()> {
    let stack = Stack::start(manifests, logs, processes).await?;
    walk::walk(&stack.target, &stack.record, screen).await?;
    if args.once {
        return Ok(());
    }
    show(&stack, logs, screen);
    Err(processes.any_end().await)
}

/// Prints how to connect.
fn show(stack: &Stack, logs: &Path, screen: &Screen) {
    let target = &stack.target;
    screen.heading("Running; press Ctrl-C to stop");
    screen.copied("MCP server", &target.resource);
    let (name, url) = (&target.name, &target.resource);
    let add = format!("claude mcp add --transport http {name} {url}");
    screen.copied("Claude Code", &add);
    for client in &stack.clients {
        let file = client.secret_file.display();
        screen.fact("Client", &format!("{} (secret in {file})", client.id));
    }
    screen.fact("Logs", &logs.display().to_string());
}

/// Returns on SIGINT, SIGTERM or SIGHUP, which a terminal sends when it is closed. If no handler can be
/// installed, the signal ends the process, and the children with it.
async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let kinds = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ];
    let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = kinds.map(signal) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}
