//! Filters a body that may hold lists: a document as a whole, a stream event by event. Nothing else is held back.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::mcp::list_filter::{Filtered, Unreadable, View};

/// The longest document or event that is filtered, in bytes: a list of 1,000 tools, with room.
pub const LONGEST: usize = 2 * 1024 * 1024;
/// The JSON-RPC error code of what is answered in place of a list that cannot be filtered.
const INTERNAL_ERROR: i32 = -32603;

/// Filters a body.
#[derive(Debug)]
pub struct Filter {
    view: View,
    is_stream: bool,
    /// The document so far, or the event.
    held: Vec<u8>,
    /// Where the line begins that is not complete.
    line: usize,
    /// The last byte was a carriage return, whose line feed may follow.
    after_return: bool,
    /// The request that is answered.
    id: Option<Value>,
    /// The response says that it went well.
    is_success: bool,
    has_ended: bool,
}

impl Filter {
    /// Of a response to the request with this id.
    pub fn new(view: View, is_stream: bool, is_success: bool, id: Option<Value>) -> Self {
        Self {
            view,
            is_stream,
            held: Vec::new(),
            line: 0,
            after_return: false,
            id,
            is_success,
            has_ended: false,
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
        let mut passed = Vec::new();
        if !self.is_stream {
            self.hold(bytes, &mut passed);
            return passed.into();
        }
        for byte in bytes {
            if self.has_ended {
                break;
            }
            self.read_byte(*byte, &mut passed);
        }
        passed.into()
    }

    /// The end of the body; what is left.
    pub fn end(&mut self) -> Bytes {
        if self.has_ended {
            return Bytes::new();
        }
        self.has_ended = true;
        let mut passed = Vec::new();
        // An event that is not complete does not count (HTML, section 9.2.6).
        if !self.is_stream && !self.held.trim_ascii().is_empty() {
            match self.view.filter(&self.held) {
                Ok(Filtered::Unchanged) => passed = std::mem::take(&mut self.held),
                Ok(Filtered::Changed(changed)) => passed = changed,
                Err(Unreadable) if !self.is_success => passed = std::mem::take(&mut self.held),
                Ok(Filtered::Removed) | Err(Unreadable) => self.fail(&mut passed),
            }
        }
        passed.into()
    }

    fn read_byte(&mut self, byte: u8, passed: &mut Vec<u8>) {
        let is_second = self.after_return && byte == b'\n';
        self.after_return = byte == b'\r';
        if is_second {
            // It belongs to the line before.
            let is_between = self.held.is_empty();
            let target = if is_between { passed } else { &mut self.held };
            target.push(byte);
            self.line = self.held.len();
            return;
        }
        self.hold(&[byte], passed);
        if self.has_ended || (byte != b'\n' && byte != b'\r') {
            return;
        }
        let is_blank = self.held.len() == self.line + 1;
        self.line = self.held.len();
        if is_blank {
            self.end_event(passed);
        }
    }

    fn hold(&mut self, bytes: &[u8], passed: &mut Vec<u8>) {
        if self.held.len() + bytes.len() > LONGEST {
            tracing::warn!(most = LONGEST, "a list is too long to be filtered");
            self.fail(passed);
        } else {
            self.held.extend_from_slice(bytes);
        }
    }

    fn end_event(&mut self, passed: &mut Vec<u8>) {
        let event = std::mem::take(&mut self.held);
        self.line = 0;
        let lines = || event.split(|byte| *byte == b'\n' || *byte == b'\r');
        let data: Vec<&[u8]> = lines().filter_map(data_of).collect();
        let data = data.join(&b'\n');
        if data.trim_ascii().is_empty() {
            passed.extend_from_slice(&event);
            return;
        }
        match self.view.filter(&data) {
            Ok(Filtered::Unchanged) => passed.extend_from_slice(&event),
            Ok(Filtered::Changed(changed)) => {
                // The other fields: above all the id, by which a client resumes.
                for line in lines().filter(|line| !line.is_empty() && data_of(line).is_none()) {
                    passed.extend_from_slice(line);
                    passed.push(b'\n');
                }
                for line in changed.split(|byte| *byte == b'\n') {
                    passed.extend_from_slice(b"data: ");
                    passed.extend_from_slice(line);
                    passed.push(b'\n');
                }
                passed.push(b'\n');
            }
            Ok(Filtered::Removed) => {}
            Err(Unreadable) => self.fail(passed),
        }
    }

    /// Ends the body with an error: what cannot be filtered is never passed on.
    fn fail(&mut self, passed: &mut Vec<u8>) {
        self.has_ended = true;
        self.held = Vec::new();
        let text = "the server's response cannot be filtered by the access rules: it is too long, or not JSON";
        let error = json!({ "code": INTERNAL_ERROR, "message": text });
        let answer = json!({ "jsonrpc": "2.0", "id": self.id, "error": error }).to_string();
        if !self.is_stream {
            passed.extend_from_slice(answer.as_bytes());
        } else if self.id.is_some() {
            passed.extend_from_slice(format!("data: {answer}\n\n").as_bytes());
        }
    }
}

/// The value of a line of data, of which a client removes one space.
fn data_of(line: &[u8]) -> Option<&[u8]> {
    // A client removes a byte order mark at the beginning of a stream.
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
    if line == b"data" {
        return Some(b"");
    }
    let value = line.strip_prefix(b"data:")?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arc_swap::ArcSwap;

    use super::*;
    use crate::auth::authorize::AccessRules;
    use crate::auth::identity::Identity;
    use crate::config::Config;
    use crate::config::tests::example;

    /// Of a caller who may read.
    fn filter(is_stream: bool) -> Filter {
        let rules = "access: { rules: [{ tools: [read], anyToken: true }] }";
        let config = Config::parse(&example(rules)).unwrap();
        let view = View {
            rules: Arc::new(ArcSwap::from_pointee(AccessRules::new(&config))),
            caller: Arc::new(Identity {
                client_id: "client".into(),
                subject: "alice".into(),
                scopes: vec![],
            }),
            tasks: Arc::default(),
            param_headers: Arc::default(),
            says_cache_scope: false,
        };
        Filter::new(view, is_stream, true, Some(json!(7)))
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
