//! The keys file of the resource-proxy: what the replicas of a proxy share.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::Invalid;

/// The length of a key.
pub const KEY_BYTES: usize = 32;
/// One key is in use, and one was before.
const KEYS: usize = 2;

/// The keys of a proxy. The first one makes what clients get; the others only recognize it, until all of that has
/// expired. So a key is replaced by a line on top.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyKeys {
    keys: Vec<[u8; KEY_BYTES]>,
}

impl ProxyKeys {
    /// With one key.
    #[must_use]
    pub fn new(key: [u8; KEY_BYTES]) -> Self {
        Self { keys: vec![key] }
    }

    /// Reads the file: one or two lines of base64, the current key first. Blank lines are skipped.
    ///
    /// # Errors
    /// Names the line, but never quotes it.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let mut keys = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            let at = || format!("line {}", index + 1);
            let key = BASE64_STANDARD.decode(line).ok();
            let key = key.and_then(|key| key.try_into().ok()).ok_or_else(|| {
                Invalid::new(
                    at(),
                    "must be the base64 of 32 random bytes: openssl rand -base64 32",
                )
            })?;
            if keys.contains(&key) {
                return Err(Invalid::new(at(), "is the same key again: remove the line"));
            }
            keys.push(key);
        }
        match keys.len() {
            1..=KEYS => Ok(Self { keys }),
            _ => Err(Invalid::new(
                "",
                "must have one line, or two while a key is replaced: the current key first",
            )),
        }
    }

    /// The file with these keys.
    #[must_use]
    pub fn to_text(&self) -> String {
        let lines = self.keys.iter().map(|key| BASE64_STANDARD.encode(key));
        lines.map(|line| line + "\n").collect()
    }

    /// All keys, the current one first.
    pub fn all(&self) -> impl Iterator<Item = &[u8; KEY_BYTES]> {
        self.keys.iter()
    }
}

impl fmt::Debug for ProxyKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProxyKeys({} keys)", self.keys.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(byte: u8) -> String {
        ProxyKeys::new([byte; KEY_BYTES]).to_text()
    }

    #[test]
    fn the_current_key_is_the_first_line() {
        let keys = ProxyKeys::parse(&(line(2) + "\n" + &line(1))).unwrap();
        assert_eq!(keys.all().collect::<Vec<_>>(), [&[2; 32], &[1; 32]]);
        assert_eq!(keys.to_text(), line(2) + &line(1));
        assert_eq!(format!("{keys:?}"), "ProxyKeys(2 keys)");
    }

    #[test]
    fn an_invalid_file_is_named_by_line_and_never_quoted() {
        let good = line(1);
        for (text, at) in [
            (String::new(), "must have one line"),
            (good.clone() + &line(2) + &line(3), "must have one line"),
            (good.clone() + &good, "line 2"),
            (good.clone() + "AAAA", "line 2"),
            (format!("1:{good}"), "line 1"),
        ] {
            let error = ProxyKeys::parse(&text).unwrap_err().to_string();
            assert!(error.contains(at), "{text:?}: {error}");
            assert!(!error.contains(good.trim()));
        }
    }
}
