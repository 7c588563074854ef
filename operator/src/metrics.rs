//! What the operator counts, and the health port that shows it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindResult {
    kind: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Write {
    manager: &'static str,
    verb: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindReady {
    kind: &'static str,
    ready: &'static str,
}

/// All that is counted. No label has a value for each object.
pub struct Metrics {
    registry: Registry,
    reconciles: Family<KindResult, Counter>,
    durations: Family<Kind, Histogram, fn() -> Histogram>,
    writes: Family<Write, Counter>,
    objects: Family<KindReady, Gauge>,
    leader: Gauge,
    ready: Mutex<HashMap<(&'static str, String), bool>>,
    live: AtomicBool,
    total_writes: AtomicU64,
}

fn histogram() -> Histogram {
    Histogram::new([0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0])
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("mcpauth_operator");
        let reconciles = Family::default();
        registry.register(
            "reconciles",
            "Reconciles by kind and result",
            reconciles.clone(),
        );
        let durations = Family::new_with_constructor(histogram as fn() -> Histogram);
        registry.register(
            "reconcile_duration_seconds",
            "Duration of reconciles",
            durations.clone(),
        );
        let writes = Family::default();
        registry.register("writes", "Writes to the Kubernetes API", writes.clone());
        let objects = Family::default();
        registry.register("objects", "Objects by kind and readiness", objects.clone());
        let leader = Gauge::default();
        registry.register(
            "leader",
            "1 while this replica is the leader",
            leader.clone(),
        );
        Self {
            registry,
            reconciles,
            durations,
            writes,
            objects,
            leader,
            ready: Mutex::default(),
            live: AtomicBool::new(false),
            total_writes: AtomicU64::new(0),
        }
    }
}

impl Metrics {
    /// Counts a write to the Kubernetes API.
    pub fn write(&self, manager: &'static str, verb: &'static str) {
        self.writes.get_or_create(&Write { manager, verb }).inc();
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
            .get_or_create(&Kind { kind })
            .observe(took.as_secs_f64());
    }

    /// Notes whether an object is ready; `None` when it is gone.
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

    /// Notes whether this replica is the leader.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// Notes that the replica works: it watches, or stands by for the leader.
    pub fn works(&self, works: bool) {
        self.live.store(works, Ordering::Relaxed);
    }

    /// The metrics in Prometheus' text format.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

async fn readyz(State(metrics): State<Arc<Metrics>>) -> (StatusCode, &'static str) {
    if metrics.live.load(Ordering::Relaxed) {
        (StatusCode::OK, "ok\n")
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "the API server has not answered yet, or the operator is stopping\n",
        )
    }
}

async fn show(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], metrics.text())
}

/// Serves `/livez`, `/readyz` and `/metrics` until `stop`.
///
/// # Errors
/// When the address cannot be bound; the message names it and says what to do.
pub async fn serve(
    address: SocketAddr,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind(address).await.map_err(|error| {
        anyhow::anyhow!("cannot listen on {address}: {error}; free that port, or give another with --health-address")
    })?;
    let router = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(show))
        .with_state(metrics);
    axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await?;
    Ok(())
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
        let text = metrics.text();
        assert!(
            text.contains(r#"objects{kind="McpAuthServer",ready="true"} 2"#),
            "{text}"
        );
        assert!(
            text.contains(r#"objects{kind="McpAuthServer",ready="false"} 0"#),
            "{text}"
        );
        metrics.object("McpAuthServer", "n/a".into(), None);
        assert!(metrics.text().contains(r#"ready="true"} 1"#));
    }

    #[test]
    fn writes_and_reconciles_are_counted() {
        let metrics = Metrics::default();
        metrics.write("mcpauth.io/auth-server", "create");
        metrics.reconciled("McpOAuthClient", "ok", Duration::from_millis(5));
        let text = metrics.text();
        assert_eq!(metrics.total_writes(), 1);
        assert!(text.contains("mcpauth_operator_writes_total{"), "{text}");
        assert!(
            text.contains(r#"reconciles_total{kind="McpOAuthClient",result="ok"} 1"#),
            "{text}"
        );
    }
}
