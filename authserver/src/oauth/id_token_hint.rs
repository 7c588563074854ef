//! `id_token_hint` (OpenID Connect Core, section 3.1.2.1): the user whom a client expects.

use jsonwebtoken::jwk::JwkSet;
use mcpauth_wire::Issuer;
use serde::Deserialize;
use serde_json::Value;

use crate::keys::jws;
use crate::oauth::error::OAuthError;

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
}

/// The subject of an ID token that this server issued to this client. It may have expired: clients keep one for as long as they
/// know its user.
///
/// # Errors
/// It is another token, or its key has been removed.
pub fn subject(
    jwt: &str,
    published: Value,
    issuer: &Issuer,
    client_id: &str,
) -> Result<String, OAuthError> {
    let claims = claims(jwt, published);
    let ours = claims.filter(|claims| claims.iss == issuer.as_str() && claims.aud == client_id);
    ours.map(|claims| claims.sub).ok_or_else(|| {
        let text = "id_token_hint is not an ID token that this server issued to this client, or too old; send a newer one, or none";
        OAuthError::InvalidRequest(text.into())
    })
}

fn claims(jwt: &str, published: Value) -> Option<Claims> {
    let header = jws::header(jwt)?;
    let keys: JwkSet = serde_json::from_value(published).ok()?;
    serde_json::from_value(jws::claims(jwt, &header, keys.keys)?).ok()
}
