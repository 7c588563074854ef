//! A client whose requests go wrong.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use kube::Client;
use kube::client::{Body, ClientBuilder, DynBody};
use tower::{BoxError, Layer, Service};

use mcpauth_test_support::api_server::Cluster;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes through.
    Pass,
    /// It never arrives, and nothing comes back.
    Lost,
    /// It is done, but the answer never comes back.
    AnswerLost,
    /// It is refused with this status.
    Status(u16),
}

/// Decides about each request.
pub type Decide = Arc<dyn Fn(&Method, &str) -> Fate + Send + Sync>;

#[derive(Clone)]
struct Faults(Decide);

#[derive(Clone)]
struct Faulty<S> {
    inner: S,
    decide: Decide,
}

impl<S> Layer<S> for Faults {
    type Service = Faulty<S>;

    fn layer(&self, inner: S) -> Faulty<S> {
        Faulty {
            inner,
            decide: Arc::clone(&self.0),
        }
    }
}

impl<S> Service<Request<Body>> for Faulty<S>
where
    S: Service<Request<Body>, Response = Response<Box<DynBody>>, Error = BoxError> + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Box<DynBody>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let fate = (self.decide)(request.method(), request.uri().path());
        match fate {
            Fate::Pass => Box::pin(self.inner.call(request)),
            Fate::Lost => Box::pin(std::future::pending()),
            Fate::AnswerLost => {
                let done = self.inner.call(request);
                Box::pin(async move {
                    let _ = done.await;
                    std::future::pending().await
                })
            }
            Fate::Status(code) => Box::pin(async move {
                let body = format!(
                    r#"{{"kind":"Status","apiVersion":"v1","status":"Failure","message":"injected","code":{code}}}"#
                );
                let body = Full::new(Bytes::from(body)).map_err(|never: Infallible| match never {});
                let body: Box<DynBody> = Box::new(body);
                Ok(Response::builder().status(code).body(body).unwrap())
            }),
        }
    }
}

/// A client of the cluster whose requests `decide` decides about.
pub fn client(cluster: &Cluster, decide: Decide) -> Client {
    let builder = ClientBuilder::try_from(cluster.config()).unwrap();
    builder.with_layer(&Faults(decide)).build()
}

/// Lets `writes` writes through; the next one has the fate `then`, and later ones are lost.
pub fn killed_after(writes: i64, then: Fate) -> Decide {
    let left = AtomicI64::new(writes);
    Arc::new(move |method, _| {
        if matches!(*method, Method::GET) {
            return if left.load(Ordering::SeqCst) >= 0 {
                Fate::Pass
            } else {
                Fate::Lost
            };
        }
        match left.fetch_sub(1, Ordering::SeqCst) {
            n if n > 0 => Fate::Pass,
            0 => then,
            _ => Fate::Lost,
        }
    })
}
