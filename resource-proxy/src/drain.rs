//! The end of a pod: how a proxy lets go of its clients before the MCP server behind it stops.
//!
//! Kubernetes ends a native sidecar after the server, but runs the preStop hooks of both at once, while it
//! takes the pod out of its Services. The proxy's hook is `mcp-resource-proxy drain`, which sends SIGUSR1; the
//! server's hook is a GET of `/drained` on the health port, which is answered when nothing needs the server any
//! more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use mcpauth_service::clock::Clock;
use mcpauth_service::shutdown::Shutdown;
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::Semaphore;

use crate::http::connection::Activity;

/// How long requests may still come after the drain began: Kubernetes needs that long to send them elsewhere.
pub const ELSEWHERE: Duration = Duration::from_secs(5);

/// How long after the server's hook the proxy's own may come: both run at once, and starting a program takes longer.
const BEGINS: Duration = Duration::from_secs(10);
/// How many requests may wait for the drain. The kubelet sends one; others must not take the health port's
/// connections from its probes.
const WAITING: usize = 16;

/// Asks the proxy in this container to drain: the container's first process.
///
/// # Errors
/// The first process is another program, or cannot be signalled.
pub fn ask() -> anyhow::Result<()> {
    let first = std::fs::read("/proc/1/cmdline").context("cannot read /proc/1/cmdline")?;
    let program = first.split(|byte| *byte == 0).next().unwrap_or_default();
    ensure!(
        program.ends_with(b"mcp-resource-proxy"),
        "process 1 is not mcp-resource-proxy: run this in the proxy's own container, as its preStop hook does"
    );
    kill_process(Pid::INIT, Signal::USR1).context("cannot send SIGUSR1 to process 1")
}

/// Knows how far a proxy has come with draining.
#[derive(Debug)]
pub struct Drain {
    shutdown: Shutdown,
    clock: Clock,
    connections: Mutex<Connections>,
    waiting: Semaphore,
}

#[derive(Debug, Default)]
struct Connections {
    next: u64,
    open: HashMap<u64, Activity>,
}

/// An open connection, until it is dropped.
#[derive(Debug)]
pub struct Connection {
    drain: Arc<Drain>,
    number: u64,
    /// Its requests.
    pub activity: Activity,
}

impl Drain {
    /// Of a program that stops with `shutdown`.
    pub fn new(shutdown: Shutdown, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            shutdown,
            clock,
            connections: Mutex::default(),
            waiting: Semaphore::new(WAITING),
        })
    }

    /// Ends when the drain begins: from then on nothing waits without need.
    pub async fn begun(&self) {
        self.shutdown.draining().cancelled().await;
    }

    /// Whether the drain has begun.
    pub fn has_begun(&self) -> bool {
        self.shutdown.draining().is_cancelled()
    }

    /// Ends when new requests go to other pods, or this process stops: from then on what lasts for ever can be
    /// ended, and its client finds another pod.
    pub async fn elsewhere(&self) {
        self.begun().await;
        tokio::select! {
            () = self.clock.sleep(ELSEWHERE) => {}
            () = self.shutdown.closing().cancelled() => {}
        }
    }

    /// Ends when requests go elsewhere and none is in progress here.
    pub async fn drained(&self) {
        self.elsewhere().await;
        while let Some(busy) = self.busy() {
            busy.quiet().await;
        }
    }

    /// What the preStop hook of the server is told, once it need not wait any longer.
    pub async fn hook(&self) -> &'static str {
        let Ok(_place) = self.waiting.try_acquire() else {
            return "too many requests wait for the drain";
        };
        if tokio::time::timeout(BEGINS, self.begun()).await.is_err() {
            return "not draining: the proxy's preStop hook did not run";
        }
        self.drained().await;
        "drained"
    }

    /// Counts the requests of a new connection.
    pub fn connection(self: &Arc<Self>) -> Connection {
        let activity = Activity::default();
        let mut connections = self.lock();
        let number = connections.next;
        connections.next += 1;
        connections.open.insert(number, activity.clone());
        drop(connections);
        Connection {
            drain: Arc::clone(self),
            number,
            activity,
        }
    }

    /// A connection with requests in progress.
    fn busy(&self) -> Option<Activity> {
        let connections = self.lock();
        let mut open = connections.open.values();
        open.find(|activity| !activity.is_quiet()).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Connections> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.drain.lock().open.remove(&self.number);
    }
}
