//! Filters a body that may hold lists: a document as a whole, a stream event by event. Nothing else is held back.
//!
//! In a session, the answer to one request may come with that of another: a client that gives two the same id makes
//! servers mix them up. So a body that should hold no list is watched. Of each message no more is held than the
//! beginning, unless a list begins there.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::limits::capacity::{Allowance, Space};
use crate::mcp::answers::Watch;
use crate::mcp::events::{Events, Piece};
use crate::mcp::list_filter::{Filtered, Unreadable, View};

/// The longest document or event that is filtered, in bytes: a list of 1,000 tools, and more.
pub const LONGEST: usize = 2 * 1024 * 1024;
/// How much of a message is held to see whether it is a list or an event, in bytes. A list that begins later than that
/// is not passed on.
const BEGINNING: usize = 16 * 1024;
/// For how many more bytes capacity is taken at once.
const STEP: u32 = 64 * 1024;
/// What is answered in place of a list that cannot be filtered.
const UNREADABLE: Failure = (
    -32603,
    "the server's response cannot be filtered by the access rules: it is too long, or not JSON",
);
/// What is answered in place of a list for which there is no capacity.
const BUSY: Failure = (
    -32000,
    "too many lists for this subject are on their way; try again later",
);

/// A JSON-RPC error: its code and its message.
type Failure = (i32, &'static str);

/// Filters a body.
#[derive(Debug)]
pub struct Filter {
    view: View,
    is_stream: bool,
    is_watching: bool,
    stage: Stage,
    /// The document so far, or the event.
    held: Vec<u8>,
    /// Where in the stream the next byte is.
    events: Events,
    /// The request that is answered.
    id: Option<Value>,
    /// The response says that it went well.
    is_success: bool,
    has_ended: bool,
    allowance: Allowance,
    /// The capacity that was taken for `held`.
    spaces: Vec<Space>,
}

/// What passes, with its capacity until the client has it.
struct Passed(
    Vec<u8>,
    #[expect(dead_code, reason = "dropped with the rest")] Vec<Space>,
);

impl AsRef<[u8]> for Passed {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// How far a message has come.
#[derive(Debug)]
enum Stage {
    /// It is held to its end, and then filtered.
    Held,
    /// Its beginning is held, in which no list begins.
    Watched(Watch),
    /// It passes, unless a list begins in the rest of it.
    Passing(Watch),
}

impl Filter {
    /// Of a response to the request with this id.
    pub fn new(
        view: View,
        allowance: Allowance,
        is_stream: bool,
        is_success: bool,
        id: Option<Value>,
    ) -> Self {
        Self {
            view,
            is_stream,
            is_watching: false,
            stage: Stage::Held,
            held: Vec::new(),
            events: Events::default(),
            id,
            is_success,
            has_ended: false,
            allowance,
            spaces: Vec::new(),
        }
    }

    /// Of a response to a request that asks for no list.
    pub fn watching(self) -> Self {
        Self {
            is_watching: true,
            stage: Stage::Watched(Watch::default()),
            ..self
        }
    }

    /// Whether nothing more follows.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// The next bytes of the body; what can be passed on.
    pub fn read(&mut self, bytes: &Bytes) -> Bytes {
        if self.has_ended {
            return Bytes::new();
        }
        if let (false, Stage::Passing(watch)) = (self.is_stream, &mut self.stage) {
            self.has_ended = watch.read(bytes);
            return if self.has_ended {
                Bytes::new()
            } else {
                bytes.clone()
            };
        }
        let mut passed = Vec::new();
        if !self.is_stream {
            self.take(bytes, true, &mut passed);
            return self.pass(passed);
        }
        let mut rest = &**bytes;
        while !self.has_ended
            && let Some((raw, piece)) = self.events.take(&mut rest)
        {
            match piece {
                Piece::Feed if self.held.is_empty() => passed.extend_from_slice(raw),
                Piece::Data | Piece::Line { is_data: true } => self.take(raw, true, &mut passed),
                _ => self.take(raw, false, &mut passed),
            }
            if piece == Piece::Event && !self.has_ended {
                self.end_event(&mut passed);
            }
        }
        self.pass(passed)
    }

    /// The end of the body; what is left.
    pub fn end(&mut self) -> Bytes {
        if self.has_ended {
            return Bytes::new();
        }
        self.has_ended = true;
        let mut passed = Vec::new();
        // An event that is not complete does not count (HTML, section 9.2.6).
        if self.is_stream {
            return Bytes::new();
        }
        if !matches!(self.stage, Stage::Held) {
            passed = std::mem::take(&mut self.held);
        } else if !self.held.trim_ascii().is_empty() {
            match self.view.filter(&self.held) {
                Ok(Filtered::Unchanged) => passed = std::mem::take(&mut self.held),
                Ok(Filtered::Changed(changed)) => passed = changed,
                Err(Unreadable) if !self.is_success => passed = std::mem::take(&mut self.held),
                Ok(Filtered::Removed) | Err(Unreadable) => self.fail(UNREADABLE, &mut passed),
            }
        }
        self.held = Vec::new();
        self.pass(passed)
    }

    /// Passes bytes on. What was held of them is counted until they are written to the client.
    fn pass(&mut self, passed: Vec<u8>) -> Bytes {
        if passed.is_empty() || self.spaces.is_empty() || !self.held.is_empty() {
            return passed.into();
        }
        Bytes::from_owner(Passed(passed, std::mem::take(&mut self.spaces)))
    }

    /// Whether there is capacity to hold so many bytes. That of the request is enough for the first.
    fn fits(&mut self, length: usize) -> bool {
        while length > BEGINNING + self.spaces.len() * STEP as usize {
            match self.allowance.take(STEP) {
                Some(space) => self.spaces.push(space),
                None => return false,
            }
        }
        true
    }

    /// The next bytes of a message.
    fn take(&mut self, raw: &[u8], is_data: bool, passed: &mut Vec<u8>) {
        if let Stage::Watched(watch) | Stage::Passing(watch) = &mut self.stage
            && is_data
            && watch.read(raw)
        {
            if matches!(self.stage, Stage::Passing(_)) {
                // The client cannot read what it has of the message.
                self.has_ended = true;
                return;
            }
            self.stage = Stage::Held;
        }
        let length = self.held.len() + raw.len();
        if let Stage::Watched(watch) = &mut self.stage
            && length > BEGINNING
        {
            self.stage = Stage::Passing(std::mem::take(watch));
            passed.append(&mut self.held);
        }
        match self.stage {
            Stage::Passing(_) => passed.extend_from_slice(raw),
            Stage::Held if length > LONGEST => {
                tracing::warn!(most = LONGEST, "a list is too long to be filtered");
                self.fail(UNREADABLE, passed);
            }
            Stage::Held | Stage::Watched(_) => match self.fits(length) {
                true => self.held.extend_from_slice(raw),
                false => self.fail(BUSY, passed),
            },
        }
    }

    fn end_event(&mut self, passed: &mut Vec<u8>) {
        let event = std::mem::take(&mut self.held);
        if self.is_watching {
            let stage = std::mem::replace(&mut self.stage, Stage::Watched(Watch::default()));
            if !matches!(stage, Stage::Held) {
                passed.extend_from_slice(&event);
                return;
            }
        }
        let (data, others) = parts(&event);
        if data.trim_ascii().is_empty() {
            passed.extend_from_slice(&event);
            return;
        }
        match self.view.filter(&data) {
            Ok(Filtered::Unchanged) => passed.extend_from_slice(&event),
            Ok(Filtered::Changed(changed)) => {
                // Above all the id, by which a client resumes.
                passed.extend_from_slice(&others);
                for line in changed.trim_ascii().split(|byte| *byte == b'\n') {
                    passed.extend_from_slice(b"data: ");
                    passed.extend_from_slice(line);
                    passed.push(b'\n');
                }
                passed.push(b'\n');
            }
            Ok(Filtered::Removed) => {}
            Err(Unreadable) => self.fail(UNREADABLE, passed),
        }
    }

    /// Ends the body with an error: what cannot be filtered is never passed on.
    fn fail(&mut self, (code, text): Failure, passed: &mut Vec<u8>) {
        self.has_ended = true;
        self.held = Vec::new();
        self.spaces = Vec::new();
        let error = json!({ "code": code, "message": text });
        let answer = json!({ "jsonrpc": "2.0", "id": self.id, "error": error }).to_string();
        if !self.is_stream {
            passed.extend_from_slice(answer.as_bytes());
        } else if self.id.is_some() {
            passed.extend_from_slice(format!("data: {answer}\n\n").as_bytes());
        }
    }
}

/// The data of an event, and its other lines.
fn parts(mut event: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut data, mut others, mut line) = (Vec::new(), Vec::new(), Vec::new());
    let mut events = Events::default();
    while let Some((raw, piece)) = events.take(&mut event) {
        match piece {
            Piece::Data => data.extend_from_slice(raw),
            Piece::Other => line.extend_from_slice(raw),
            Piece::Line { is_data: true } => {
                data.push(b'\n');
                line.clear();
            }
            Piece::Line { is_data: false } => {
                others.append(&mut line);
                others.push(b'\n');
            }
            Piece::Event | Piece::Feed => {}
        }
    }
    (data, others)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arc_swap::ArcSwap;
    use futures::FutureExt as _;

    use super::*;
    use crate::auth::authorize::AccessRules;
    use crate::auth::identity::Identity;
    use crate::config::Config;
    use crate::config::tests::example;
    use crate::limits::capacity::{Capacity, Reservation};

    /// Of a caller who may read.
    fn filter(is_stream: bool) -> Filter {
        let capacity = Arc::new(Capacity::new(1));
        let reserved = capacity.reserve("alice", 0).now_or_never();
        filter_in(&reserved.unwrap().unwrap(), is_stream)
    }

    fn filter_in(reserved: &Reservation, is_stream: bool) -> Filter {
        let rules = "access: { rules: [{ tools: [read], anyToken: true }] }";
        let config = Config::parse(&example(rules)).unwrap();
        let view = View {
            rules: Arc::new(ArcSwap::from_pointee(AccessRules::new(&config))),
            caller: Arc::new(Identity {
                client_id: "client".into(),
                subject: "alice".into(),
                scopes: vec![],
                grantable: vec![],
            }),
            tasks: Arc::default(),
            param_headers: Arc::default(),
            says_cache_scope: false,
            extensions: vec![],
        };
        Filter::new(view, reserved.allowance(), is_stream, true, Some(json!(7)))
    }

    fn passed(filter: &mut Filter, parts: &[&str]) -> String {
        let mut passed = Vec::new();
        for part in parts {
            passed.extend_from_slice(&filter.read(&Bytes::copy_from_slice(part.as_bytes())));
        }
        passed.extend_from_slice(&filter.end());
        String::from_utf8(passed).unwrap()
    }

    const LIST: &str = r#"{"id":7,"result":{"tools":[{"name":"read"},{"name":"write"}]}}"#;
    const SEEN: &str = r#"{"id":7,"result":{"tools":[{"name":"read"}]}}"#;

    #[test]
    fn a_document_is_filtered_as_a_whole() {
        let (start, end) = LIST.split_at(30);
        assert_eq!(passed(&mut filter(false), &[start, end]), SEEN);
        assert_eq!(passed(&mut filter(false), &[SEEN, " "]), format!("{SEEN} "));
        assert_eq!(passed(&mut filter(false), &[]), "");
    }

    #[test]
    fn of_a_stream_only_the_event_with_a_list_is_changed() {
        for end in ["\n", "\r\n", "\r"] {
            let before = format!(
                ": ping{end}{end}id: 0{end}data:{end}{end}event: message{end}data: {{\"id\":1}}{end}{end}"
            );
            let list = format!("event: message{end}id: 5{end}data: {LIST}{end}{end}");
            let text = format!("{before}{list}{before}");
            let whole = passed(&mut filter(true), &[&text]);
            let seen = format!("event: message\nid: 5\ndata: {SEEN}\n\n");
            let plain = |text: &str| text.replace("\r\n", "\n").replace('\r', "\n");
            let extra = if end == "\r\n" { "\n" } else { "" };
            let expected = format!("{}{seen}{extra}{}", plain(&before), plain(&before));
            assert_eq!(plain(&whole), expected, "{end:?}");
            let parts: Vec<String> = text.chars().map(String::from).collect();
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            assert_eq!(passed(&mut filter(true), &parts), whole, "{end:?}");
        }
    }

    #[test]
    fn data_in_several_lines_is_one_text() {
        let (start, end) = LIST.split_at(8);
        let event = format!("data: {start}\ndata:{end}\n\n");
        let seen = passed(&mut filter(true), &[&event]);
        assert!(!seen.contains("write") && seen.contains("read"), "{seen}");
    }

    #[test]
    fn what_cannot_be_filtered_is_an_error_and_ends_the_body() {
        let long = format!(
            "{{\"id\":7,\"result\":{{\"tools\":[],\"x\":\"{}\"}}}}",
            "x".repeat(LONGEST)
        );
        for text in [&*long, "{\"result\":NaN}", "<html>"] {
            let mut document = filter(false);
            let answer: Value = serde_json::from_str(&passed(&mut document, &[text])).unwrap();
            assert_eq!(
                (&answer["id"], &answer["error"]["code"]),
                (&json!(7), &json!(-32603))
            );
            let mut stream = filter(true);
            let seen = passed(&mut stream, &[&format!("data: {text}\n\n"), "data: 1\n\n"]);
            let answer: Value = serde_json::from_str(seen.strip_prefix("data: ").unwrap()).unwrap();
            assert_eq!(answer["error"]["code"], -32603);
            assert!(stream.has_ended());
        }
        // A page of an error says nothing that a client reads as a list.
        let mut page = Filter {
            is_success: false,
            ..filter(false)
        };
        assert_eq!(passed(&mut page, &["<html>"]), "<html>");
    }

    #[test]
    fn of_a_body_that_should_hold_no_list_little_is_held() {
        let long = "x".repeat(BEGINNING);
        let other = format!(r#"{{"id":7,"result":{{"content":["{long}"]}}}}"#);
        // In a document, in the data of an event.
        for (is_stream, start, end) in [(false, "", ""), (true, "data: ", "\n\n")] {
            let watching = || filter(is_stream).watching();
            let whole = |text: &str| format!("{start}{text}{end}");
            assert_eq!(passed(&mut watching(), &[&whole(SEEN)]), whole(SEEN));
            assert_eq!(passed(&mut watching(), &[&whole(LIST)]), whole(SEEN));
            assert_eq!(
                passed(&mut watching(), &[&whole("<html>")]),
                whole("<html>")
            );
            let mut long_one = watching();
            let begun = Bytes::from(format!("{start}{}", &other[..BEGINNING + 20]));
            assert_eq!(long_one.read(&begun), begun);
            let rest = format!("{}{end}", &other[BEGINNING + 20..]);
            assert_eq!(passed(&mut long_one, &[&rest]), rest);
            // A list that begins late.
            let late = LIST.replace("\"tools\"", &format!("\"x\":\"{long}\",\"tools\""));
            let (beginning, list) = late.split_at(late.find("\"tools").unwrap());
            let mut stopped = watching();
            let beginning = format!("{start}{beginning}");
            let seen = passed(&mut stopped, &[&beginning, list, end, "data: 1\n\n"]);
            assert!(!seen.contains("write") && stopped.has_ended(), "{seen}");
        }
        let mut events = filter(true).watching();
        let list = format!("data: {LIST}\n\n");
        let text = format!("data: {other}\n\n{list}data: 1\r\n\r\n: x\n\n{list}");
        let expected = text.replace(LIST, SEEN);
        assert_eq!(passed(&mut events, &[&text]), expected);
        let list = format!("data: {LIST}\n\n");
        let hidden = r#"data: {"method":"notifications/tasks","params":{"taskId":"t"}}"#;
        let text = format!("{hidden}\n\n{list}");
        assert_eq!(
            passed(&mut filter(true).watching(), &[&text]),
            list.replace(LIST, SEEN)
        );
    }

    #[test]
    fn what_is_held_and_what_no_client_reads_takes_capacity() {
        let capacity = Arc::new(Capacity::new(1));
        let reserve = |subject| {
            capacity
                .reserve(subject, 0)
                .now_or_never()
                .unwrap()
                .unwrap()
        };
        let (alice, bob) = (reserve("alice"), reserve("bob"));
        let list = LIST.replace(
            "\"read\"",
            &format!("\"read\",\"x\":\"{}\"", "x".repeat(1_900_000)),
        );
        let read = |reserved, is_stream| {
            let mut filter = filter_in(reserved, is_stream);
            let (start, end) = if is_stream {
                ("data: ", "\n\n")
            } else {
                ("", "")
            };
            let passed = filter.read(&format!("{start}{list}{end}").into());
            if passed.is_empty() {
                filter.end()
            } else {
                passed
            }
        };
        let is_list = |bytes: &Bytes| bytes.len() > 1_900_000;
        let unread: Vec<Bytes> = [false, true, false, true]
            .map(|kind| read(&alice, kind))
            .into();
        assert!(unread.iter().all(is_list));
        let refused = read(&alice, false);
        let answer: Value = serde_json::from_slice(&refused).unwrap();
        assert_eq!(
            (&answer["id"], &answer["error"]["code"]),
            (&json!(7), &json!(-32000))
        );
        assert!(is_list(&read(&bob, true)));
        drop(unread);
        assert!(is_list(&read(&alice, false)));
    }

    #[test]
    fn a_thousand_tools_pass() {
        let tool = format!(r#"{{"name":"read","description":"{}"}}"#, "x".repeat(1500));
        let list = format!(
            r#"{{"id":7,"result":{{"tools":[{}]}}}}"#,
            vec![tool; 1000].join(",")
        );
        assert_eq!(passed(&mut filter(false), &[&list]), list);
        let event = format!("data: {list}\n\n");
        assert_eq!(passed(&mut filter(true), &[&event]), event);
    }
}
