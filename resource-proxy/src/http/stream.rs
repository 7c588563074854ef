//! The body of a response to a client.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::{Frame, Incoming, SizeHint};

use crate::http::observer::Observer;
use crate::limits::capacity::Reservation;

/// The body of a response: one that the proxy wrote, or the server's.
pub type Body = Either<Full<Bytes>, Stream>;

/// The server's response as it arrives. A listening stream would never end by itself, so it
/// ends with the client's token.
pub struct Stream {
    body: Incoming,
    _reservation: Option<Reservation>,
    end: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    observer: Option<Box<Observer>>,
}

impl Stream {
    /// Ends when the server ends it.
    pub fn new(body: Incoming) -> Self {
        Self {
            body,
            _reservation: None,
            end: None,
            observer: None,
        }
    }

    /// Is also read by `observer`.
    pub fn observed(self, observer: Observer) -> Self {
        Self {
            observer: Some(Box::new(observer)),
            ..self
        }
    }

    /// Keeps the capacity that is reserved for its request until it ends.
    pub fn holding(self, reservation: Reservation) -> Self {
        Self {
            _reservation: Some(reservation),
            ..self
        }
    }

    /// Also ends when `end` does.
    pub fn until(self, end: impl Future<Output = ()> + Send + 'static) -> Self {
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
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if let Some(observer) = &mut self.observer
            && let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(data) = frame.data_ref()
        {
            observer.read(data);
        }
        frame
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
