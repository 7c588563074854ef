//! The keys file of the authserver: the versions of the pepper, with which tokens and secrets are hashed.

use std::collections::BTreeSet;
use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// The length of a pepper.
pub const SECRET_BYTES: usize = 32;
/// In place of a secret that was given up.
const LOST: &str = "lost";

/// A keys file that cannot be used. No variant carries key material.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PepperFileError {
    /// No line has a secret.
    #[error("it is empty; expected lines `VERSION:base64(32 bytes)`, the current one first")]
    Empty,
    /// A line is not of the form.
    #[error(
        "line {0}: expected `VERSION:base64(32 bytes)` with VERSION 1..=65535, or `VERSION:lost`"
    )]
    Malformed(usize),
    /// Two lines have the same version.
    #[error("line {0}: an earlier line also has version {1}; give each line its own version")]
    Duplicate(usize, u16),
}

/// One line. `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Line {
    /// From 1.
    pub version: u16,
    /// None when it was given up.
    pub secret: Option<[u8; SECRET_BYTES]>,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Line(version {})", self.version)
    }
}

/// Reads the file: a version a line, the current one first. Blank lines are skipped.
///
/// # Errors
/// Names the invalid line, but never quotes it.
pub fn parse(text: &str) -> Result<Vec<Line>, PepperFileError> {
    let mut versions = BTreeSet::new();
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let line = parse_line(line).ok_or(PepperFileError::Malformed(index + 1))?;
        if !versions.insert(line.version) {
            return Err(PepperFileError::Duplicate(index + 1, line.version));
        }
        lines.push(line);
    }
    match lines.iter().any(|line| line.secret.is_some()) {
        true => Ok(lines),
        false => Err(PepperFileError::Empty),
    }
}

fn parse_line(line: &str) -> Option<Line> {
    let (version, secret) = line.split_once(':')?;
    let version = version.parse().ok().filter(|version| *version > 0)?;
    let secret = match secret {
        LOST => None,
        secret => Some(BASE64_STANDARD.decode(secret).ok()?.try_into().ok()?),
    };
    Some(Line { version, secret })
}
