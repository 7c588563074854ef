//! The body of a response to a client.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::{Either, Full};
use hyper::body::{Body as _, Frame, Incoming, SizeHint};

use crate::http::filter::Filter;
use crate::http::media_type::{is_encoded, is_of_type};
use crate::limits::capacity::Reservation;
use crate::mcp::answers::Format;

/// The body of a response: one that the proxy wrote, or the server's.
pub type Body = Either<Full<Bytes>, Stream>;

/// Sees each piece of a body before it goes to the client, and says whether it has to see more.
pub type Reader = Box<dyn FnMut(&[u8]) -> bool + Send>;

/// The server's response as it arrives. A listening stream would never end by itself, so it
/// ends with the client's token.
pub struct Stream {
    body: Incoming,
    _reservation: Option<Reservation>,
    readers: Vec<Reader>,
    end: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    filter: Option<Box<Filter>>,
}

impl Stream {
    /// Ends when the server ends it.
    pub fn new(body: Incoming) -> Self {
        Self {
            body,
            _reservation: None,
            readers: Vec::new(),
            end: None,
            filter: None,
        }
    }

    /// Shows only what `filter` lets through.
    pub fn filtered(self, filter: Filter) -> Self {
        Self {
            filter: Some(Box::new(filter)),
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

    /// Is read by `reader` as it passes.
    pub fn read_by(mut self, reader: Reader) -> Self {
        self.readers.push(reader);
        self
    }

    /// Also ends when `end` does.
    pub fn until(self, end: impl Future<Output = ()> + Send + 'static) -> Self {
        Self {
            end: Some(Box::pin(end)),
            ..self
        }
    }
}

impl Stream {
    /// The next bytes that the filter lets through.
    fn poll_filtered(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(filter) = &mut self.filter else {
            return Poll::Ready(None);
        };
        while !filter.has_ended() {
            let passed = match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                // Trailers say nothing that a client of MCP reads.
                Poll::Ready(Some(Ok(frame))) => match frame.data_ref() {
                    Some(data) => {
                        self.readers.retain_mut(|read| read(data));
                        filter.read(data)
                    }
                    None => continue,
                },
                Poll::Ready(None) => filter.end(),
            };
            if !passed.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(passed))));
            }
        }
        Poll::Ready(None)
    }
}

/// How a response is written; none where it cannot be read.
pub fn answer_format(headers: &HeaderMap) -> Option<Format> {
    if is_encoded(headers) {
        return None;
    }
    if is_of_type(headers, "text/event-stream") {
        Some(Format::Events)
    } else if is_of_type(headers, "application/json") {
        Some(Format::Json)
    } else {
        None
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
        if self.filter.is_some() {
            return self.poll_filtered(context);
        }
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(bytes) = frame.data_ref()
        {
            self.readers.retain_mut(|read| read(bytes));
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        match &self.filter {
            Some(filter) => filter.has_ended(),
            None => self.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.filter {
            Some(_) => SizeHint::default(),
            None => self.body.size_hint(),
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stream")
    }
}
