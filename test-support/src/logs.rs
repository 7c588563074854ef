//! Collects what code logs: every event and every span's fields, at every level, as text.
//!
//! ```
//! let logs = mcpauth_test_support::logs::capture();
//! let request = tracing::info_span!("request", client = "app").entered();
//! tracing::warn!(reason = "expired", "token refused");
//! drop(request);
//! assert_eq!(logs.containing("token refused").len(), 1);
//! logs.assert_free_of(&["mat_the-token-itself"]);
//! ```

use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

/// Collects from now on, until the answer is dropped, what this thread logs.
///
/// In a `#[tokio::test]` that is what all its tasks log, as they run on the test's thread; not with
/// `flavor = "multi_thread"`, and not what `spawn_blocking` runs.
#[must_use]
pub fn capture() -> Logs {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::registry().with(Collector(lines.clone()));
    Logs {
        lines,
        _default: tracing::subscriber::set_default(subscriber),
    }
}

/// The lines that [`capture`] collects.
///
/// An event is `LEVEL target: message field=value … in SPAN{field=value …} in SPAN{…}`. A span is
/// `span SPAN{field=value …}` when it begins, and again when a field is recorded later.
pub struct Logs {
    lines: Lines,
    _default: DefaultGuard,
}

impl Logs {
    /// All lines until now.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().clone()
    }

    /// The lines that contain `text`.
    #[must_use]
    pub fn containing(&self, text: &str) -> Vec<String> {
        let lines = self.lines.lock();
        let found = lines.iter().filter(|line| line.contains(text));
        found.cloned().collect()
    }

    /// Asserts that something was logged, and that no line contains one of `secrets`.
    ///
    /// # Panics
    /// When nothing was logged, or a secret was: the message has the line.
    pub fn assert_free_of(&self, secrets: &[&str]) {
        let lines = self.lines.lock();
        assert!(!lines.is_empty(), "nothing was logged");
        for line in lines.iter() {
            for secret in secrets {
                assert!(!line.contains(secret), "{secret} is in the log: {line}");
            }
        }
    }
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Collector(Lines);

/// A span's fields, kept with the span.
#[derive(Default)]
struct Fields {
    message: String,
    others: String,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        // Not by its Debug form: a secret with a quote in it would not be found.
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.others, " {name}={value:?}"),
        };
    }
}

impl Fields {
    fn in_span(&self, name: &str) -> String {
        format!("{name}{{{}}}", self.others.trim_start())
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Collector {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let line = fields.in_span(attributes.metadata().name());
        self.0.lock().push(format!("span {line}"));
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut extensions = span.extensions_mut();
        if let Some(fields) = extensions.get_mut::<Fields>() {
            values.record(fields);
            let line = fields.in_span(span.name());
            self.0.lock().push(format!("span {line}"));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let mut line = format!(
            "{} {}: {}{}",
            metadata.level(),
            metadata.target(),
            fields.message,
            fields.others
        );
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<Fields>() {
                line.push_str(" in ");
                line.push_str(&fields.in_span(span.name()));
            }
        }
        self.0.lock().push(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_and_spans_are_collected_with_their_fields() {
        let logs = capture();
        let outer = tracing::info_span!("request", client = "app", outcome = tracing::field::Empty);
        let entered = outer.enter();
        tracing::trace_span!("inner", quoted = "a\"b").in_scope(|| {
            tracing::debug!(tool = %"read", "called");
        });
        drop(entered);
        outer.record("outcome", "ok");
        assert_eq!(
            logs.lines(),
            [
                "span request{client=app}",
                "span inner{quoted=a\"b}",
                "DEBUG mcpauth_test_support::logs::tests: called tool=read in inner{quoted=a\"b} \
                 in request{client=app}",
                "span request{client=app outcome=ok}",
            ]
        );
        assert_eq!(logs.containing("called").len(), 1);
        logs.assert_free_of(&["mat_"]);
    }

    #[test]
    #[should_panic(expected = "s3cret is in the log")]
    fn a_secret_in_a_span_is_found() {
        let logs = capture();
        tracing::info_span!("login", password = "s3cret");
        logs.assert_free_of(&["s3cret"]);
    }

    #[test]
    fn what_is_logged_afterwards_is_not_collected() {
        let first = capture();
        tracing::info!("one");
        let lines = first.lines();
        drop(first);
        let second = capture();
        tracing::info!("two");
        assert_eq!(lines.len(), 1);
        assert_eq!(second.lines().len(), 1);
    }
}
