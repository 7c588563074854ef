//! The proxy's metrics: `mcpauth_proxy_…` on the health port.

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use mcpauth_service::audit::Counted;
use mcpauth_service::metrics::Registry;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::limits::friction::Decision;

/// The program's metrics. Clones count together.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    requests: Family<Outcome, Counter>,
    lookups: Family<Labelled, Counter>,
    introspections: Family<Labelled, Counter>,
    introspection_seconds: Histogram,
    upstream_seconds: Histogram,
    friction_seconds: Family<Tool, Histogram>,
    friction_observed: Family<Tool, Gauge<f64, AtomicU64>>,
    friction_target: Family<Tool, Gauge<f64, AtomicU64>>,
    friction_waiting: Gauge,
    reloads: Family<Labelled, Counter>,
    rejected: Gauge,
    lacks_traces: Gauge,
    calls: Family<Call, Counter>,
    call_seconds: Family<ByRule, Histogram>,
    audit_lines: Counted,
    outage: AtomicBool,
}

/// The rule that decided about a call: by its place, because rules have no names, and patterns may be many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// The one at this place in `access.rules`.
    At(usize),
    /// `access.unmatched`.
    Unmatched,
    /// It was refused before the rules were asked.
    None,
}

impl EncodeLabelValue for Rule {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        match self {
            Self::At(index) => write!(encoder, "{index}"),
            Self::Unmatched => encoder.write_str("unmatched"),
            Self::None => encoder.write_str("none"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByRule {
    rule: Rule,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    rule: Rule,
    outcome: &'static str,
}

/// The outcome of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// The result of a lookup in the token cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lookup {
    /// A valid token.
    Hit,
    /// An invalid token.
    NegativeHit,
    /// No entry, but a check of the same token is in flight.
    Joined,
    /// No entry.
    Miss,
}

/// The result of an introspection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IntrospectionResult {
    /// The token is valid for this resource.
    Active,
    /// It is not.
    Inactive,
    /// There is no usable response.
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Tool {
    tool: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labelled {
    result: &'static str,
}

impl Metrics {
    /// With everything at zero.
    pub fn new() -> Self {
        let mut inner = Inner {
            registry: Registry::new("proxy"),
            requests: Family::default(),
            lookups: Family::default(),
            introspections: Family::default(),
            introspection_seconds: seconds(),
            upstream_seconds: seconds(),
            friction_seconds: Family::new_with_constructor(delays),
            friction_observed: Family::default(),
            friction_target: Family::default(),
            friction_waiting: Gauge::default(),
            reloads: Family::default(),
            rejected: Gauge::default(),
            lacks_traces: Gauge::default(),
            calls: Family::default(),
            call_seconds: Family::new_with_constructor(few_seconds),
            audit_lines: Counted::default(),
            outage: AtomicBool::new(false),
        };
        inner.register();
        Self(Arc::new(inner))
    }

    /// All metrics as OpenMetrics text.
    pub fn encode(&self) -> String {
        self.0.registry.encode()
    }

    /// Counts a request by its outcome.
    pub fn request(&self, outcome: &'static str) {
        self.0.requests.get_or_create(&Outcome { outcome }).inc();
    }

    /// Counts a lookup in the token cache.
    pub fn lookup(&self, result: Lookup) {
        let result = match result {
            Lookup::Hit => "hit",
            Lookup::NegativeHit => "negative_hit",
            Lookup::Joined => "joined",
            Lookup::Miss => "miss",
        };
        self.0.lookups.get_or_create(&Labelled { result }).inc();
    }

    /// Counts an introspection and its duration.
    pub fn introspection(&self, result: IntrospectionResult, took: Duration) {
        let result = match result {
            IntrospectionResult::Active => "active",
            IntrospectionResult::Inactive => "inactive",
            IntrospectionResult::Failed => "failed",
        };
        self.0
            .introspections
            .get_or_create(&Labelled { result })
            .inc();
        self.0.introspection_seconds.observe(took.as_secs_f64());
    }

    /// Records that tokens cannot be checked. Returns whether they could be before.
    pub fn unavailable(&self) -> bool {
        !self.0.outage.swap(true, Ordering::Relaxed)
    }

    /// Records that tokens can be checked.
    pub fn available(&self) {
        if self.0.outage.swap(false, Ordering::Relaxed) {
            tracing::info!("tokens can be checked again");
        }
    }

    /// Records the time until the server's response headers.
    pub fn upstream(&self, took: Duration) {
        self.0.upstream_seconds.observe(took.as_secs_f64());
    }

    /// Records friction's decision on a call. `tool` is a name from the configuration.
    pub fn friction(&self, tool: &str, decision: &Decision) {
        let label = Tool {
            tool: tool.to_owned(),
        };
        let delay = decision.delay.as_secs_f64();
        self.0.friction_seconds.get_or_create(&label).observe(delay);
        self.0
            .friction_observed
            .get_or_create(&label)
            .set(decision.observed);
        self.0
            .friction_target
            .get_or_create(&label)
            .set(decision.target);
    }

    /// Changes the number of requests that friction delays.
    pub fn held_back(&self, more: i64) {
        self.0.friction_waiting.inc_by(more);
    }

    /// Counts a reload of the configuration, and says whether the file is another one than that in force.
    pub fn reload(&self, succeeded: bool) {
        let result = if succeeded { "success" } else { "failure" };
        self.0.reloads.get_or_create(&Labelled { result }).inc();
        self.0.rejected.set(i64::from(!succeeded));
    }

    /// Says whether traces are wanted and cannot be exported.
    pub fn lacks_traces(&self, lacks: bool) {
        self.0.lacks_traces.set(i64::from(lacks));
    }

    /// Counts a call by the rule that decided, and how long it took.
    pub fn call(&self, rule: Rule, outcome: &'static str, took: Duration) {
        self.0.calls.get_or_create(&Call { rule, outcome }).inc();
        let seconds = self.0.call_seconds.get_or_create(&ByRule { rule });
        seconds.observe(took.as_secs_f64());
    }

    /// Counts lines of the audit.
    pub fn audit_lines(&self) -> Counted {
        self.0.audit_lines.clone()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Inner {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("requests", "Requests, by outcome", self.requests.clone());
        registry.register(
            "token_lookups",
            "Lookups in the token cache",
            self.lookups.clone(),
        );
        registry.register(
            "introspections",
            "Introspection requests to the authorization server",
            self.introspections.clone(),
        );
        registry.register(
            "introspection_duration_seconds",
            "Duration of introspection, including the time in the queue",
            self.introspection_seconds.clone(),
        );
        registry.register(
            "upstream_duration_seconds",
            "Time until the MCP server's response headers",
            self.upstream_seconds.clone(),
        );
        registry.register(
            "friction_delay_seconds",
            "Delay added to tool calls",
            self.friction_seconds.clone(),
        );
        registry.register(
            "friction_observed_calls_per_second",
            "Call rate at the last decision",
            self.friction_observed.clone(),
        );
        registry.register(
            "friction_target_calls_per_second",
            "Target rate at the last decision",
            self.friction_target.clone(),
        );
        registry.register(
            "friction_waiting_requests",
            "Requests currently delayed",
            self.friction_waiting.clone(),
        );
        registry.register(
            "config_reloads",
            "Reloads of the configuration file, by result",
            self.reloads.clone(),
        );
        registry.register(
            "config_rejected",
            "1 while the configuration file is invalid and the previous one stays in force",
            self.rejected.clone(),
        );
        registry.register(
            "traces_rejected",
            "1 while traces are not exported because their configuration cannot be used",
            self.lacks_traces.clone(),
        );
        self.register_calls();
    }

    fn register_calls(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "calls",
            "Calls that access rules are about, by the rule that decided and outcome",
            self.calls.clone(),
        );
        registry.register(
            "call_duration_seconds",
            "Time until the response headers of a call, including friction's delay",
            self.call_seconds.clone(),
        );
        self.audit_lines.register(registry);
    }
}

fn seconds() -> Histogram {
    Histogram::new([
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0,
    ])
}

/// Fewer, because there is a histogram for each rule.
fn few_seconds() -> Histogram {
    Histogram::new([0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0])
}

fn delays() -> Histogram {
    Histogram::new([
        0.0, 0.01, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_counted_is_shown() {
        let metrics = Metrics::new();
        metrics.request("forwarded");
        metrics.lookup(Lookup::NegativeHit);
        metrics.introspection(IntrospectionResult::Active, Duration::from_millis(3));
        metrics.reload(false);
        let took = Duration::from_millis(20);
        for rule in [Rule::At(3), Rule::Unmatched, Rule::None] {
            metrics.call(rule, "refused", took);
        }
        let text = metrics.encode();
        for line in [
            "mcpauth_proxy_requests_total{outcome=\"forwarded\"} 1",
            "mcpauth_proxy_token_lookups_total{result=\"negative_hit\"} 1",
            "mcpauth_proxy_introspections_total{result=\"active\"} 1",
            "mcpauth_proxy_introspection_duration_seconds_count 1",
            "mcpauth_proxy_config_reloads_total{result=\"failure\"} 1",
            "mcpauth_proxy_config_rejected 1",
            "mcpauth_proxy_calls_total{rule=\"3\",outcome=\"refused\"} 1",
            "mcpauth_proxy_calls_total{rule=\"unmatched\",outcome=\"refused\"} 1",
            "mcpauth_proxy_call_duration_seconds_bucket{le=\"0.025\",rule=\"none\"} 1",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[test]
    fn the_reference_has_every_metric() {
        let metrics = Metrics::new();
        let counted = metrics.0.registry.described().iter();
        let counted = counted.map(|one| (one.name.as_str(), one.kind));
        mcpauth_test_support::metrics_page::assert_complete("proxy", counted);
    }

    #[test]
    fn an_outage_begins_once() {
        let metrics = Metrics::new();
        assert!(metrics.unavailable());
        assert!(!metrics.unavailable());
        metrics.available();
        assert!(metrics.unavailable());
    }
}
