//! The `Basic` scheme of the `Authorization` header (RFC 7617), and the callers that prove themselves by it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::constant_time;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, header};
use mcpauth_wire::{Secret, principal};

use crate::http::error::HttpError;
use crate::keys::digest::{Digest, sha256};
use crate::oauth::params::form_decode;

/// Callers by their ids. `Debug` shows neither these nor their secrets.
#[derive(Default)]
pub struct BasicCallers(HashMap<String, Caller>);

struct Caller {
    principal: Arc<str>,
    /// The hash of its secret.
    secret: Digest,
}

impl fmt::Debug for BasicCallers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BasicCallers({})", self.0.len())
    }
}

impl FromIterator<(String, Secret)> for BasicCallers {
    fn from_iter<I: IntoIterator<Item = (String, Secret)>>(callers: I) -> Self {
        let callers = callers.into_iter().map(|(id, secret)| {
            let caller = Caller {
                principal: principal::credential(&id).into(),
                secret: sha256(secret.reveal()),
            };
            (id, caller)
        });
        Self(callers.collect())
    }
}

impl BasicCallers {
    /// The principal `credential:ID`, if the secret is the one of this id. The two are taken as they are (RFC 7617), or
    /// form-encoded as OAuth clients send them (OAuth 2.1, section 2.4.1).
    pub fn principal(&self, id: &str, secret: &str) -> Option<Arc<str>> {
        let decoded = || {
            let id = form_decode(id.as_bytes()).ok()?;
            let secret = form_decode(secret.as_bytes()).ok()?;
            self.verify(&id, &secret)
        };
        self.verify(id, secret).or_else(decoded)
    }

    /// The principal with this id, whoever sends it.
    pub fn named(&self, id: &str) -> Option<&str> {
        self.0.get(id).map(|caller| &*caller.principal)
    }

    fn verify(&self, id: &str, secret: &str) -> Option<Arc<str>> {
        let caller = self.0.get(id);
        // For an unknown id the comparison is made with a value that no secret has.
        let expected = caller.map_or(Digest::default(), |caller| caller.secret);
        let presented = sha256(secret);
        constant_time::verify_slices_are_equal(&expected, &presented).ok()?;
        caller.map(|caller| Arc::clone(&caller.principal))
    }
}

/// The only `Authorization` header.
///
/// # Errors
/// 401 when there is none, or more than one.
pub(super) fn authorization(headers: &HeaderMap) -> Result<&str, HttpError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    match (values.next(), values.next()) {
        (None, _) => Err(HttpError::Unauthenticated(
            "the Authorization header is missing",
        )),
        (Some(value), None) => Ok(value.to_str().unwrap_or_default()),
        (Some(_), Some(_)) => Err(HttpError::Unauthenticated(
            "there is more than one Authorization header",
        )),
    }
}

/// User name and password, as they were sent.
pub(super) struct Sent {
    text: String,
    colon: usize,
}

impl Sent {
    pub(super) fn user(&self) -> &str {
        &self.text[..self.colon]
    }

    pub(super) fn password(&self) -> &str {
        &self.text[self.colon + 1..]
    }
}

/// What a header of this scheme has.
pub(super) fn parse(header: &str) -> Option<Sent> {
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let colon = text.find(':')?;
    Some(Sent { text, colon })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_taken_as_it_is_and_form_encoded() {
        let callers = BasicCallers::from_iter([("a:b".to_owned(), Secret::new("s+/="))]);
        let known = Some("credential:a:b".into());
        assert_eq!(callers.principal("a:b", "s+/="), known);
        assert_eq!(callers.principal("a%3Ab", "s%2B%2F%3D"), known);
        for (id, secret) in [("a:b", "s /="), ("a:b", "s%252B%252F%253D"), ("a", "s+/=")] {
            assert_eq!(callers.principal(id, secret), None, "{id} {secret}");
        }
        // A hash would be enough to guess a weak secret.
        assert_eq!(format!("{callers:?}"), "BasicCallers(1)");
    }
}
