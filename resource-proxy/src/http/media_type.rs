//! What a response says of its body.

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};

/// Whether a body is written in another way than as it is: `identity` is no encoding.
pub fn is_encoded(headers: &HeaderMap) -> bool {
    let is_plain = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    !headers.get_all(CONTENT_ENCODING).iter().all(is_plain)
}

/// Whether a response is an event stream.
pub fn is_event_stream(headers: &HeaderMap) -> bool {
    is_of_type(headers, "text/event-stream")
}

/// Whether a response has this media type.
pub fn is_of_type(headers: &HeaderMap, media_type: &str) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| {
        let kind = value.as_bytes().split(|byte| *byte == b';').next();
        kind.is_some_and(|kind| {
            kind.trim_ascii()
                .eq_ignore_ascii_case(media_type.as_bytes())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_is_no_encoding() {
        for (values, is) in [
            (&[][..], false),
            (&["identity"], false),
            (&["Identity", "identity"], false),
            (&["gzip"], true),
            (&["identity", "br"], true),
            (&[""], true),
        ] {
            let values = values.iter().map(|value| HeaderValue::from_static(value));
            let headers = values.map(|value| (CONTENT_ENCODING, value)).collect();
            assert_eq!(is_encoded(&headers), is, "{headers:?}");
        }
    }

    #[test]
    fn event_streams_are_known_by_their_type() {
        for (kind, is) in [
            ("text/event-stream", true),
            ("Text/Event-Stream; charset=utf-8", true),
            ("text/event-streams", false),
            ("application/json", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            assert_eq!(is_event_stream(&headers), is, "{kind}");
        }
    }
}
