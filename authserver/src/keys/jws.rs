//! Verifies JWTs of others against their public keys (RFC 7515).

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode, decode_header};
use serde_json::Value;

/// Signatures by a private key; never `none`, never HMAC.
pub const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// The header of a JWT that can be accepted; none when its algorithm, or a header that must be understood,
/// cannot.
pub fn header(jwt: &str) -> Option<Header> {
    let header = decode_header(jwt).ok()?;
    (ALGORITHMS.contains(&header.alg) && header.crit.is_none()).then_some(header)
}

/// The claims of a JWT that one of the keys has signed; `header` is its own. `jku`, `jwk` and `x5c` of the
/// header are ignored, and `kid` only chooses among the keys. Times and audience are not looked at.
pub fn claims(jwt: &str, header: &Header, keys: impl IntoIterator<Item = Jwk>) -> Option<Value> {
    let mut fitting = keys
        .into_iter()
        .filter(|key| fits(key, header.kid.as_deref(), header.alg));
    fitting.find_map(|key| signed_by(jwt, &key, header.alg))
}

fn fits(key: &Jwk, kid: Option<&str>, algorithm: Algorithm) -> bool {
    let same_kid = kid.is_none() || key.common.key_id.as_deref() == kid;
    let registered = key.common.key_algorithm;
    let same_algorithm =
        registered.is_none_or(|known| Algorithm::try_from(known).ok() == Some(algorithm));
    same_kid && same_algorithm
}

fn signed_by(jwt: &str, key: &Jwk, algorithm: Algorithm) -> Option<Value> {
    // Time is checked against our clock, audience and the rest more strictly than the library does.
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    let key = DecodingKey::from_jwk(key).ok()?;
    Some(decode(jwt, &key, &validation).ok()?.claims)
}
