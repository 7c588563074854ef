//! The health port: probes and metrics.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderValue, StatusCode, header};

use crate::http::state::App;

/// What the probes know. The server is ready from when its parts are together until it is told to stop.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    app: OnceLock<Arc<App>>,
    stopping: AtomicBool,
    waiting_for: Mutex<Option<String>>,
}

impl Health {
    /// What the start waits for.
    pub fn waiting_for(&self, reason: String) {
        *self
            .0
            .waiting_for
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }

    /// The parts are together.
    pub fn started(&self, app: Arc<App>) {
        // Set once, at start; a second call would change nothing.
        let _ = self.0.app.set(app);
    }

    /// No more requests are wanted.
    pub fn stopping(&self) {
        self.0.stopping.store(true, Ordering::SeqCst);
    }
}

/// The health port's routes.
pub fn router(health: Health) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(health)
}

async fn readyz(State(health): State<Health>) -> Response {
    let not_ready =
        |reason: String| (StatusCode::SERVICE_UNAVAILABLE, reason + "\n").into_response();
    if health.0.stopping.load(Ordering::SeqCst) {
        return not_ready("stopping".into());
    }
    let Some(app) = health.0.app.get() else {
        let waiting_for = health.0.waiting_for.lock();
        let reason = waiting_for.unwrap_or_else(PoisonError::into_inner).clone();
        return not_ready(reason.unwrap_or_else(|| "starting".into()));
    };
    match tokio::time::timeout(Duration::from_secs(2), app.store.ping()).await {
        Ok(Ok(())) => "ok\n".into_response(),
        Ok(Err(error)) => not_ready(error.to_string()),
        Err(_) => not_ready("the store does not answer within two seconds".into()),
    }
}

async fn metrics(State(health): State<Health>) -> Response {
    let text = health.0.app.get().map(|app| app.metrics.encode());
    let format = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let content_type = (header::CONTENT_TYPE, HeaderValue::from_static(format));
    // Nothing has been counted before the start.
    ([content_type], text.unwrap_or_else(|| "# EOF\n".into())).into_response()
}
