//! The health port: `/livez`, `/readyz`, `/metrics`, and pages of the program.
//!
//! It keeps responding until the program ends, even while the other ports drain.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use tokio::task::JoinHandle;

use crate::listener::{Limits, Listener};
use crate::metrics;
use crate::shutdown::Shutdown;

/// How long in-flight responses may take when the program ends.
const DRAIN: Duration = Duration::from_secs(1);

/// The state that the probes report, shared by clones. Once the program drains, it is not ready, regardless of this state.
#[derive(Clone)]
pub struct Health(Arc<Inner>);

struct Inner {
    readiness: Mutex<Readiness>,
    shutdown: Shutdown,
    metrics: Box<dyn Fn() -> String + Send + Sync>,
    pages: Mutex<Vec<(&'static str, Arc<Page>)>>,
}

/// Whether the program is ready.
#[derive(Clone)]
enum Readiness {
    /// Not ready, for this reason.
    No(Arc<str>),
    Yes,
    /// Ready while this check finds no problem.
    If(Arc<Check>),
}

/// Answers a GET with a media type and a text.
type Page = dyn Fn() -> Pin<Box<dyn Future<Output = (&'static str, String)> + Send>> + Send + Sync;
type Check = dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync;

impl Health {
    /// Of a program that is starting, and drains with `shutdown`. `metrics` gives them as OpenMetrics text.
    pub fn new(shutdown: Shutdown, metrics: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner {
            readiness: Mutex::new(Readiness::No("starting".into())),
            shutdown,
            metrics: Box::new(metrics),
            pages: Mutex::default(),
        }))
    }

    /// Marks the program as not ready. The reason fits on one line and contains no secret.
    pub fn not_ready(&self, reason: impl Into<Arc<str>>) {
        self.set(Readiness::No(reason.into()));
    }

    /// Marks the program as ready.
    pub fn ready(&self) {
        self.set(Readiness::Yes);
    }

    /// Ready whenever `check` finds no problem. It runs for each probe.
    pub fn ready_if<F>(&self, check: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.set(Readiness::If(Arc::new(move || Box::pin(check()))));
    }

    /// Answers a GET of `path` with the media type and the text that `page` gives, however long that takes.
    pub fn page<F>(&self, path: &'static str, page: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = (&'static str, String)> + Send + 'static,
    {
        let mut pages = self.0.pages.lock().unwrap_or_else(PoisonError::into_inner);
        pages.push((path, Arc::new(move || Box::pin(page()))));
    }

    fn page_of(&self, path: &str) -> Option<Arc<Page>> {
        let pages = self.0.pages.lock().unwrap_or_else(PoisonError::into_inner);
        let found = pages.iter().find(|(of, _)| *of == path)?;
        Some(Arc::clone(&found.1))
    }

    fn set(&self, readiness: Readiness) {
        *self
            .0
            .readiness
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = readiness;
    }

    /// Why it is not ready, if so.
    async fn problem(&self) -> Result<(), Arc<str>> {
        if self.0.shutdown.draining().is_cancelled() {
            return Err("draining".into());
        }
        let readiness = self.0.readiness.lock();
        let readiness = readiness.unwrap_or_else(PoisonError::into_inner).clone();
        match readiness {
            Readiness::Yes => Ok(()),
            Readiness::No(reason) => Err(reason),
            Readiness::If(check) => check().await.map_err(Into::into),
        }
    }

