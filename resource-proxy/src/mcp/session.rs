//! Sessions of the MCP server, bound to the caller that opened them.
//!
//! The id that a client gets is the server's id with a MAC appended, over client, subject and id:
//! `ID.base64url(HMAC-SHA-256)`. So the proxy keeps no state, a flood of sessions cannot evict those
//! of others, and a session never belongs to the first caller that presents its id.
//!
//! Replicas share the key. Where it is replaced, sessions under the previous one go on. Under any other the client gets
//! 404, which tells it to open a new session.

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use mcpauth_wire::proxy_keys::ProxyKeys;

use crate::auth::identity::Identity;
use crate::keys::subkeys;

/// Binds session ids.
#[derive(Debug)]
pub struct Sessions {
    /// The current one first.
    keys: Vec<hmac::Key>,
    /// The current one of those for fingerprints.
    fingerprints: Option<hmac::Key>,
}

/// A keyed hash of a session's id: the same in every replica, and no way back to the id.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 16]);

impl Fingerprint {
    /// In hexadecimal.
    pub fn as_str(&self) -> &str {
        // It consists of digits.
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Sessions {
    /// With these keys.
    pub fn new(keys: &ProxyKeys) -> Self {
        let of = |purpose| {
            let keys = subkeys(keys, purpose).into_iter();
            keys.map(|key| hmac::Key::new(hmac::HMAC_SHA256, &key))
        };
        Self {
            keys: of("sessions").collect(),
            fingerprints: of("session fingerprints").next(),
        }
    }

    /// What the audit calls the session with the server's `id`.
    pub fn fingerprint(&self, id: &[u8]) -> Option<Fingerprint> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let tag = hmac::sign(self.fingerprints.as_ref()?, id);
        let mut text = [0; 16];
        for (two, byte) in text.chunks_exact_mut(2).zip(tag.as_ref()) {
            two[0] = DIGITS[usize::from(byte >> 4)];
            two[1] = DIGITS[usize::from(byte & 15)];
        }
        Some(Fingerprint(text))
    }

    /// What the client gets for the server's `id`.
    pub fn bind(&self, id: &str, owner: &Identity) -> Option<String> {
        let tag = hmac::sign(self.keys.first()?, &bound(id, owner));
        Some(format!("{id}.{}", URL_SAFE_NO_PAD.encode(tag)))
    }

    /// The server's id in what the client sent, if it is this client's and this subject's.
    pub fn unbind<'a>(&self, sent: &'a str, owner: &Identity) -> Option<&'a str> {
        let (id, tag) = sent.rsplit_once('.')?;
        let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
        let bound = bound(id, owner);
        let is_bound = |key| hmac::verify(key, &bound, &tag).is_ok();
        self.keys.iter().any(is_bound).then_some(id)
    }
}

/// What the MAC covers. Lengths keep the parts apart.
fn bound(id: &str, owner: &Identity) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in [&owner.client_id, &owner.subject, id] {
        bytes.extend((part.len() as u64).to_be_bytes());
        bytes.extend(part.as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(key: u8) -> Sessions {
        Sessions::new(&ProxyKeys::new([key; 32]))
    }

    fn identity(client_id: &str, subject: &str) -> Identity {
        Identity {
            client_id: client_id.into(),
            subject: subject.into(),
            scopes: vec![],
            grantable: vec![],
        }
    }

    #[test]
    fn only_its_owner_can_use_a_session() {
        let sessions = with(7);
        let owner = identity("client", "alice");
        for id in ["abc", "a.b.c", "", "="] {
            let bound = sessions.bind(id, &owner).unwrap();
            assert_eq!(sessions.unbind(&bound, &owner), Some(id));
            for other in [
                identity("client", "bob"),
                identity("other", "alice"),
                identity("clien", "talice"),
                identity("clientalice", ""),
            ] {
                assert_eq!(sessions.unbind(&bound, &other), None);
            }
            let other_key = with(8);
            assert_eq!(other_key.unbind(&bound, &owner), None);
        }
    }

    #[test]
    fn a_fingerprint_depends_on_the_key_and_the_id() {
        let of = |key, id: &[u8]| with(key).fingerprint(id).unwrap();
        assert_eq!(of(7, b"abc"), of(7, b"abc"));
        assert_ne!(of(7, b"abc"), of(7, b"abd"));
        assert_ne!(of(7, b"abc"), of(8, b"abc"));
        let text = of(7, b"abc");
        assert_eq!(text.as_str().len(), 16);
        assert!(text.as_str().bytes().all(|byte| byte.is_ascii_hexdigit()));
    }

    #[test]
    fn an_id_that_was_made_up_is_not_taken() {
        let sessions = with(7);
        let owner = identity("client", "alice");
        let bound = sessions.bind("abc", &owner).unwrap();
        let cut = &bound[..bound.len() - 1];
        for made_up in [
            "",
            "abc",
            "abc.",
            ".",
            "abc.AAAA",
            cut,
            &format!("x{bound}"),
        ] {
            assert_eq!(sessions.unbind(made_up, &owner), None, "{made_up}");
        }
    }
}
