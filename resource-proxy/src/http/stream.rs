//! The body of a response.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::{Frame, Incoming, SizeHint};

use crate::auth::verify::Verifier;
use crate::limits::capacity::Place;

/// The body of a response: one of ours, or the server's as it streams in.
pub type Body = Either<Full<Bytes>, Stream>;

/// How often the token of a client that listens is checked.
const INTERVAL: Duration = Duration::from_secs(60);

/// A stream of the server's. One that a client listens to would never end; it ends with its token.
pub struct Stream {
    body: Incoming,
    _place: Option<Place>,
    end: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Stream {
    /// Ends when the server ends it.
    pub fn new(body: Incoming) -> Self {
        Self {
            body,
            _place: None,
            end: None,
        }
    }

    /// Keeps the place of its request until it ends.
    pub fn with_place(self, place: Place) -> Self {
        Self {
            _place: Some(place),
            ..self
        }
    }

    /// Also ends when `token` is no longer good, or nobody knows.
    pub fn while_good(self, verifier: Arc<Verifier>, token: String) -> Self {
        let end = async move {
            loop {
                tokio::time::sleep(INTERVAL).await;
                if verifier.verify(&token).await.is_err() {
                    return;
                }
            }
        };
        Self {
            end: Some(Box::pin(end)),
            ..self
        }
    }
}

impl hyper::body::Body for Stream {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(end) = &mut self.end
            && end.as_mut().poll(context).is_ready()
        {
            self.end = None;
            return Poll::Ready(None);
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stream")
    }
}