    /// Answers a request.
    pub async fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "use GET");
            let allowed = HeaderValue::from_static("GET, HEAD");
            response.headers_mut().insert(ALLOW, allowed);
            return response;
        }
        match request.uri().path() {
            "/livez" => text(StatusCode::OK, "ok"),
            "/readyz" => match self.problem().await {
                Ok(()) => text(StatusCode::OK, "ok"),
                Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, &reason),
            },
            "/metrics" => respond(StatusCode::OK, metrics::CONTENT_TYPE, (self.0.metrics)()),
            other => match self.page_of(other) {
                Some(page) => {
                    let (kind, body) = page().await;
                    respond(StatusCode::OK, kind, body)
                }
                None => text(StatusCode::NOT_FOUND, "try /livez, /readyz or /metrics"),
            },
        }
    }

    /// Serves the port until [`HealthPort::stop`], or until the runtime ends.
    pub fn serve(&self, listener: Listener) -> HealthPort {
        let health = self.clone();
        let end = Shutdown::default();
        let limits = Limits {
            drain: DRAIN,
            ..Limits::INTERNAL
        };
        let serving = listener.serve_http1(limits, end.clone(), move |request, _| {
            let health = health.clone();
            async move { Ok::<_, Infallible>(health.answer(&request).await) }
        });
        HealthPort {
            end,
            task: tokio::spawn(serving),
        }
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Health")
    }
}

/// The served port.
#[derive(Debug)]
pub struct HealthPort {
    end: Shutdown,
    task: JoinHandle<()>,
}

impl HealthPort {
    /// Stops serving; call it last, when the program ends.
    pub async fn stop(self) {
        self.end.close();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the health port stopped unexpectedly");
        }
    }
}

fn text(status: StatusCode, line: &str) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", format!("{line}\n"))
}

fn respond(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use http_body_util::BodyExt as _;

    use super::*;

    fn health() -> (Health, Shutdown) {
        let shutdown = Shutdown::default();
        let health = Health::new(shutdown.clone(), || "# EOF\n".to_owned());
        (health, shutdown)
    }

    async fn ask(health: &Health, path: &str) -> (u16, String) {
        let request = Request::get(path).body(()).unwrap();
        let response = health.answer(&request).await;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    fn says(status: u16, line: &str) -> (u16, String) {
        (status, format!("{line}\n"))
    }

    #[tokio::test]
    async fn readiness_has_a_reason() {
        let (health, shutdown) = health();
        assert_eq!(ask(&health, "/readyz").await, says(503, "starting"));
        health.not_ready("waiting for the database");
        let waiting = says(503, "waiting for the database");
        assert_eq!(ask(&health, "/readyz").await, waiting);
        health.ready();
        assert_eq!(ask(&health, "/readyz").await, says(200, "ok"));
        shutdown.drain();
        assert_eq!(ask(&health, "/readyz").await, says(503, "draining"));
        health.ready();
        assert_eq!(ask(&health, "/readyz").await, says(503, "draining"));
        assert_eq!(ask(&health, "/livez").await, says(200, "ok"));
        assert_eq!(ask(&health, "/metrics").await, says(200, "# EOF"));
        assert_eq!(ask(&health, "/").await.0, 404);
    }

    #[tokio::test]
    async fn a_check_is_made_for_each_probe() {
        let (health, _) = health();
        let works = Arc::new(AtomicBool::new(true));
        let checked = works.clone();
        health.ready_if(move || {
            let works = checked.load(Ordering::Relaxed);
            async move { works.then_some(()).ok_or_else(|| "no store".to_owned()) }
        });
        assert_eq!(ask(&health, "/readyz").await, says(200, "ok"));
        works.store(false, Ordering::Relaxed);
        assert_eq!(ask(&health, "/readyz").await, says(503, "no store"));
    }

    #[tokio::test]
    async fn a_program_may_have_pages_of_its_own() {
        let (health, _) = health();
        assert_eq!(ask(&health, "/colour").await.0, 404);
        health.page("/colour", || async { ("text/plain", "red".to_owned()) });
        assert_eq!(ask(&health, "/colour").await, (200, "red".to_owned()));
    }

    #[tokio::test]
    async fn only_get_and_head() {
        let (health, _) = health();
        for (method, status) in [("POST", 405), ("HEAD", 200), ("DELETE", 405)] {
            let request = Request::builder().method(method).uri("/livez");
            let response = health.answer(&request.body(()).unwrap()).await;
            assert_eq!(response.status(), status, "{method}");
        }
    }
}
