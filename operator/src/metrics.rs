//! The operator's metrics: `mcpauth_operator_…` on the health port.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mcpauth_service::metrics::Registry;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindResult {
    kind: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ManagerVerb {
    manager: &'static str,
    verb: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindReady {
    kind: &'static str,
    ready: &'static str,
}

/// All metrics. No label has a value per object.
pub struct Metrics {
    registry: Registry,
    reconciles: Family<KindResult, Counter>,
    durations: Family<KindLabel, Histogram, fn() -> Histogram>,
    writes: Family<ManagerVerb, Counter>,
    objects: Family<KindReady, Gauge>,
    claimed_elsewhere: Family<KindLabel, Gauge>,
    leader: Gauge,
    ready: Mutex<HashMap<(&'static str, String), bool>>,
    total_writes: AtomicU64,
}

fn histogram() -> Histogram {
    Histogram::new([0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0])
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::new("operator"),
            reconciles: Family::default(),
            durations: Family::new_with_constructor(histogram),
            writes: Family::default(),
            objects: Family::default(),
            claimed_elsewhere: Family::default(),
            leader: Gauge::default(),
            ready: Mutex::default(),
            total_writes: AtomicU64::new(0),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "reconciles",
            "Reconciles, by kind and result",
            self.reconciles.clone(),
        );
        registry.register(
            "reconcile_duration_seconds",
            "Duration of reconciles, by kind",
            self.durations.clone(),
        );
        registry.register(
            "writes",
            "Writes to the Kubernetes API, by field manager and verb",
            self.writes.clone(),
        );
        registry.register(
            "objects",
            "Objects, by kind and readiness",
            self.objects.clone(),
        );
        registry.register(
            "objects_claimed_elsewhere",
            "Objects that are left unchanged because another installation of the operator manages them, by kind",
            self.claimed_elsewhere.clone(),
        );
        registry.register(
            "leader",
            "1 on the leader, 0 on other replicas",
            self.leader.clone(),
        );
    }

    /// Counts a write to the Kubernetes API.
    pub fn write(&self, manager: &'static str, verb: &'static str) {
        self.writes
            .get_or_create(&ManagerVerb { manager, verb })
            .inc();
        self.total_writes.fetch_add(1, Ordering::Relaxed);
    }

    /// All writes so far.
    pub fn total_writes(&self) -> u64 {
        self.total_writes.load(Ordering::Relaxed)
    }

    /// Counts a reconcile.
    pub fn reconciled(&self, kind: &'static str, result: &'static str, took: Duration) {
        self.reconciles
            .get_or_create(&KindResult { kind, result })
            .inc();
        self.durations
            .get_or_create(&KindLabel { kind })
            .observe(took.as_secs_f64());
    }

    /// Records whether an object is ready; `None` when it was deleted.
    pub fn object(&self, kind: &'static str, object: String, ready: Option<bool>) {
        let gauge = |ready: bool| {
            let ready = if ready { "true" } else { "false" };
            self.objects.get_or_create_owned(&KindReady { kind, ready })
        };
        let mut known = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match ready {
            Some(ready) => known.insert((kind, object), ready),
            None => known.remove(&(kind, object)),
        };
        if let Some(before) = before {
            gauge(before).dec();
        }
        if let Some(now) = ready {
            gauge(now).inc();
        }
    }

    /// Records how many objects another installation manages.
    pub fn left_alone(&self, kind: &'static str, count: usize) {
        let gauge = self
            .claimed_elsewhere
            .get_or_create_owned(&KindLabel { kind });
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Records whether this replica is the leader.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// All metrics as OpenMetrics text.
    pub fn encode(&self) -> String {
        self.registry.encode()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_is_counted_by_kind_and_forgotten_with_the_object() {
        let metrics = Metrics::default();
        metrics.object("McpAuthServer", "n/a".into(), Some(false));
        metrics.object("McpAuthServer", "n/b".into(), Some(true));
        metrics.object("McpAuthServer", "n/a".into(), Some(true));
        let text = metrics.encode();
        assert!(
            text.contains(r#"objects{kind="McpAuthServer",ready="true"} 2"#),
            "{text}"
        );
        assert!(
            text.contains(r#"objects{kind="McpAuthServer",ready="false"} 0"#),
            "{text}"
        );
        metrics.object("McpAuthServer", "n/a".into(), None);
        assert!(metrics.encode().contains(r#"ready="true"} 1"#));
    }

    #[test]
    fn writes_and_reconciles_are_counted() {
        let metrics = Metrics::default();
        metrics.write("mcpauth.io/auth-server", "create");
        metrics.reconciled("McpOAuthClient", "ok", Duration::from_millis(5));
        let text = metrics.encode();
        assert_eq!(metrics.total_writes(), 1);
        assert!(text.contains("mcpauth_operator_writes_total{"), "{text}");
        assert!(
            text.contains(r#"reconciles_total{kind="McpOAuthClient",result="ok"} 1"#),
            "{text}"
        );
    }

    #[test]
    fn the_reference_has_every_metric() {
        let metrics = Metrics::default();
        let counted = metrics.registry.described().iter();
        let counted = counted.map(|one| (one.name.as_str(), one.kind));
        mcpauth_test_support::metrics_page::assert_complete("operator", counted);
    }
}
