//! Helpers for messages.

use std::fmt::Write as _;

/// The API server's message, without its prefixes.
pub fn explain(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// Whether `text` can be the name of a namespace or of one of our objects (a label of RFC 1123).
pub fn is_label(text: &str) -> bool {
    let fits = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    !text.is_empty() && text.bytes().all(fits)
}

/// At most the first `bytes` of `text`, cut between characters.
pub fn shorten(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// One line without control characters: text of a pod may end in a terminal.
pub fn one_line(text: &str) -> String {
    text.replace(|c: char| c.is_control(), " ")
}

/// Bytes in lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_pod_cannot_steer_a_terminal() {
        assert_eq!(one_line("a\u{1b}[2J\nb\u{9b}é"), "a [2J b é");
    }

    #[test]
    fn only_what_can_be_a_name_gets_into_urls() {
        for name in ["auth", "auth-2", "0a"] {
            assert!(is_label(name), "{name}");
        }
        let aliases = [
            "",
            "auth/status",
            "auth?x",
            "auth#x",
            "..",
            "a b",
            "a:1@b",
            "10.0.0.1",
        ];
        for name in aliases {
            assert!(!is_label(name), "{name}");
        }
    }
}
