//! Authorization codes: what is kept about one, and the rule for redeeming it (OAuth 2.1, section 4.1.3).

use std::fmt;

use aws_lc_rs::{constant_time, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mcpauth_service::clock::UnixTime;

use crate::keys::pepper::KeyedHash;
use crate::oauth::grant::{Grant, Refusal};

/// The code is invalidated after this many wrong verifiers.
pub const MAX_CODE_ATTEMPTS: i32 = 5;

/// A code about to be stored.
#[derive(Clone, Debug)]
pub struct NewCode {
    /// The code's hash.
    pub hash: KeyedHash,
    /// Where the authorization response went.
    pub redirect_uri: String,
    /// The S256 challenge (RFC 7636).
    pub code_challenge: String,
    /// `nonce` of an OpenID Connect authentication request.
    pub nonce: Option<String>,
    /// From this time on it is refused.
    pub expires_at: UnixTime,
}

/// A stored code.
#[derive(Clone, Debug)]
pub struct Code {
    /// As in the authorization request.
    pub redirect_uri: String,
    /// As in the authorization request.
    pub code_challenge: String,
    /// As in the authorization request.
    pub nonce: Option<String>,
    /// From this time on it is refused.
    pub expires_at: UnixTime,
    /// How many wrong verifiers were presented with it.
    pub attempts: i32,
    /// Whether it has been redeemed.
    pub used: bool,
}

/// What an authenticated client presents with a code. `Debug` does not show the verifier.
#[derive(Clone, Copy)]
pub struct CodeAttempt<'a> {
    /// The client that presents it.
    pub client_id: &'a str,
    /// `redirect_uri`: OAuth 2.1 leaves it out; where it is sent it must be the authorization's.
    pub redirect_uri: Option<&'a str>,
    /// `resource` (RFC 8707): where it is sent it must be the grant's.
    pub resource: Option<&'a str>,
    /// `code_verifier` (RFC 7636).
    pub code_verifier: &'a str,
}

impl fmt::Debug for CodeAttempt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CodeAttempt")
            .field("client_id", &self.client_id)
            .field("redirect_uri", &self.redirect_uri)
            .field("resource", &self.resource)
            .finish_non_exhaustive()
    }
}

/// The outcome of an attempt.
#[derive(Debug, PartialEq, Eq)]
pub enum CodeVerdict {
    /// Use it up and issue tokens.
    Accept,
    /// Refuse; nothing changes.
    Refuse(Refusal),
    /// Refuse and count the wrong verifier.
    Count,
    /// The client presents it a second time: refuse, and revoke the family.
    Revoke,
}

impl Code {
    /// Decides. A request from another client reveals and changes nothing, even if everything else is correct.
    pub fn redeem(&self, grant: &Grant, attempt: &CodeAttempt<'_>, now: UnixTime) -> CodeVerdict {
        use CodeVerdict::{Accept, Count, Refuse, Revoke};
        if attempt.client_id != grant.client_id {
            return Refuse(Refusal::AnotherClient);
        }
        if self.used {
            return Revoke;
        }
        if now >= self.expires_at {
            return Refuse(Refusal::Expired);
        }
        if self.attempts >= MAX_CODE_ATTEMPTS {
            return Refuse(Refusal::TooManyAttempts);
        }
        if attempt
            .redirect_uri
            .is_some_and(|uri| uri != self.redirect_uri)
        {
            return Refuse(Refusal::RedirectUri);
        }
        if attempt.resource.is_some_and(|uri| uri != grant.resource) {
            return Refuse(Refusal::Resource);
        }
        if !verifies(attempt.code_verifier, &self.code_challenge) {
            return Count;
        }
        Accept
    }
}

/// PKCE with S256 (RFC 7636, section 4.6): 43–128 unreserved characters whose SHA-256 is the challenge.
fn verifies(verifier: &str, challenge: &str) -> bool {
    let well_formed = (43..=128).contains(&verifier.len())
        && verifier
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
    let digest = digest::digest(&digest::SHA256, verifier.as_bytes());
    let expected = URL_SAFE_NO_PAD.encode(digest);
    well_formed
        && constant_time::verify_slices_are_equal(expected.as_bytes(), challenge.as_bytes()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 7636, appendix B.
    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    #[test]
    fn the_example_of_rfc_7636_verifies() {
        assert!(verifies(VERIFIER, CHALLENGE));
        assert!(!verifies(CHALLENGE, CHALLENGE), "plain is not S256");
        assert!(!verifies(VERIFIER, ""));
    }

    #[test]
    fn verifier_of_42_or_129_characters() {
        for length in [0, 42, 129] {
            let verifier = "a".repeat(length);
            let digest = digest::digest(&digest::SHA256, verifier.as_bytes());
            assert!(!verifies(&verifier, &URL_SAFE_NO_PAD.encode(digest)));
        }
        let odd = "ä".repeat(40);
        let digest = digest::digest(&digest::SHA256, odd.as_bytes());
        assert!(!verifies(&odd, &URL_SAFE_NO_PAD.encode(digest)));
    }
}
