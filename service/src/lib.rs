//! Code that all servers of this workspace share: time, signals, ports and their limits, threads for heavy work, the health port, metrics,
//! the log, the audit, traces, and exit statuses.
//!
//! It knows nothing of OAuth, MCP or Kubernetes.

pub mod admission;
pub mod audit;
pub mod clock;
pub mod connections;
pub mod fair_queue;
pub mod health;
pub mod heavy;
pub mod listener;
pub mod log;
pub mod metrics;
pub mod otlp;
pub mod program;
pub mod shutdown;
mod stream;
pub mod tls;
pub mod trace;
