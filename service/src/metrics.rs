//! A program's metrics, in the OpenMetrics text format.
//!
//! Names are `mcpauth_PROGRAM_WHAT_UNIT`, counters end in `_total`; docs/reference/metrics.md has them all. Each
//! label has few values that are known in advance, never a value that a client sent.

use prometheus_client::encoding::EncodeMetric;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Metric;

/// The media type of [`Registry::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The metrics of one program.
#[derive(Debug)]
pub struct Registry {
    metrics: prometheus_client::registry::Registry,
    prefix: String,
    described: Vec<Described>,
}

/// A registered metric.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Described {
    /// As Prometheus knows it, with prefix and suffix.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
}

impl Registry {
    /// For `program`, which is part of every name: `authserver`, `proxy` or `operator`.
    pub fn new(program: &str) -> Self {
        let prefix = format!("mcpauth_{program}");
        Self {
            metrics: prometheus_client::registry::Registry::with_prefix(&prefix),
            prefix,
            described: Vec::new(),
        }
    }

    /// Adds a metric. `name` is without prefix, and of a counter without `_total`; `help` without a full stop.
    pub fn register(&mut self, name: &str, help: &str, metric: impl Metric) {
        let (kind, suffix) = match EncodeMetric::metric_type(&metric) {
            MetricType::Counter => ("counter", "_total"),
            MetricType::Gauge => ("gauge", ""),
            MetricType::Histogram => ("histogram", ""),
            MetricType::Info => ("info", "_info"),
            MetricType::Unknown => ("unknown", ""),
        };
        self.described.push(Described {
            name: format!("{}_{name}{suffix}", self.prefix),
            kind,
        });
        self.metrics.register(name, help, metric);
    }

    /// All metrics that have a value, as text.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        if let Err(error) = encode(&mut text, &self.metrics) {
            // Writing to a string does not fail; half an exposition would be read as all of it.
            tracing::error!(%error, "cannot encode the metrics");
            text.clear();
        }
        text
    }

    /// All metrics, also those without a value yet.
    pub fn described(&self) -> &[Described] {
        &self.described
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::family::Family;
    use prometheus_client::metrics::gauge::Gauge;

    use super::*;

    #[test]
    fn names_are_those_that_are_shown() {
        let mut registry = Registry::new("authserver");
        let logins = Counter::<u64>::default();
        registry.register("logins", "Logins", logins.clone());
        registry.register("open", "Open connections", Gauge::<i64>::default());
        let labelled = Family::<Vec<(String, String)>, Counter>::default();
        registry.register("requests", "Requests", labelled);
        logins.inc();
        let text = registry.encode();
        assert!(
            text.contains("mcpauth_authserver_logins_total 1\n"),
            "{text}"
        );
        assert!(text.contains("mcpauth_authserver_open 0\n"), "{text}");
        let names = registry.described().iter();
        assert_eq!(
            names
                .map(|one| (one.name.as_str(), one.kind))
                .collect::<Vec<_>>(),
            [
                ("mcpauth_authserver_logins_total", "counter"),
                ("mcpauth_authserver_open", "gauge"),
                ("mcpauth_authserver_requests_total", "counter"),
            ]
        );
    }
}
