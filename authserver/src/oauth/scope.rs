//! Sets of scopes (RFC 6749, section 3.3).

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A set of scopes, written as names in order with one space between them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scopes(BTreeSet<String>);

/// A `scope` parameter that is not a list of scope names.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a scope is made of printable ASCII characters without space, double quote and backslash")]
pub struct InvalidScope;

impl Scopes {
    /// Reads a `scope` parameter: names with spaces between them, empty for none.
    ///
    /// # Errors
    /// When a name has a character that RFC 6749, section 3.3, does not allow.
    pub fn parse(text: &str) -> Result<Self, InvalidScope> {
        let names = text.split(' ').filter(|name| !name.is_empty());
        names
            .map(|name| {
                is_scope_name(name)
                    .then(|| name.to_owned())
                    .ok_or(InvalidScope)
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this scope is in the set.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// Whether each of these is also in `other`.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.0.is_subset(&other.0)
    }

    /// Those that are in both.
    pub fn intersection(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).cloned().collect())
    }

    /// The names in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

/// Whether this is a scope-token of RFC 6749, section 3.3.
pub fn is_scope_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}

impl<S: Into<String>> FromIterator<S> for Scopes {
    fn from_iter<I: IntoIterator<Item = S>>(names: I) -> Self {
        Self(names.into_iter().map(Into::into).collect())
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.iter().enumerate() {
            let separator = if index == 0 { "" } else { " " };
            write!(f, "{separator}{name}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_the_scope_parameter() {
        let scopes = Scopes::parse("notes:write  notes:read notes:read").unwrap();
        assert_eq!(scopes.to_string(), "notes:read notes:write");
        assert!(Scopes::parse("").unwrap().is_empty());
        for wrong in ["a\"b", "a\\b", "ä", "a\tb", "a\n"] {
            assert_eq!(Scopes::parse(wrong), Err(InvalidScope), "{wrong:?}");
        }
    }
}
