//! Log fields that all programs share, so that one search finds a request in all of them.

use std::fmt::Write as _;

use aws_lc_rs::digest;
use http::HeaderMap;

/// A request's `traceparent` (W3C Trace Context, section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent<'a> {
    /// The trace: 32 hex digits.
    pub trace_id: &'a str,
    /// The caller's span: 16 hex digits.
    pub parent_id: &'a str,
    /// Whether the caller records the trace.
    pub sampled: bool,
}

impl<'a> TraceParent<'a> {
    /// The one of a request, if it is valid and there is only one.
    pub fn of(headers: &'a HeaderMap) -> Option<Self> {
        let mut values = headers.get_all("traceparent").iter();
        match (values.next(), values.next()) {
            (Some(value), None) => Self::parse(value.to_str().ok()?),
            _ => None,
        }
    }

    /// The one that is written so, if it is valid.
    pub fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split('-');
        let (version, trace_id, parent_id, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let hex = |text: &str, length: usize| {
            text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let set = |id: &str| id.bytes().any(|byte| byte != b'0');
        let well_formed =
            hex(version, 2) && hex(trace_id, 32) && hex(parent_id, 16) && hex(flags, 2);
        // A later version may have more fields, and ff is none.
        let known = version != "ff" && (version != "00" || parts.next().is_none());
        let parent = Self {
            trace_id,
            parent_id,
            sampled: u8::from_str_radix(flags, 16).is_ok_and(|flags| flags & 1 == 1),
        };
        (well_formed && known && set(trace_id) && set(parent_id)).then_some(parent)
    }
}

/// The trace that a request belongs to.
pub fn trace_id(headers: &HeaderMap) -> Option<&str> {
    TraceParent::of(headers).map(|parent| parent.trace_id)
}

/// A user's `sub` as it is logged: a hash, the same in every program.
pub fn subject_hash(subject: &str) -> String {
    let digest = digest::digest(&digest::SHA256, subject.as_bytes());
    let mut text = String::with_capacity(16);
    for byte in &digest.as_ref()[..8] {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn of(values: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("traceparent", value.parse().unwrap());
        }
        trace_id(&headers).map(str::to_owned)
    }

    #[test]
    fn a_valid_traceparent_names_its_trace() {
        let good = format!("00-{TRACE}-00f067aa0ba902b7-01");
        assert_eq!(of(&[&good]).as_deref(), Some(TRACE));
        let later = format!("cc-{TRACE}-00f067aa0ba902b7-01-more");
        assert_eq!(of(&[&later]).as_deref(), Some(TRACE));
        for bad in [
            "",
            TRACE,
            &good.to_uppercase(),
            &format!("ff-{TRACE}-00f067aa0ba902b7-01"),
            &format!("00-{TRACE}-0000000000000000-01"),
            &format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            &format!("{good}-more"),
            &good[..54],
        ] {
            assert_eq!(of(&[bad]), None, "{bad}");
        }
        assert_eq!(of(&[&good, &good]), None);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn a_subjects_hash_does_not_show_it() {
        assert_eq!(subject_hash("alice"), "2bd806c97f0e00af");
        assert_ne!(subject_hash("alice"), subject_hash("bob"));
    }
}
