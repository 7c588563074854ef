//! Reads along what the server sends, without holding anything back: each message is seen before its last byte is passed
//! on.

use crate::mcp::events::{Events, Piece};

/// The most of a message that is kept to be read, in bytes. A longer one is not looked at.
const LONGEST: usize = 64 * 1024;

/// What is done with a message.
pub type Seen = Box<dyn FnMut(&[u8]) + Send>;

/// Reads along a body.
pub struct Observer {
    /// None: a JSON document.
    events: Option<Events>,
    /// The message so far: of JSON the body, of events the data.
    message: Vec<u8>,
    is_too_long: bool,
    seen: Seen,
}

impl Observer {
    /// Of a JSON document.
    pub fn json(seen: Seen) -> Self {
        Self::new(None, seen)
    }

    /// Of an event stream.
    pub fn events(seen: Seen) -> Self {
        Self::new(Some(Events::default()), seen)
    }

    fn new(events: Option<Events>, seen: Seen) -> Self {
        Self {
            events,
            message: Vec::new(),
            is_too_long: false,
            seen,
        }
    }

    /// The next bytes of the body.
    pub fn read(&mut self, mut bytes: &[u8]) {
        let Some(mut events) = self.events.take() else {
            self.append(bytes);
            // A client that knows the length does not wait for the end.
            if self.message.trim_ascii_end().ends_with(b"}") {
                (self.seen)(&self.message);
            }
            return;
        };
        while let Some((raw, piece)) = events.take(&mut bytes) {
            match piece {
                Piece::Data => self.append(raw),
                Piece::Line { is_data: true } => self.append(b"\n"),
                Piece::Event => self.end_event(),
                Piece::Other | Piece::Line { .. } | Piece::Feed => {}
            }
        }
        self.events = Some(events);
    }

    fn append(&mut self, bytes: &[u8]) {
        if self.is_too_long || self.message.len() + bytes.len() > LONGEST {
            self.is_too_long = true;
            self.message = Vec::new();
        } else {
            self.message.extend_from_slice(bytes);
        }
    }

    fn end_event(&mut self) {
        if !self.message.is_empty() {
            (self.seen)(&self.message);
        }
        self.message.clear();
        self.is_too_long = false;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What is seen of a body that comes in these parts.
    fn seen(make: fn(Seen) -> Observer, parts: &[&str]) -> Vec<String> {
        let list = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&list);
        let mut observer = make(Box::new(move |message| {
            let text = str::from_utf8(message).unwrap().trim();
            into.lock().unwrap().push(text.to_owned());
        }));
        for part in parts {
            observer.read(part.as_bytes());
        }
        drop(observer);
        Arc::into_inner(list).unwrap().into_inner().unwrap()
    }

    #[test]
    fn a_document_is_seen_with_its_last_byte() {
        assert_eq!(seen(Observer::json, &["{\"a\"", ":1}"]), ["{\"a\":1}"]);
        assert_eq!(seen(Observer::json, &["{\"a\":1}\n"]), ["{\"a\":1}"]);
        let long = format!("{{\"a\":\"{}\"", "x".repeat(LONGEST));
        assert!(seen(Observer::json, &[&long, "}"]).is_empty());
    }

    #[test]
    fn an_event_is_seen_with_its_last_line() {
        for text in [
            "event: message\nid: 1\ndata: {\"a\":1}\n\n: comment\n\ndata:2\n\n",
            "event: message\r\nid: 1\r\ndata: {\"a\":1}\r\n\r\n: comment\r\n\r\ndata:2\r\n\r\n",
            "data: {\"a\":1}\r\rdata: 2\r\r",
        ] {
            let whole = seen(Observer::events, &[text]);
            assert_eq!(whole, ["{\"a\":1}", "2"], "{text:?}");
            let parts: Vec<String> = text.chars().map(String::from).collect();
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            assert_eq!(seen(Observer::events, &parts), whole, "{text:?}");
        }
        assert_eq!(seen(Observer::events, &["data: a\ndata: b\n\n"]), ["a\n b"]);
        assert!(seen(Observer::events, &["data: a\n"]).is_empty());
    }

    #[test]
    fn after_an_event_that_is_too_long_the_next_is_seen() {
        let long = format!("data: {}\n", "x".repeat(LONGEST));
        assert_eq!(seen(Observer::events, &[&long, "\n", "data: b\n\n"]), ["b"]);
        let rest = "data: c\n\n";
        assert_eq!(seen(Observer::events, &[&long, rest, "data: b\n\n"]), ["b"]);
        let lines = format!("data: {}\n", "x".repeat(LONGEST / 2)).repeat(3);
        assert_eq!(
            seen(Observer::events, &[&lines, "\n", "data: b\n\n"]),
            ["b"]
        );
    }
}
