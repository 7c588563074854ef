//! The log: lines on standard error, of one form for every program.
//!
//! JSON with the keys `timestamp`, `level`, `target`, `message` and the event's own fields beside them; the spans
//! that it is in are a list under `spans`, outermost first. On a terminal it is plain text. `RUST_LOG` filters.

use std::io::IsTerminal as _;

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::otlp::Traces;

/// Starts the log. `default` filters where `RUST_LOG` is not set, or not a filter. Spans for `traces` are collected,
/// too, whatever the filter says.
///
/// Call it once: a second call changes nothing.
pub fn init(default: &str, traces: Option<&Traces>) {
    let from_environment = EnvFilter::try_from_default_env();
    let problem = match &from_environment {
        Err(error) if std::env::var_os(EnvFilter::DEFAULT_ENV).is_some() => Some(error.to_string()),
        _ => None,
    };
    let filter = from_environment.unwrap_or_else(|_| EnvFilter::new(default));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match std::io::stderr().is_terminal() {
        true => lines.boxed(),
        false => {
            let json = lines.json().flatten_event(true);
            json.with_current_span(false).boxed()
        }
    };
    let registry = tracing_subscriber::registry();
    // It fails only when there is a log already.
    let _ = match traces {
        // A filter for all costs less than one for each layer.
        None => registry.with(lines).with(filter).try_init(),
        Some(traces) => {
            let lines = lines.with_filter(filter);
            registry.with(lines).with(traces.layer()).try_init()
        }
    };
    if let Some(problem) = problem {
        tracing::warn!(
            problem,
            default,
            "RUST_LOG is not a valid filter; using the default"
        );
    }
}
