//! The log: lines on standard error, of one form for every program.
//!
//! JSON with the keys `timestamp`, `level`, `target`, `message` and the event's own fields beside them; the spans
//! that it is in are a list under `spans`, outermost first. On a terminal it is plain text. `RUST_LOG` filters.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Starts the log. `default` filters where `RUST_LOG` is not set, or not a filter.
///
/// Call it once: a second call changes nothing.
pub fn init(default: &str) {
    let from_environment = EnvFilter::try_from_default_env();
    let problem = match &from_environment {
        Err(error) if std::env::var_os(EnvFilter::DEFAULT_ENV).is_some() => Some(error.to_string()),
        _ => None,
    };
    let filter = from_environment.unwrap_or_else(|_| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // It fails only when there is a log already.
    let _ = if std::io::stderr().is_terminal() {
        builder.try_init()
    } else {
        let json = builder.json().flatten_event(true);
        json.with_current_span(false).try_init()
    };
    if let Some(problem) = problem {
        tracing::warn!(
            problem,
            default,
            "RUST_LOG is not a valid filter; using the default"
        );
    }
}
