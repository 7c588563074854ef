//! A value that cannot be used, and the bounds of those that can.

/// A key of a document with what would be right. Shown on one line, as `tokens.grantSeconds: TEXT`, or
/// `line 3, column 5: tokens.grantSeconds: TEXT`; without a key when it is about the whole document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Where in the document, as `scopes[0].name`; empty: the whole document.
    pub key: String,
    /// What is wrong, and what would be right.
    pub text: String,
    /// Where the key stands in the text of the document, if that is known.
    pub place: Option<Place>,
}

/// A place in a text. Both numbers begin at 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: u64,
    /// The column, in characters.
    pub column: u64,
}

impl Invalid {
    /// About this key. White space in the text is collapsed to single spaces, because some parsers draw
    /// multi-line excerpts.
    pub fn new(key: impl Into<String>, text: impl std::fmt::Display) -> Self {
        let text = text.to_string();
        Self {
            key: key.into(),
            text: text.split_whitespace().collect::<Vec<_>>().join(" "),
            place: None,
        }
    }

    /// The same, for a document that stands at `parent` in a larger one.
    #[must_use]
    pub fn below(mut self, parent: &str) -> Self {
        self.key = match self.key.as_str() {
            "" => parent.to_owned(),
            key => format!("{parent}.{key}"),
        };
        self
    }
}

impl std::fmt::Display for Invalid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(Place { line, column }) = self.place {
            write!(f, "line {line}, column {column}: ")?;
        }
        match self.key.as_str() {
            "" => f.write_str(&self.text),
            key => write!(f, "{key}: {}", self.text),
        }
    }
}

impl std::error::Error for Invalid {}

/// The least and the most that a number, a length or a count may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The least.
    pub least: u32,
    /// The most.
    pub most: u32,
}

impl Bounds {
    /// From `least` to `most`, both included.
    #[must_use]
    pub const fn new(least: u32, most: u32) -> Self {
        Self { least, most }
    }

    /// Whether this many are within.
    #[must_use]
    pub fn hold(self, count: usize) -> bool {
        u32::try_from(count).is_ok_and(|count| (self.least..=self.most).contains(&count))
    }

    /// # Errors
    /// When `number` is out of bounds.
    pub(crate) fn number(self, key: impl Into<String>, number: u32) -> Result<(), Invalid> {
        if (self.least..=self.most).contains(&number) {
            return Ok(());
        }
        let text = format!("{number} is out of range: expected {self}");
        Err(Invalid::new(key, text))
    }

    /// # Errors
    /// When `text` has too few or too many characters. Characters are counted as a schema's `maxLength`
    /// does: Unicode scalar values.
    pub(crate) fn text(self, key: impl Into<String>, text: &str) -> Result<(), Invalid> {
        if self.hold(text.chars().count()) {
            return Ok(());
        }
        Err(Invalid::new(key, format!("expected {self} characters")))
    }

    /// # Errors
    /// When a list has too few or too many entries.
    pub(crate) fn list<T>(self, key: impl Into<String>, list: &[T]) -> Result<(), Invalid> {
        if self.hold(list.len()) {
            return Ok(());
        }
        let text = format!("expected {self} entries, not {}", list.len());
        Err(Invalid::new(key, text))
    }
}

impl std::fmt::Display for Bounds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.least {
            0 => write!(f, "at most {}", self.most),
            least => write!(f, "{least} to {}", self.most),
        }
    }
}

/// A name from outside for an error text: short, and only what RFC 6749, section 5.2, lets stand in an
/// `error_description`.
#[must_use]
pub fn printable(text: &str) -> String {
    let plain = |char: char| matches!(char, ' '..='~') && char != '"' && char != '\\';
    let shown = text.chars().take(64);
    shown.map(|c| if plain(c) { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_that_begins_with_its_key() {
        let error = Invalid::new("name", "expected\n  something  else").below("scopes[0]");
        assert_eq!(error.to_string(), "scopes[0].name: expected something else");
        let whole = Invalid::new("", "not valid YAML");
        assert_eq!(whole.to_string(), "not valid YAML");
        assert_eq!(whole.below("clients[1]").key, "clients[1]");
    }

    #[test]
    fn lengths_are_counted_in_characters() {
        let bounds = Bounds::new(1, 2);
        assert!(bounds.text("a", "äö").is_ok());
        let error = bounds.text("a", "äöü").unwrap_err();
        assert_eq!(error.to_string(), "a: expected 1 to 2 characters");
        let error = Bounds::new(0, 5).number("n", 6).unwrap_err();
        assert_eq!(
            error.to_string(),
            "n: 6 is out of range: expected at most 5"
        );
    }

    #[test]
    fn names_from_outside_are_made_printable() {
        assert_eq!(printable("a\"b\\c\nd\u{202e}"), "a?b?c?d?");
        assert_eq!(printable(&"x".repeat(100)).len(), 64);
    }
}
