//! Where the parts of a JSON text stand. The text must be valid; the spans are positions in it, so that parts can be
//! replaced and all else stays as it is, byte for byte.

use std::ops::Range;

/// A part of the text, and what takes its place.
pub type Edit = (Range<usize>, Vec<u8>);

/// The members of the object that begins at `at`: their names and values. None where there is no object.
pub fn members(text: &[u8], at: usize) -> impl Iterator<Item = (Range<usize>, Range<usize>)> + '_ {
    let mut pieces = pieces(text, at, b'{');
    std::iter::from_fn(move || {
        let name = pieces.next()?;
        // Behind the colon.
        let value = value(text, skip_white(text, name.end) + 1);
        pieces.at = value.end;
        Some((name, value))
    })
}

/// The value of the last member with this name of the object that begins at `at`: the one that most parsers keep.
pub fn last_member(text: &[u8], at: usize, wanted: &str) -> Option<Range<usize>> {
    let is_it = |name: &Range<usize>| string(text, name).as_deref() == Some(wanted);
    let found = members(text, at).filter(|(name, _)| is_it(name)).last();
    found.map(|(_, value)| value)
}

/// The elements of the array that begins at `at`. None where there is no array.
pub fn elements(text: &[u8], at: usize) -> impl Iterator<Item = Range<usize>> + '_ {
    pieces(text, at, b'[')
}

/// The value that begins at `at`, after white space.
pub fn value(text: &[u8], at: usize) -> Range<usize> {
    let start = skip_white(text, at);
    let end = match text.get(start) {
        Some(b'"') => string_end(text, start),
        Some(b'{' | b'[') => nested_end(text, start),
        _ => {
            let ends =
                |byte: &u8| matches!(byte, b',' | b']' | b'}' | b' ' | b'\n' | b'\r' | b'\t');
            let rest = text.get(start..).unwrap_or_default();
            start + rest.iter().position(ends).unwrap_or(rest.len())
        }
    };
    start..end
}

/// The string at a span, without its escapes.
pub fn string(text: &[u8], span: &Range<usize>) -> Option<String> {
    serde_json::from_slice(text.get(span.clone())?).ok()
}

/// The text with its edits, which do not overlap.
pub fn apply(text: &[u8], mut edits: Vec<Edit>) -> Vec<u8> {
    edits.sort_by_key(|(span, _)| span.start);
    let mut changed = Vec::with_capacity(text.len() + 32);
    let mut at = 0;
    for (span, replacement) in edits {
        changed.extend_from_slice(text.get(at..span.start).unwrap_or_default());
        changed.extend_from_slice(&replacement);
        at = span.end;
    }
    changed.extend_from_slice(text.get(at..).unwrap_or_default());
    changed
}

struct Pieces<'a> {
    text: &'a [u8],
    at: usize,
}

fn pieces(text: &[u8], at: usize, bracket: u8) -> Pieces<'_> {
    let start = skip_white(text, at);
    let is_there = text.get(start) == Some(&bracket);
    Pieces {
        text,
        at: if is_there { start + 1 } else { text.len() },
    }
}

impl Iterator for Pieces<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let mut start = skip_white(self.text, self.at);
        if self.text.get(start) == Some(&b',') {
            start = skip_white(self.text, start + 1);
        }
        if matches!(self.text.get(start), None | Some(b'}' | b']')) {
            self.at = self.text.len();
            return None;
        }
        let part = value(self.text, start);
        self.at = part.end;
        Some(part)
    }
}

fn skip_white(text: &[u8], at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    let is_white = |byte: &u8| matches!(byte, b' ' | b'\n' | b'\r' | b'\t');
    at + rest.iter().take_while(|byte| is_white(byte)).count()
}

/// Behind the closing quote of the string that begins at `start`.
fn string_end(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

/// Behind the closing bracket of the object or array that begins at `start`.
fn nested_end(text: &[u8], start: usize) -> usize {
    let (mut depth, mut at) = (0_usize, start);
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => {
                at = string_end(text, at);
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_and_elements_are_found_as_they_are_written() {
        let text =
            br#" { "a" : 1.5e3 ,"b\"c":"x}\\", "d":[ {"e":"]"} , [ ] ,true,null ], "f":{} } "#;
        let part = |span: &Range<usize>| std::str::from_utf8(&text[span.clone()]).unwrap();
        let found: Vec<(String, &str)> = members(text, 0)
            .map(|(name, value)| (string(text, &name).unwrap(), part(&value)))
            .collect();
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "b\"c", "d", "f"]);
        assert_eq!(found[0].1, "1.5e3");
        assert_eq!(found[1].1, r#""x}\\""#);
        assert_eq!(found[3].1, "{}");
        let list = members(text, 0).nth(2).unwrap().1;
        let list: Vec<&str> = elements(text, list.start).map(|span| part(&span)).collect();
        assert_eq!(list, [r#"{"e":"]"}"#, "[ ]", "true", "null"]);
    }

    #[test]
    fn what_is_of_another_type_has_no_parts() {
        for text in ["", "1", "\"{\"", "[1]", "{}", "{ }", "null"] {
            assert_eq!(members(text.as_bytes(), 0).count(), 0, "{text}");
        }
        for text in ["", "1", "\"[\"", "{\"a\":1}", "[]", "[ ]"] {
            assert_eq!(elements(text.as_bytes(), 0).count(), 0, "{text}");
        }
    }
}
