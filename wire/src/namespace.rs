//! Names of namespaces: whose a client or a resource is.

use crate::Invalid;
use crate::invalid::Bounds;

/// The length of a name, in characters (RFC 1123).
pub const LENGTH: Bounds = Bounds::new(1, 63);

/// Checks the name of a namespace.
///
/// # Errors
/// When it is none.
pub fn check(key: impl Into<String>, name: &str) -> Result<(), Invalid> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let outer = |byte: Option<&u8>| byte.is_some_and(|byte| *byte != b'-');
    let bytes = name.as_bytes();
    if LENGTH.hold(bytes.len())
        && bytes.iter().copied().all(inner)
        && outer(bytes.first())
        && outer(bytes.last())
    {
        return Ok(());
    }
    let text = format!(
        "expected the name of a namespace: {LENGTH} lowercase letters, digits and inner hyphens"
    );
    Err(Invalid::new(key, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "team-a", "0x", &"a".repeat(63)] {
            assert_eq!(check("n", good), Ok(()), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "ä", &"a".repeat(64)] {
            assert!(check("n", bad).is_err(), "{bad}");
        }
    }
}
