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
use mcpauth_service::connections::{Activity, InFlight};

use crate::http::stream::Body;

/// Timeout for the head of a client's first request.
pub const FIRST_TIMEOUT: Duration = Duration::from_secs(15);
/// Timeout for an idle connection, and for the next request's head. Longer than load balancers
/// keep theirs (mostly 60 s): otherwise one of them could send a request on a connection that is about to close.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// Ends when a connection has been idle for too long.
pub async fn idle(activity: &Activity) {
    let mut most = FIRST_TIMEOUT;
    loop {
        // Also woken by a request that has both started and ended in the meantime.
        let changed = activity.changed();
        let timed_out = if activity.is_quiet() {
            tokio::time::timeout(most, changed).await.is_err()
        } else {
            changed.await;
            false
        };
        if timed_out {
            return;
        }
        most = IDLE_TIMEOUT;
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
