//! Stopping in two stages: first the server says that it is not ready, and Kubernetes sends new requests
//! elsewhere; then it stops listening and lets running requests end.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::http::health::Health;

/// How long new requests are still served after SIGTERM.
const LEAD: Duration = Duration::from_secs(2);

/// Waits for SIGTERM or SIGINT, then cancels `stop`. SIGINT, a second signal, and a start that has not
/// come to its end are not made to wait.
///
/// # Errors
/// When signals cannot be listened for.
pub async fn on_signal(health: Health, stop: CancellationToken) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let wait = tokio::select! {
        _ = terminate.recv() => LEAD,
        _ = interrupt.recv() => Duration::ZERO,
    };
    tracing::info!("stopping");
    health.stopping();
    tokio::select! {
        () = tokio::time::sleep(wait) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    stop.cancel();
    Ok(())
}
