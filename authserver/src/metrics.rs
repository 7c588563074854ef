//! The server's metrics: `mcpauth_authserver_…` on the health port.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mcpauth_service::audit;
use mcpauth_service::metrics::Registry;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

type Durations<L> = Family<L, Histogram, fn() -> Histogram>;
type OnScrape = Box<dyn Fn(&Metrics) + Send + Sync>;

/// The server's counters.
pub struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    durations: Durations<Route>,
    tokens_issued: Family<Grant, Counter>,
    introspections: Family<Outcome, Counter>,
    logins: Family<Outcome, Counter>,
    refreshes: Family<Outcome, Counter>,
    pepper_uses: Family<PepperUse, Gauge>,
    signing_keys: Family<SigningKey, Gauge>,
    certificate_reloads: Family<Outcome, Counter>,
    store_operations: Durations<Operation>,
    store_operations_in_progress: Gauge,
    store_errors: Family<ErrorKind, Counter>,
    database_connections: Family<State, Gauge>,
    database_connections_max: Gauge,
    waiting: Family<Queue, Gauge>,
    on_scrape: Mutex<Vec<OnScrape>>,
    /// Counted by the audit itself.
    pub audit_lines: audit::Counted,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Operation {
    operation: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorKind {
    error: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Queue {
    queue: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    port: &'static str,
    route: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    port: &'static str,
    route: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Grant {
    grant_type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PepperUse {
    version: u16,
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SigningKey {
    algorithm: &'static str,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// The result of an introspection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Introspected {
    /// The token is live.
    Active,
    /// It is not, or never was.
    Inactive,
    /// It is live, but for a resource that the caller may not introspect.
    Foreign,
}

impl Introspected {
    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
            Self::Foreign => "foreign",
        }
    }
}

/// The counters of introspections, found once: looking them up costs more than counting.
#[derive(Debug)]
pub struct CountedIntrospections {
    active: Counter,
    inactive: Counter,
    foreign: Counter,
}

impl CountedIntrospections {
    /// Counts one.
    pub fn count(&self, result: Introspected) {
        let counter = match result {
            Introspected::Active => &self.active,
            Introspected::Inactive => &self.inactive,
            Introspected::Foreign => &self.foreign,
        };
        counter.inc();
    }
}

/// A route that is asked often: its counters are found once.
pub struct CountedRoute {
    metrics: Arc<Metrics>,
    port: &'static str,
    route: &'static str,
    durations: Histogram,
    answered: Counter,
}

impl fmt::Debug for CountedRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CountedRoute({})", self.route)
    }
}

impl CountedRoute {
    /// The counters of a route.
    pub fn new(metrics: Arc<Metrics>, port: &'static str, route: &'static str) -> Self {
        let durations = Route {
            port,
            route: route.to_owned(),
        };
        let answered = Request {
            port,
            route: route.to_owned(),
            status: 200,
        };
        Self {
            durations: metrics.durations.get_or_create_owned(&durations),
            answered: metrics.requests.get_or_create_owned(&answered),
            metrics,
            port,
            route,
        }
    }

    /// Counts a request.
    pub fn request(&self, status: u16, took: Duration) {
        match status {
            200 => {
                self.durations.observe(took.as_secs_f64());
                self.answered.inc();
            }
            _ => self.metrics.request(self.port, self.route, status, took),
        }
    }
}

/// The outcome of a sign-in attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginAttempt {
    /// The user has a session.
    Accepted,
    /// The name or the password was wrong.
    Refused,
    /// There were too many attempts.
    Limited,
}

/// The outcome of a refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshOutcome {
    /// The token was unused.
    Rotation,
    /// The token was used a moment ago: parallel requests, a retry, or a copy.
    Sibling,
    /// The token was used before, and no response to it has arrived.
    LostResponse,
    /// The token was used before: its family is revoked.
    Reuse,
    /// Anything else; nothing changed.
    Refused,
}

