//! Proof Key for Code Exchange (RFC 7636), of which only S256 is accepted (OAuth 2.1, section 4.1.1).
//! The other half, the verifier, is checked where the code is redeemed: `code.rs`.

/// What is wrong with the PKCE parameters of an authorization request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PkceError {
    /// There is none.
    #[error("code_challenge is missing; PKCE with S256 is required")]
    Missing,
    /// `plain`, or left out, which means `plain`.
    #[error("code_challenge_method must be S256")]
    Method,
    /// Not the base64url of a SHA-256.
    #[error("code_challenge must be 43 characters of base64url")]
    Malformed,
}

/// Checks `code_challenge` and `code_challenge_method`; answers the challenge.
///
/// # Errors
/// When the challenge is missing, not S256 or not of its form.
pub fn challenge<'a>(
    challenge: Option<&'a str>,
    method: Option<&str>,
) -> Result<&'a str, PkceError> {
    let challenge = challenge.ok_or(PkceError::Missing)?;
    if method != Some("S256") {
        return Err(PkceError::Method);
    }
    let base64url = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if challenge.len() != 43 || !challenge.bytes().all(base64url) {
        return Err(PkceError::Malformed);
    }
    Ok(challenge)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    #[test]
    fn only_s256_with_43_characters() {
        let s256 = Some("S256");
        assert_eq!(challenge(Some(CHALLENGE), s256), Ok(CHALLENGE));
        assert_eq!(challenge(None, None), Err(PkceError::Missing));
        assert_eq!(challenge(Some(CHALLENGE), None), Err(PkceError::Method));
        assert_eq!(
            challenge(Some(CHALLENGE), Some("plain")),
            Err(PkceError::Method)
        );
        assert_eq!(
            challenge(Some(CHALLENGE), Some("s256")),
            Err(PkceError::Method)
        );
        for wrong in [
            &CHALLENGE[1..],
            &format!("{CHALLENGE}a"),
            &CHALLENGE.replace('-', "+"),
        ] {
            assert_eq!(challenge(Some(wrong), s256), Err(PkceError::Malformed));
        }
    }
}
