//! `private_key_jwt` (RFC 7523, sections 2.2 and 3): the rules for a client's assertion.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::Jwk;
use mcpauth_wire::Issuer;
use mcpauth_wire::client::{self, AssertionAudience};
use mcpauth_wire::introspection::OneOrMany;
use serde::Deserialize;
use serde_json::Value;

use mcpauth_service::clock::UnixTime;

use crate::keys::jws;

/// How far ahead `exp` may lie, in seconds: for so long a `jti` must be remembered.
pub const MAX_LIFETIME: i64 = 300;
/// How far the clocks of client and server, or of two replicas, may differ, in seconds.
pub const SKEW: i64 = 30;
/// The names of the accepted algorithms, for the metadata.
pub fn algorithm_names() -> Vec<String> {
    jws::ALGORITHMS
        .iter()
        .map(|alg| format!("{alg:?}"))
        .collect()
}

/// The claims that matter afterwards.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct Claims {
    iss: String,
    sub: String,
    aud: OneOrMany,
    /// When it ends.
    pub exp: i64,
    nbf: Option<i64>,
    iat: Option<i64>,
    /// Its identifier, to be used once.
    pub jti: String,
}

/// Why an assertion is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssertionError {
    /// Not a JWT, or signed by an algorithm that is not accepted.
    #[error("not a JWT signed by an accepted algorithm")]
    Header,
    /// No registered key made the signature.
    #[error("not signed by a registered key")]
    Signature,
    /// `iss` or `sub` is not the client.
    #[error("iss and sub must be the client_id")]
    Client,
    /// `aud` is not this server alone.
    #[error("aud must be the issuer, and nothing else")]
    Audience,
    /// Expired, not yet valid, or valid for too long.
    #[error("exp must be at most 300 seconds ahead")]
    Time,
    /// No `jti`, or too long a one.
    #[error("jti must be 1-256 characters")]
    Id,
}

/// What `aud` may be.
#[derive(Clone, Copy, Debug)]
pub struct Audience<'a> {
    /// This server's issuer. One trailing slash more is accepted: some URL types add it.
    pub issuer: &'a Issuer,
    /// Who else the client may mean.
    pub accepted: AssertionAudience,
}

impl Audience<'_> {
    /// With several audiences, each of those servers could use the assertion at the others.
    fn is(self, aud: &OneOrMany) -> bool {
        let [aud] = aud.as_slice() else {
            return false;
        };
        let issuer = self.issuer.as_str();
        let old =
            self.accepted == AssertionAudience::TokenEndpoint && *aud == self.issuer.url("/token");
        aud.strip_suffix('/').unwrap_or(aud) == issuer || old
    }
}

/// Verifies an assertion but for its single use.
///
/// Keys come from the registration alone. The audience is the issuer and not the token endpoint's URL, unless the client's
/// declaration says so: another server could have told the client that our endpoint is its own.
///
/// # Errors
/// The first rule that it violates.
pub fn verify(
    jwt: &str,
    jwks: Option<&Value>,
    client_id: &str,
    audience: Audience<'_>,
    now: UnixTime,
) -> Result<Claims, AssertionError> {
    let header = jws::header(jwt).ok_or(AssertionError::Header)?;
    let claims = jws::claims(jwt, &header, keys(jwks)).ok_or(AssertionError::Signature)?;
    let claims: Claims = serde_json::from_value(claims).map_err(|_| AssertionError::Audience)?;
    if claims.iss != client_id || claims.sub != client_id {
        return Err(AssertionError::Client);
    }
    if !audience.is(&claims.aud) {
        return Err(AssertionError::Audience);
    }
    let now = now.as_seconds();
    let too_early = |time: Option<i64>| time.is_some_and(|time| time > now + SKEW);
    if claims.exp <= now
        || claims.exp > now + MAX_LIFETIME + SKEW
        || too_early(claims.nbf)
        || too_early(claims.iat)
    {
        return Err(AssertionError::Time);
    }
    if claims.jti.is_empty() || claims.jti.len() > 256 {
        return Err(AssertionError::Id);
    }
    Ok(claims)
}

/// The keys of a set that can be read; those of other types are skipped (RFC 7517, section 5), and those that an older
/// version registered without a bound.
fn keys(jwks: Option<&Value>) -> impl Iterator<Item = Jwk> {
    let keys = jwks.and_then(|jwks| jwks.get("keys")?.as_array());
    keys.into_iter()
        .flatten()
        .take(client::KEY_COUNT.most as usize)
        .filter(|key| client::is_affordable(key))
        .filter_map(|key| serde_json::from_value(key.clone()).ok())
}

/// The `sub` that an assertion claims, unverified: to know whose keys to look for.
pub fn claimed_client(jwt: &str) -> Option<String> {
    let payload = jwt.split('.').nth(1)?;
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    claims.get("sub")?.as_str().map(str::to_owned)
}

/// Whether a JWK set can be registered: public keys of accepted types that can verify a signature.
///
/// # Errors
/// What would be right.
pub fn check_jwks(jwks: &Value) -> Result<(), String> {
    client::check_jwks(jwks)?;
    let keys = jwks["keys"].as_array().into_iter().flatten();
    for (index, key) in keys.enumerate() {
        let parsed: Result<Jwk, _> = serde_json::from_value(key.clone());
        if !parsed.is_ok_and(|key| DecodingKey::from_jwk(&key).is_ok()) {
            return Err(format!("keys[{index}]: {}", client::EXPECTED_KEYS));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
