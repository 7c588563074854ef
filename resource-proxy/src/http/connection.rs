//! Closes idle connections.
//!
//! hyper bounds the time for the head of a request on HTTP/1, but waits without a bound for the first
//! bytes, which decide between HTTP/1 and HTTP/2, and between the requests of HTTP/2.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Either;
use hyper::body::{Frame, SizeHint};
use tokio::sync::watch;

use crate::http::stream::Body;

/// Timeout for the head of a client's first request.
pub const FIRST_TIMEOUT: Duration = Duration::from_secs(15);
/// Timeout for an idle connection, and for the next request's head. Longer than load balancers
/// keep theirs (mostly 60 s): otherwise one of them could send a request on a connection that is about to close.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// The requests in flight on a connection. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Activity(watch::Sender<usize>);

/// A request in flight, until it is dropped.
#[derive(Debug)]
pub struct InFlight(Activity);

impl Activity {
    /// A request begins.
    pub fn begin(&self) -> InFlight {
        self.0.send_modify(|requests| *requests += 1);
        InFlight(self.clone())
    }

    /// Whether there is no request.
    pub fn is_quiet(&self) -> bool {
        *self.0.borrow() == 0
    }

    /// Ends when there is no request.
    pub async fn quiet(&self) {
        let mut requests = self.0.subscribe();
        let _ = requests.wait_for(|requests| *requests == 0).await;
    }

    /// Ends when the connection has been idle for too long.
    pub async fn idle(&self) {
        let mut requests = self.0.subscribe();
        let mut most = FIRST_TIMEOUT;
        loop {
            let is_idle = *requests.borrow_and_update() == 0;
            // Also woken by a request that has both started and ended in the meantime.
            let changed = requests.changed();
            let changed = if is_idle {
                tokio::time::timeout(most, changed).await
            } else {
                Ok(changed.await)
            };
            if changed.is_err() {
                return;
            }
            most = IDLE_TIMEOUT;
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.0.send_modify(|requests| *requests -= 1);
    }
}

/// A response's body. While it streams in from the server, its request is in flight.
#[derive(Debug)]
pub struct Tracked {
    body: Body,
    _request: Option<InFlight>,
}

impl Tracked {
    /// The proxy's own bodies are complete at once, so a client that does not read one has no request in flight.
    pub fn new(body: Body, request: InFlight) -> Self {
        let streams = matches!(body, Either::Right(_));
        Self {
            body,
            _request: streams.then_some(request),
        }
    }
}

impl hyper::body::Body for Tracked {
    type Data = Bytes;
    type Error = <Body as hyper::body::Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
