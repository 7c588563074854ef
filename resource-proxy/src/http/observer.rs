//! Reads along what the server sends, without holding anything back: each message is seen before its last byte is passed
//! on.

/// The most of a message that is kept to be read, in bytes. A longer one is not looked at.
const LONGEST: usize = 64 * 1024;

/// The capacity that stays for the next line, in bytes.
const SHORT: usize = 1024;

/// What is done with a message.
pub type Seen = Box<dyn FnMut(&[u8]) + Send>;

/// Reads along a body.
pub struct Observer {
    kind: Kind,
    /// The message so far: of JSON the body, of events the data.
    message: Vec<u8>,
    is_too_long: bool,
    seen: Seen,
}

/// What a body consists of.
enum Kind {
    Json,
    Events {
        /// The line so far.
        line: Vec<u8>,
        /// The last byte was a carriage return, whose line feed may follow.
        after_return: bool,
    },
}

impl Observer {
    /// Of a JSON document.
    pub fn json(seen: Seen) -> Self {
        Self::new(Kind::Json, seen)
    }

    /// Of an event stream.
    pub fn events(seen: Seen) -> Self {
        let (line, after_return) = (Vec::new(), false);
        Self::new(Kind::Events { line, after_return }, seen)
    }

    fn new(kind: Kind, seen: Seen) -> Self {
        Self {
            kind,
            message: Vec::new(),
            is_too_long: false,
            seen,
        }
    }

    /// The next bytes of the body.
    pub fn read(&mut self, bytes: &[u8]) {
        match &mut self.kind {
            Kind::Json => {
                append(&mut self.message, &mut self.is_too_long, bytes);
                // A client that knows the length does not wait for the end.
                if !self.is_too_long && self.message.trim_ascii_end().ends_with(b"}") {
                    (self.seen)(&self.message);
                }
            }
            Kind::Events { line, after_return } => {
                for byte in bytes {
                    let is_second = *after_return && *byte == b'\n';
                    *after_return = *byte == b'\r';
                    match byte {
                        b'\n' if is_second => {}
                        b'\n' | b'\r' => {
                            end_line(
                                line,
                                &mut self.message,
                                &mut self.is_too_long,
                                &mut self.seen,
                            );
                        }
                        _ => append(line, &mut self.is_too_long, &[*byte]),
                    }
                }
            }
        }
    }
}

/// A line of an event stream is complete (HTML, section 9.2.6).
fn end_line(line: &mut Vec<u8>, message: &mut Vec<u8>, is_too_long: &mut bool, seen: &mut Seen) {
    if line.is_empty() {
        if !*is_too_long && !message.is_empty() {
            seen(message);
        }
        message.clear();
        *is_too_long = false;
    } else if let Some(data) = line.strip_prefix(b"data:") {
        if !message.is_empty() {
            append(message, is_too_long, b"\n");
        }
        append(
            message,
            is_too_long,
            data.strip_prefix(b" ").unwrap_or(data),
        );
    }
    line.clear();
    line.shrink_to(SHORT);
}

fn append(buffer: &mut Vec<u8>, is_too_long: &mut bool, bytes: &[u8]) {
    if buffer.len() + bytes.len() > LONGEST {
        *is_too_long = true;
        *buffer = Vec::new();
    }
    if !*is_too_long {
        buffer.extend_from_slice(bytes);
    } else if buffer.is_empty() {
        // One byte stays: an empty line would end the event.
        buffer.extend(bytes.first());
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
            let text = String::from_utf8(message.to_vec()).unwrap();
            into.lock().unwrap().push(text);
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
        assert_eq!(seen(Observer::json, &["{\"a\":1}\n"]), ["{\"a\":1}\n"]);
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
        assert_eq!(seen(Observer::events, &["data: a\ndata: b\n\n"]), ["a\nb"]);
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
