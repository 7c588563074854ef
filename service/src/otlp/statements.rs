//! SQL statements as spans: `sqlx` reports each with an event when it has ended. Only the kind of a statement is kept.

use std::time::Duration;

use opentelemetry::trace::{Span as _, SpanBuilder, SpanKind, TraceContextExt as _, Tracer};
use opentelemetry::{Context, KeyValue};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer;
use tracing_subscriber::registry::LookupSpan;

/// The target of the events.
const SQLX: &str = "sqlx::query";

/// Turns the events into spans of what is under way.
pub(super) fn layer<S, T>(tracer: T) -> impl Layer<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    T: Tracer<Span: Send + Sync> + Send + Sync + 'static,
{
    // Not `is_event`: whether anybody wants it is asked with neither an event nor a span.
    Statements(tracer).with_filter(filter_fn(|of| !of.is_span() && of.target() == SQLX))
}

struct Statements<T>(T);

impl<S: Subscriber, T: Tracer + Send + Sync + 'static> Layer<S> for Statements<T> {
    fn on_event(&self, event: &Event<'_>, _: layer::Context<'_, S>) {
        let parent = Context::current();
        if !parent.span().span_context().is_sampled() {
            return;
        }
        let mut statement = Statement::default();
        event.record(&mut statement);
        let end = opentelemetry::time::now();
        let builder = SpanBuilder::from_name(statement.kind)
            .with_kind(SpanKind::Client)
            .with_start_time(end.checked_sub(statement.took).unwrap_or(end))
            .with_attributes([
                KeyValue::new("db.system.name", "postgresql"),
                KeyValue::new("db.operation.name", statement.kind),
            ]);
        let mut span = self.0.build_with_context(builder, &parent);
        span.end_with_timestamp(end);
    }
}

/// What is kept of a statement.
struct Statement {
    kind: &'static str,
    took: Duration,
}

impl Default for Statement {
    fn default() -> Self {
        Self {
            kind: "OTHER",
            took: Duration::ZERO,
        }
    }
}

impl Visit for Statement {
    fn record_f64(&mut self, field: &Field, value: f64) {
        if field.name() == "elapsed_secs" {
            self.took = Duration::try_from_secs_f64(value).unwrap_or_default();
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "summary" {
            self.kind = kind(value);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

/// The first word of a statement, if it is a known one.
fn kind(statement: &str) -> &'static str {
    const KINDS: [&str; 12] = [
        "SELECT",
        "INSERT",
        "UPDATE",
        "DELETE",
        "WITH",
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        "SAVEPOINT",
        "SET",
        "LOCK",
        "CREATE",
    ];
    let word = statement.split_whitespace().next().unwrap_or_default();
    let known = KINDS
        .into_iter()
        .find(|kind| kind.eq_ignore_ascii_case(word));
    known.unwrap_or("OTHER")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_kind_of_a_statement_is_kept() {
        assert_eq!(kind("SELECT id, subject, client_id, resource, …"), "SELECT");
        assert_eq!(kind("\n  with gone AS (…"), "WITH");
        assert_eq!(kind("'secret'"), "OTHER");
        assert_eq!(kind(""), "OTHER");
    }
}
