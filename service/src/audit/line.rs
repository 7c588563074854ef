//! A line: one JSON object in ASCII-safe text, which no value from outside can end early.

use std::io::{self, Write};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter};

use crate::clock::UnixTime;

/// The first `most` bytes of a text, and that there were more.
pub fn bounded(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(most)])
}

#[derive(Serialize)]
struct Line<'a, T: Serialize> {
    time: String,
    #[serde(flatten)]
    rest: &'a T,
}

/// The line with its line break; `None` when `rest` is no JSON object.
pub(super) fn encode(now: UnixTime, rest: &impl Serialize) -> Option<Vec<u8>> {
    let time = Timestamp::from_millisecond(now.as_millis()).ok()?;
    let line = Line {
        time: format!("{time:.3}"),
        rest,
    };
    let mut text = Vec::with_capacity(512);
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, OneLine);
    line.serialize(&mut serializer).ok()?;
    text.push(b'\n');
    Some(text)
}

/// Compact, and whatever a terminal or a program could take for a line break, or for a command, is escaped. `serde_json` escapes
/// only what JSON requires: U+0000 to U+001F.
struct OneLine;

impl Formatter for OneLine {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, found)) = rest.char_indices().find(|(_, c)| is_unsafe(*c)) {
            CompactFormatter.write_string_fragment(writer, &rest[..at])?;
            // All of them are in the Basic Multilingual Plane.
            write!(writer, "\\u{:04x}", u32::from(found))?;
            rest = &rest[at + found.len_utf8()..];
        }
        CompactFormatter.write_string_fragment(writer, rest)
    }
}

/// Control characters, line and paragraph separators, and those that change the direction of text.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn line(value: &Value) -> String {
        let now = UnixTime::from_millis(1_800_000_000_250);
        String::from_utf8(encode(now, value).unwrap()).unwrap()
    }

    #[test]
    fn the_time_comes_first() {
        assert_eq!(
            line(&json!({ "event": "login" })),
            "{\"time\":\"2027-01-15T08:00:00.250Z\",\"event\":\"login\"}\n"
        );
        assert!(encode(UnixTime::from_millis(0), &"text").is_none());
    }

    #[test]
    fn nothing_from_outside_ends_a_line_early() {
        let forged =
            "x\"}\n{\"event\":\"login\"}\r\u{85}\u{2028}\u{2029}\u{202e}\u{2066}\u{7f}\u{1b}[2J";
        let written = line(&json!({ "user_agent": forged, "äöü": "Zoë" }));
        assert_eq!(written.matches('\n').count(), 1, "{written:?}");
        for unsafe_one in forged.chars().filter(|c| c.is_control() || !c.is_ascii()) {
            assert_eq!(
                written.contains(unsafe_one),
                unsafe_one == '\n',
                "{written:?}"
            );
        }
        assert!(written.contains("Zoë"), "{written}");
        let read: Value = serde_json::from_str(&written).unwrap();
        assert_eq!(read["user_agent"], forged);
        assert_eq!(read["äöü"], "Zoë");
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(bounded("abc", 3), "abc");
        assert_eq!(bounded("abcd", 3), "abc…");
        assert_eq!(bounded("aöö", 2), "a…");
    }
}
