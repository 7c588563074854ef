//! An MCP server with a notes CRUD API: the thing to protect in the examples and the tests.
//!
//! It knows nothing of OAuth. Notes live in memory, at most [`notes::MAX_NOTES`] of them.

mod notes;
mod server;

use std::net::SocketAddr;

use anyhow::Context as _;
use clap::Parser;
use tokio_util::sync::CancellationToken;

/// MCP server with a notes CRUD API over Streamable HTTP at /mcp.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:8000")]
    listen: SocketAddr,
    /// Additional `Host` header values to accept, besides loopback ones (repeatable)
    #[arg(long, value_name = "HOST")]
    allowed_host: Vec<String>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let listener = tokio::net::TcpListener::bind(args.listen)
        .await
        .with_context(|| {
            format!(
                "cannot listen on {}: choose another address with --listen",
                args.listen
            )
        })?;
    let stop = CancellationToken::new();
    tokio::spawn(cancel_on_signal(stop.clone()));
    let app = server::app(args.allowed_host, stop.child_token());
    axum::serve(listener, app)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await?;
    Ok(())
}

/// Cancels `stop` on SIGTERM (Kubernetes) or SIGINT (a terminal); where no handler can be
/// installed the default action of the signal stays in force.
async fn cancel_on_signal(stop: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    stop.cancel();
}