impl Default for Metrics {
    fn default() -> Self {
        // 0.5 ms to 16 s.
        let histogram: fn() -> Histogram = || Histogram::new(exponential_buckets(0.0005, 2.0, 16));
        let mut metrics = Self {
            registry: Registry::new("authserver"),
            requests: Family::default(),
            durations: Family::new_with_constructor(histogram),
            tokens_issued: Family::default(),
            introspections: Family::default(),
            logins: Family::default(),
            refreshes: Family::default(),
            pepper_uses: Family::default(),
            signing_keys: Family::default(),
            certificate_reloads: Family::default(),
            store_operations: Family::new_with_constructor(histogram),
            store_operations_in_progress: Gauge::default(),
            store_errors: Family::default(),
            database_connections: Family::default(),
            database_connections_max: Gauge::default(),
            waiting: Family::default(),
            on_scrape: Mutex::default(),
            audit_lines: audit::Counted::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "requests",
            "HTTP requests by port, route and status",
            self.requests.clone(),
        );
        registry.register(
            "request_duration_seconds",
            "Time until the response headers, by port and route",
            self.durations.clone(),
        );
        registry.register(
            "tokens_issued",
            "Access tokens issued, by grant type",
            self.tokens_issued.clone(),
        );
        registry.register(
            "introspections",
            "Introspected tokens, by result: active, inactive, or foreign (for a resource that the caller may not introspect)",
            self.introspections.clone(),
        );
        registry.register(
            "logins",
            "Sign-in attempts, by result: accepted, refused, or rate-limited",
            self.logins.clone(),
        );
        registry.register(
            "refreshes",
            "Refreshes, by result: rotation, sibling (the token was used a moment ago), lost_response (used before, but no response arrived), reuse (used before; all tokens revoked), or refused",
            self.refreshes.clone(),
        );
        registry.register(
            "pepper_uses",
            "What is stored under a version of the pepper that is not the current one, and would be lost with it; only while the keys file has more than one",
            self.pepper_uses.clone(),
        );
        registry.register(
            "signing_keys",
            "Keys for ID tokens by algorithm and state: Next (published before it signs), Active, or Retired (published until what it has signed has expired)",
            self.signing_keys.clone(),
        );
        registry.register(
            "internal_certificate_reloads",
            "Changes of the internal port's certificate or key, by result: applied, or refused (the previous certificate stays in use)",
            self.certificate_reloads.clone(),
        );
        self.audit_lines.register(registry);
        self.register_database();
    }

