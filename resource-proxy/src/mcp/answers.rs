//! The JSON-RPC answers in a response, read as it passes. Nothing of it is kept but what is asked for.

use crate::mcp::events::{Events, Piece};
use crate::mcp::list_filter::{is_event, is_list};

/// The longest `requestState` that is read, in bytes as it is written.
const MAX_STATE: usize = 16 * 1024;
/// Keys and values that matter are shorter, even with every character escaped.
const MAX_WORD: usize = 192;

/// A JSON-RPC answer, as far as limits depend on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// It is an error, or a tool's result with `isError`.
    pub failed: bool,
    /// `requestState` of a result that asks the client for input.
    pub request_state: Option<String>,
    /// It asks the client for input.
    asks: bool,
    /// It has `result` or `error`. Without it the message is a notification or a request of the server's.
    answers: bool,
    state: Option<String>,
}

/// How a response is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One message, or an array of them.
    Json,
    /// A message in the data of each event.
    Events,
}

/// Reads the answers of one response.
#[derive(Debug)]
pub struct Answers {
    scan: Scan,
    events: Option<Events>,
}

impl Answers {
    /// Of a response that is still to come.
    pub fn new(format: Format) -> Self {
        Self {
            scan: Scan::default(),
            events: (format == Format::Events).then(Events::default),
        }
    }

    /// Reads what comes next, and gives each answer that it completes to `found`.
    pub fn read(&mut self, mut bytes: &[u8], mut found: impl FnMut(Answer)) {
        let Some(events) = &mut self.events else {
            return self.scan.read(bytes, &mut found);
        };
        while let Some((raw, piece)) = events.take(&mut bytes) {
            match piece {
                Piece::Data => self.scan.read(raw, &mut found),
                Piece::Line { is_data: true } => self.scan.read(b"\n", &mut found),
                Piece::Event => self.scan = Scan::default(),
                Piece::Other | Piece::Line { .. } | Piece::Feed => {}
            }
        }
    }
}

/// Looks whether a message, or a batch of them, has the shape of a list or of an event that is not for every caller.
#[derive(Debug, Default)]
pub struct Watch(Scan);

impl Watch {
    /// Reads what comes next, and says whether it was found by now.
    pub fn read(&mut self, bytes: &[u8]) -> bool {
        self.0.read(bytes, &mut |_| {});
        self.0.is_guarded
    }
}

/// Where in a message a key stands that matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Key {
    #[default]
    Other,
    Method,
    Result,
    Error,
    List,
    IsError,
    ResultType,
    RequestState,
}

/// A JSON reader that knows only where it is.
#[derive(Debug, Default)]
struct Scan {
    /// How many arrays and objects are open.
    depth: usize,
    /// Whether the messages stand in an array.
    batch: bool,
    /// Whether the next string of the message, or of its result, is a key.
    key_next: bool,
    /// Whether a colon was read, and nothing of the value.
    value_next: bool,
    /// The current key of the message.
    outer: Key,
    /// The current key of its result.
    inner: Key,
    /// The string that is open.
    string: Option<Text>,
    answer: Answer,
    /// For [`Watch`].
    is_guarded: bool,
}

/// An open string.
#[derive(Debug, Default)]
struct Text {
    bytes: Vec<u8>,
    /// How much of it is kept.
    most: usize,
    is_key: bool,
    escaped: bool,
}

impl Scan {
    fn read(&mut self, mut bytes: &[u8], found: &mut impl FnMut(Answer)) {
        while let Some((&byte, rest)) = bytes.split_first() {
            if self.string.is_some() {
                bytes = self.within_string(bytes);
            } else {
                self.structure(byte, found);
                bytes = rest;
            }
        }
    }

    /// How deep the message is that is being read.
    fn level(&self) -> usize {
        self.depth.saturating_sub(usize::from(self.batch))
    }

