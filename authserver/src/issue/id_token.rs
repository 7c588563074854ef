//! ID tokens (OpenID Connect Core, section 2), for clients that asked for the scope `openid`.

use mcpauth_service::clock::UnixTime;
use serde_json::json;

use super::Issued;
use crate::keys::signing_key::{SigningKey, SigningKeyError};

/// The scope that asks for one.
const SCOPE: &str = "openid";

/// Whether an ID token goes with what was issued.
pub fn is_requested(issued: &Issued) -> bool {
    issued.scopes.contains(SCOPE)
}

/// The ID token that goes with an access token. It ends with the access token.
///
/// # Errors
/// When signing fails.
pub fn sign(
    key: &SigningKey,
    issuer: &str,
    issued: &Issued,
    now: UnixTime,
) -> Result<String, SigningKeyError> {
    let mut claims = json!({
        "iss": issuer,
        "sub": issued.grant.subject,
        "aud": issued.grant.client_id,
        "iat": now.as_seconds(),
        "exp": issued.access.expires_at.as_seconds(),
    });
    if let Some(nonce) = &issued.nonce {
        claims["nonce"] = nonce.as_str().into();
    }
    if let Some(at) = issued.grant.authenticated_at {
        claims["auth_time"] = at.as_seconds().into();
    }
    key.sign("JWT", &claims)
}
