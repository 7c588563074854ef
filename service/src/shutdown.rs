//! Stopping in stages.
//!
//! 1. *Draining* begins with the first SIGTERM or SIGINT: the program says that it is not ready, and
//!    Kubernetes sends new requests elsewhere. Requests that still arrive are served.
//! 2. *Closing*: after a lead time nothing new is accepted, and in-flight requests may finish.
//! 3. *Cut*: in-flight requests are aborted.
//!
//! A further signal ends the stage that the program is in. SIGINT, which comes from a terminal, has no lead time.
//! SIGUSR1 begins to drain and goes no further: a sidecar's preStop hook sends it, long before SIGTERM comes.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How far a program has come with stopping. Clones share the stage.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    draining: CancellationToken,
    closing: CancellationToken,
    cut: CancellationToken,
}

impl Shutdown {
    /// Follows this process's signals. `lead` is how long new requests are still served after SIGTERM.
    ///
    /// # Errors
    /// When signals cannot be listened for.
    pub fn on_signal(lead: Duration) -> io::Result<Self> {
        let signals = Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            drain: signal(SignalKind::user_defined1())?,
        };
        let shutdown = Self::default();
        tokio::spawn(shutdown.clone().follow(signals, lead));
        Ok(shutdown)
    }

    async fn follow(self, mut signals: Signals, lead: Duration) {
        let (signal, lead) = loop {
            match signals.next().await {
                Received::Terminate => break ("SIGTERM", lead),
                Received::Interrupt => break ("SIGINT", Duration::ZERO),
                Received::Drain => {
                    tracing::info!(signal = "SIGUSR1", "draining");
                    self.drain();
                }
            }
        };
        tracing::info!(signal, "draining");
        self.drain();
        tokio::select! {
            () = tokio::time::sleep(lead) => {}
            () = signals.stop() => {}
        }
        self.close();
        signals.stop().await;
        tracing::warn!("received another signal: aborting the requests that are still in progress");
        self.cut();
    }

    /// Ends with the first stage.
    pub const fn draining(&self) -> &CancellationToken {
        &self.draining
    }

    /// Ends when nothing new is to be accepted.
    pub const fn closing(&self) -> &CancellationToken {
        &self.closing
    }

    /// Ends when in-flight requests are to be aborted.
    pub const fn is_cut(&self) -> &CancellationToken {
        &self.cut
    }

    /// Begins the first stage.
    pub fn drain(&self) {
        self.draining.cancel();
    }

    /// Begins the second stage.
    pub fn close(&self) {
        self.drain();
        self.closing.cancel();
    }

    /// Begins the last stage.
    pub fn cut(&self) {
        self.close();
        self.cut.cancel();
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    drain: Signal,
}

enum Received {
    Terminate,
    Interrupt,
    Drain,
}

impl Signals {
    async fn next(&mut self) -> Received {
        tokio::select! {
            _ = self.terminate.recv() => Received::Terminate,
            _ = self.interrupt.recv() => Received::Interrupt,
            _ = self.drain.recv() => Received::Drain,
        }
    }

    /// The next that asks the program to stop.
    async fn stop(&mut self) {
        while matches!(self.next().await, Received::Drain) {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_includes_those_before_it() {
        let shutdown = Shutdown::default();
        let stages = |shutdown: &Shutdown| {
            [
                shutdown.draining().is_cancelled(),
                shutdown.closing().is_cancelled(),
                shutdown.is_cut().is_cancelled(),
            ]
        };
        assert_eq!(stages(&shutdown), [false; 3]);
        shutdown.drain();
        assert_eq!(stages(&shutdown), [true, false, false]);
        shutdown.close();
        assert_eq!(stages(&shutdown), [true, true, false]);
        let other = Shutdown::default();
        other.clone().cut();
        assert_eq!(stages(&other), [true; 3]);
    }
}