    fn structure(&mut self, byte: u8, found: &mut impl FnMut(Answer)) {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {}
            b'"' => self.begin_string(),
            b'{' | b'[' => self.open(byte),
            b'}' | b']' => self.close(found),
            b':' => (self.key_next, self.value_next) = (false, true),
            // In a deeper object or an array a string that is taken for a key matters to nobody.
            b',' => self.key_next = true,
            _ => self.value(byte),
        }
    }

    fn open(&mut self, byte: u8) {
        self.value(byte);
        if self.depth == 0 {
            self.batch = byte == b'[';
        }
        self.depth += 1;
        self.key_next = byte == b'{';
        match self.level() {
            1 => {
                self.outer = Key::Other;
                self.answer = Answer::default();
            }
            2 => self.inner = Key::Other,
            _ => {}
        }
    }

    fn close(&mut self, found: &mut impl FnMut(Answer)) {
        let level = self.level();
        self.depth = self.depth.saturating_sub(1);
        self.key_next = false;
        if level == 1 {
            let mut answer = std::mem::take(&mut self.answer);
            if answer.answers {
                let state = answer.state.take();
                answer.request_state = state.filter(|_| answer.asks && !answer.failed);
                found(answer);
            }
        }
    }

    /// A value begins with this byte.
    fn value(&mut self, byte: u8) {
        if !std::mem::take(&mut self.value_next) {
            return;
        }
        match (self.level(), self.outer, self.inner) {
            (1, Key::Error, _) if byte != b'n' => {
                self.answer.answers = true;
                self.answer.failed = true;
            }
            (1, Key::Result, _) => self.answer.answers = true,
            (2, Key::Result, Key::List) if byte == b'[' => self.is_guarded = true,
            (2, Key::Result, Key::IsError) if byte == b't' => self.answer.failed = true,
            _ => {}
        }
    }

    fn begin_string(&mut self) {
        let is_key = self.key_next && matches!(self.level(), 1 | 2);
        if !is_key {
            self.value(b'"');
        }
        let most = match (is_key, self.level(), self.outer, self.inner) {
            (true, ..) | (false, 1, Key::Method, _) | (false, 2, Key::Result, Key::ResultType) => {
                MAX_WORD
            }
            (false, 2, Key::Result, Key::RequestState) => MAX_STATE,
            _ => 0,
        };
        self.string = Some(Text {
            most,
            is_key,
            ..Text::default()
        });
    }

    /// Reads up to the end of the string, and returns what is behind it.
    fn within_string<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let Some(text) = &mut self.string else {
            return bytes;
        };
        let mut end = None;
        for (at, byte) in bytes.iter().enumerate() {
            if text.escaped {
                text.escaped = false;
            } else if *byte == b'\\' {
                text.escaped = true;
            } else if *byte == b'"' {
                end = Some(at);
                break;
            }
        }
        let (part, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
        // One byte more than may be kept says that it was too long.
        let room = (text.most + usize::from(text.most > 0)).saturating_sub(text.bytes.len());
        text.bytes.extend_from_slice(&part[..part.len().min(room)]);
        if end.is_some() {
            self.end_string();
            return &rest[1..];
        }
        rest
    }

    fn end_string(&mut self) {
        let Some(text) = self.string.take() else {
            return;
        };
        if text.most == 0 {
            return;
        }
        let word = text.unescaped();
        let word = word.as_deref();
        if !text.is_key {
            match (self.level(), self.inner) {
                (1, _) => self.is_guarded |= word.is_some_and(is_event),
                (_, Key::ResultType) => self.answer.asks = word == Some("input_required"),
                _ => self.answer.state = word.map(str::to_owned),
            }
            return;
        }
        let key = match word {
            Some("method") => Key::Method,
            Some("result") => Key::Result,
            Some("error") => Key::Error,
            Some("isError") => Key::IsError,
            Some("resultType") => Key::ResultType,
            Some("requestState") => Key::RequestState,
            Some(list) if is_list(list) => Key::List,
            _ => Key::Other,
        };
        match self.level() {
            1 => self.outer = key,
            _ => self.inner = key,
        }
    }
}

