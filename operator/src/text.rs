//! What goes into texts for people.

/// What the API server said, without what a person has no use for.
pub fn explain(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// At most `bytes` of `text`, not cut inside a character.
pub fn shorten(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}
