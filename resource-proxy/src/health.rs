//! The health port: `/livez`, `/readyz`, `/metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;

use crate::metrics::Metrics;

/// What the health port knows. Not whether the authorization server is up: restarting or isolating
/// a proxy would not bring it back.
#[derive(Clone, Debug)]
pub struct Health {
    metrics: Metrics,
    draining: Arc<AtomicBool>,
}

impl Health {
    /// Ready.
    pub fn new(metrics: Metrics) -> Self {
        Self {
            metrics,
            draining: Arc::default(),
        }
    }

    /// From now on not ready, so that nobody sends new requests.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Answers a request.
    pub fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "use GET\n");
        }
        match request.uri().path() {
            "/livez" => text(StatusCode::OK, "ok\n"),
            "/readyz" if self.draining.load(Ordering::Relaxed) => {
                text(StatusCode::SERVICE_UNAVAILABLE, "shutting down\n")
            }
            "/readyz" => text(StatusCode::OK, "ok\n"),
            "/metrics" => self.metrics(),
            _ => text(StatusCode::NOT_FOUND, "try /livez, /readyz or /metrics\n"),
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let Ok(body) = self.metrics.encode() else {
            return text(StatusCode::INTERNAL_SERVER_ERROR, "the encoder fails\n");
        };
        let mut response = Response::new(Full::from(body));
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        let kind = HeaderValue::from_static(kind);
        response.headers_mut().insert(CONTENT_TYPE, kind);
        response
    }
}

fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draining_proxy_is_alive_but_not_ready() {
        let health = Health::new(Metrics::new());
        let status = |path| {
            health
                .answer(&Request::get(path).body(()).unwrap())
                .status()
        };
        assert_eq!(status("/readyz"), StatusCode::OK);
        health.drain();
        assert_eq!(status("/readyz"), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(status("/livez"), StatusCode::OK);
        assert_eq!(status("/metrics"), StatusCode::OK);
        assert_eq!(status("/"), StatusCode::NOT_FOUND);
    }
}
