//! Event streams (HTML, section 9.2.6), in pieces as they arrive: no byte is copied, and every byte is in a piece.

/// What some bytes of a stream are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Part of the value of a line of data. The space before it, which clients remove, is white space to JSON, too.
    Data,
    /// Part of another line, or of the name of a field.
    Other,
    /// The end of a line that is not blank.
    Line {
        /// Whether it was a line of data.
        is_data: bool,
    },
    /// The end of a blank line, which ends an event.
    Event,
    /// The line feed that belongs to the carriage return before it, which ended a line.
    Feed,
}

/// Where in a stream the next byte is.
#[derive(Debug, Default)]
pub struct Events {
    line: Line,
    after_return: bool,
}

/// What is known of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Line {
    #[default]
    Blank,
    /// It begins with so many bytes of [`DATA`].
    Field(usize),
    Data,
    Other,
}

/// What a line of data begins with: the first of a stream may have a byte order mark.
const DATA: &[u8] = b"\xef\xbb\xbfdata:";
/// The length of the byte order mark.
const MARK: usize = 3;

impl Events {
    /// Takes the next piece off `bytes`.
    pub fn take<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<(&'a [u8], Piece)> {
        let first = *bytes.first()?;
        let after_return = std::mem::replace(&mut self.after_return, first == b'\r');
        let (length, piece) = match first {
            b'\n' if after_return => (1, Piece::Feed),
            b'\n' | b'\r' => match std::mem::take(&mut self.line) {
                Line::Blank => (1, Piece::Event),
                line => {
                    let is_data = line == Line::Data;
                    (1, Piece::Line { is_data })
                }
            },
            _ => self.within_line(first, bytes),
        };
        let (piece_bytes, rest) = bytes.split_at(length);
        *bytes = rest;
        Some((piece_bytes, piece))
    }

    fn within_line(&mut self, first: u8, bytes: &[u8]) -> (usize, Piece) {
        let matched = match self.line {
            Line::Blank if first == DATA[MARK] => MARK,
            Line::Blank => 0,
            Line::Field(matched) => matched,
            Line::Data | Line::Other => {
                let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
                let is_data = self.line == Line::Data;
                let piece = if is_data { Piece::Data } else { Piece::Other };
                return (end.unwrap_or(bytes.len()), piece);
            }
        };
        self.line = match DATA.get(matched) == Some(&first) {
            true if matched + 1 == DATA.len() => Line::Data,
            true => Line::Field(matched + 1),
            false => Line::Other,
        };
        (1, Piece::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data of each event, read in pieces of this size. Every byte is seen, in its place.
    fn events(text: &str, size: usize) -> Vec<String> {
        let (mut events, mut found, mut data) = (Events::default(), Vec::new(), Vec::new());
        let mut all = Vec::new();
        for mut bytes in text.as_bytes().chunks(size) {
            while let Some((raw, piece)) = events.take(&mut bytes) {
                all.extend_from_slice(raw);
                match piece {
                    Piece::Data => data.extend_from_slice(raw),
                    Piece::Line { is_data: true } => data.push(b'\n'),
                    Piece::Event => {
                        found.push(String::from_utf8(std::mem::take(&mut data)).unwrap());
                    }
                    Piece::Other | Piece::Line { .. } | Piece::Feed => {}
                }
            }
        }
        assert_eq!(String::from_utf8(all).unwrap(), text);
        found
    }

    #[test]
    fn the_data_of_an_event_is_that_of_its_lines() {
        let text = "\u{feff}data: a\n\n: comment\n\nevent: message\ndata:b\ndata: c\nid: 1\n\n\
            dat: d\ndatas: e\ndata\n data: f\n\ndata: left";
        for end in ["\n", "\r\n", "\r"] {
            let text = text.replace('\n', end);
            for size in (1..9).chain([text.len()]) {
                let found = events(&text, size);
                assert_eq!(found, [" a\n", "", "b\n c\n", ""], "{end:?} {size}");
            }
        }
    }
}