    fn register_database(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "store_operation_duration_seconds",
            "Time of operations on the database, by operation, including the wait for a connection",
            self.store_operations.clone(),
        );
        registry.register(
            "store_operations_in_progress",
            "Operations on the database that are in progress, or wait for a connection",
            self.store_operations_in_progress.clone(),
        );
        registry.register(
            "store_errors",
            "Failed operations on the database, by error: unavailable, unconfirmed, read_only, too_new, misconfigured, or internal",
            self.store_errors.clone(),
        );
        registry.register(
            "database_connections",
            "Open connections of the pool by state: used or idle; introspection and readiness have others",
            self.database_connections.clone(),
        );
        registry.register(
            "database_connections_max",
            "How many connections the pool may have",
            self.database_connections_max.clone(),
        );
        registry.register(
            "queue_waiting",
            "How many wait for their turn, by queue: password (to be hashed), assertion (to be verified), or registration (to be stored)",
            self.waiting.clone(),
        );
    }

    /// Counts a request. `route` is the route's pattern, never the path that was asked for.
    pub fn request(&self, port: &'static str, route: &str, status: u16, took: Duration) {
        let route = route.to_owned();
        let labels = Route {
            port,
            route: route.clone(),
        };
        self.durations
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
        let labels = Request {
            port,
            route,
            status,
        };
        self.requests.get_or_create(&labels).inc();
    }

    /// Counts an issued access token.
    pub fn token_issued(&self, grant_type: &'static str) {
        self.tokens_issued
            .get_or_create(&Grant { grant_type })
            .inc();
    }

    /// The counters of introspections.
    pub fn introspections(&self) -> CountedIntrospections {
        let of = |result: Introspected| {
            let outcome = result.as_str();
            self.introspections
                .get_or_create_owned(&Outcome { outcome })
        };
        CountedIntrospections {
            active: of(Introspected::Active),
            inactive: of(Introspected::Inactive),
            foreign: of(Introspected::Foreign),
        }
    }

    /// Counts a sign-in attempt.
    pub fn login(&self, result: LoginAttempt) {
        let outcome = match result {
            LoginAttempt::Accepted => "accepted",
            LoginAttempt::Refused => "refused",
            LoginAttempt::Limited => "limited",
        };
        self.logins.get_or_create(&Outcome { outcome }).inc();
    }

    /// Counts a refresh.
    pub fn refresh(&self, result: RefreshOutcome) {
        let outcome = match result {
            RefreshOutcome::Rotation => "rotation",
            RefreshOutcome::Sibling => "sibling",
            RefreshOutcome::LostResponse => "lost_response",
            RefreshOutcome::Reuse => "reuse",
            RefreshOutcome::Refused => "refused",
        };
        self.refreshes.get_or_create(&Outcome { outcome }).inc();
    }

    /// Sets how much of each kind is stored under a version of the pepper.
    pub fn pepper_uses(&self, version: u16, counts: &[(&'static str, u64)]) {
        for (kind, count) in counts.iter().copied() {
            let labels = PepperUse { version, kind };
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.pepper_uses.get_or_create(&labels).set(count);
        }
    }

    /// Sets how many signing keys of an algorithm are in a state.
    pub fn signing_keys(&self, algorithm: &'static str, state: &'static str, count: usize) {
        let labels = SigningKey { algorithm, state };
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.signing_keys.get_or_create(&labels).set(count);
    }

    /// Counts a change of the internal port's certificate.
    pub fn certificate_reload(&self, applied: bool) {
        let outcome = if applied { "applied" } else { "refused" };
        self.certificate_reloads
            .get_or_create(&Outcome { outcome })
            .inc();
    }

    /// An operation on the database, from now until its end.
    pub fn store_operation(&self, operation: &'static str) -> StoreOperation<'_> {
        self.store_operations_in_progress.inc();
        StoreOperation {
            metrics: self,
            operation,
            began: tokio::time::Instant::now(),
        }
    }

    /// Sets how many connections are open, how many of them are idle, and how many there may be.
    pub fn database_connections(&self, open: u32, idle: usize, max: u32) {
        let idle = i64::try_from(idle).unwrap_or(i64::MAX);
        let used = i64::from(open).saturating_sub(idle).max(0);
        for (state, count) in [("used", used), ("idle", idle)] {
            self.database_connections
                .get_or_create(&State { state })
                .set(count);
        }
        self.database_connections_max.set(max.into());
    }

    /// Sets how many wait in a queue.
    pub fn waiting(&self, queue: &'static str, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.waiting.get_or_create(&Queue { queue }).set(count);
    }

    /// Sets gauges whenever they are asked for.
    pub fn on_scrape(&self, set: impl Fn(&Self) + Send + Sync + 'static) {
        self.on_scrape_list().push(Box::new(set));
    }

    fn on_scrape_list(&self) -> std::sync::MutexGuard<'_, Vec<OnScrape>> {
        self.on_scrape
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// All metrics as OpenMetrics text.
    pub fn encode(&self) -> String {
        for set in self.on_scrape_list().iter() {
            set(self);
        }
        self.registry.encode()
    }
}

/// An operation on the database.
#[derive(Debug)]
pub struct StoreOperation<'a> {
    metrics: &'a Metrics,
    operation: &'static str,
    began: tokio::time::Instant,
}

impl StoreOperation<'_> {
    /// Counts an error of this kind.
    pub fn failed(&self, error: &'static str) {
        let errors = &self.metrics.store_errors;
        errors.get_or_create(&ErrorKind { error }).inc();
    }
}

/// Also when nobody waits for it any more.
impl Drop for StoreOperation<'_> {
    fn drop(&mut self) {
        let Self {
            metrics,
            operation,
            began,
        } = self;
        metrics.store_operations_in_progress.dec();
        metrics
            .store_operations
            .get_or_create(&Operation { operation })
            .observe(began.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_has_every_metric() {
        let metrics = Metrics::default();
        let counted = metrics.registry.described().iter();
        let counted = counted.map(|one| (one.name.as_str(), one.kind));
        mcpauth_test_support::metrics_page::assert_complete("authserver", counted);
    }
}