impl Text {
    /// The string that is written so, unless it is too long.
    fn unescaped(&self) -> Option<String> {
        if self.bytes.len() > self.most {
            return None;
        }
        let text = str::from_utf8(&self.bytes).ok()?;
        if !text.contains('\\') {
            return Some(text.to_owned());
        }
        serde_json::from_str(&format!("\"{text}\"")).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In pieces of every size.
    fn read(format: Format, text: &str) -> Vec<Answer> {
        let whole = in_pieces(format, text, text.len());
        for size in 1..8 {
            assert_eq!(in_pieces(format, text, size), whole, "{size}: {text}");
        }
        whole
    }

    fn in_pieces(format: Format, text: &str, size: usize) -> Vec<Answer> {
        let (mut answers, mut found) = (Answers::new(format), Vec::new());
        for piece in text.as_bytes().chunks(size.max(1)) {
            answers.read(piece, |answer| found.push(answer));
        }
        found
    }

    fn failed(format: Format, text: &str) -> Vec<bool> {
        read(format, text).iter().map(|a| a.failed).collect()
    }

    #[test]
    fn answers_are_told_from_errors() {
        for (text, wanted) in [
            (r#"{"id":1,"result":{}}"#, vec![false]),
            (
                r#"{"result":{"isError":true,"content":[]},"id":1}"#,
                vec![true],
            ),
            (r#"{"result":{"isError" : false}}"#, vec![false]),
            (r#"{"result":{"content":[{"isError":true}]}}"#, vec![false]),
            (r#"{"result":{"x":{"isError":true}}}"#, vec![false]),
            (r#"{"result":{"x":"\"isError\":true"}}"#, vec![false]),
            (r#"{"id":1,"error":{"code":-32602}}"#, vec![true]),
            (r#"{"id":1,"\u0065rror":{"code":-32602}}"#, vec![true]),
            (r#"{"id":1,"error":null,"result":{}}"#, vec![false]),
            (
                r#"{"method":"notifications/progress","params":{"result":1}}"#,
                vec![],
            ),
            (
                r#"[{"result":{}},{"error":{}},{"result":{"isError":true}}]"#,
                vec![false, true, true],
            ),
            ("", vec![]),
            ("not JSON", vec![]),
            (r#"{"result":{"#, vec![]),
        ] {
            assert_eq!(failed(Format::Json, text), wanted, "{text}");
        }
    }

    #[test]
    fn events_carry_answers() {
        let text = ": comment\nevent: message\nid: 7\ndata: {\"method\":\"x\"}\n\n\
            data:{\"id\":1,\r\ndata: \"result\":{\"isError\":true}}\r\n\r\n\
            dat: {\"result\":{}}\r\rdata: {\"result\":{}}\r\r";
        assert_eq!(failed(Format::Events, text), [true, false]);
        let cut = "data: {\"result\":{\n\ndata: {\"result\":{}}\n\n";
        assert_eq!(failed(Format::Events, cut), [false]);
    }

    #[test]
    fn a_list_or_an_event_is_known_as_soon_as_it_begins() {
        let is_found = |text: &str| {
            let whole = Watch::default().read(text.as_bytes());
            let (mut watch, mut bytes) = (Watch::default(), text.as_bytes().chunks(1));
            assert_eq!(bytes.any(|byte| watch.read(byte)), whole, "{text}");
            whole
        };
        for text in [
            r#"{"id":1,"result":{"tools":["#,
            r#"{"id":1,"result":{"nextCursor":"x","resources" : ["#,
            r#"{"result":{"_meta":{"a":[1]},"resourceTemplates":["#,
            r#"{"result":{"prompts":[]}}"#,
            r#"[{"result":{}},{"result":{"tasks":["#,
            r#"{"r\u0065sult":{"\u0074ools":["#,
            r#"{"method":"notifications/resources/updated""#,
            r#"{"params":{"taskId":"t"},"method":"notifications\/tasks\/status""#,
            r#"{"method":"notifications/tasks""#,
        ] {
            assert!(is_found(text), "{text}");
            let escaped = text.replace("updated", r"\u0075\u0070\u0064\u0061\u0074\u0065\u0064");
            assert!(is_found(&escaped), "{escaped}");
        }
        for text in [
            r#"{"id":1,"result":{"tools":{}}}"#,
            r#"{"result":{"capabilities":{"tools":[]}}}"#,
            r#"{"result":{"content":[{"tools":[]}],"x":"\"tools\":["}}"#,
            r#"{"params":{"tools":[]},"method":"sampling/createMessage"}"#,
            r#"{"method":"notifications/progress","params":{"method":"notifications/tasks"}}"#,
            "<html>",
        ] {
            assert!(!is_found(text), "{text}");
        }
    }

    #[test]
    fn a_state_is_that_of_a_result_that_asks_for_input() {
        let state = |text: &str| read(Format::Json, text).pop().unwrap().request_state;
        let asks = r#"{"result":{"resultType":"input_required","requestState":"a\/\u0062\"c"}}"#;
        assert_eq!(state(asks).as_deref(), Some("a/b\"c"));
        let first = r#"{"result":{"requestState":"s","resultType":"input_required"}}"#;
        assert_eq!(state(first).as_deref(), Some("s"));
        for other in [
            r#"{"result":{"resultType":"complete","requestState":"s"}}"#,
            r#"{"result":{"requestState":"s"}}"#,
            r#"{"result":{"resultType":"input_required","x":{"requestState":"s"}}}"#,
            r#"{"result":{"resultType":"input_required","requestState":7}}"#,
            r#"{"result":{"resultType":"input_required"},"requestState":"s"}"#,
        ] {
            assert_eq!(state(other), None, "{other}");
        }
        let long = asks.replace("a\\/", &"a".repeat(MAX_STATE));
        assert_eq!(state(&long), None);
    }
}
