//! The key that signs ID tokens: ECDSA on P-256 (ES256). The store keeps it sealed under the pepper.

use std::fmt;

use aws_lc_rs::digest;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::keys::pepper::{CannotOpen, Pepper};

const PURPOSE: &str = "signing key";

/// What can be wrong with a signing key.
#[derive(Debug, thiserror::Error)]
pub enum SigningKeyError {
    /// No randomness, or a cipher that does not work.
    #[error("cannot generate a signing key")]
    Generation,
    /// The pepper it was sealed under is gone.
    #[error("the stored signing key was {0}")]
    Sealed(#[from] CannotOpen),
    /// It is something else.
    #[error("the stored signing key is not a P-256 key in PKCS#8")]
    Invalid,
}

/// A signing key with its identifier. `Debug` shows only that.
pub struct SigningKey {
    key_id: String,
    x: String,
    y: String,
    pkcs8: Vec<u8>,
}

impl SigningKey {
    /// A new key.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn generate() -> Result<Self, SigningKeyError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .map_err(|_| SigningKeyError::Generation)?;
        let pkcs8 = pair.to_pkcs8v1().map_err(|_| SigningKeyError::Generation)?;
        Self::from_pkcs8(pkcs8.as_ref())
    }

    fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, SigningKeyError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8)
            .map_err(|_| SigningKeyError::Invalid)?;
        // Uncompressed point: 0x04, x, y.
        let point = pair.public_key().as_ref();
        let (Some(x), Some(y)) = (point.get(1..33), point.get(33..65)) else {
            return Err(SigningKeyError::Invalid);
        };
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        Ok(Self {
            key_id: thumbprint(&x, &y),
            x,
            y,
            pkcs8: pkcs8.to_vec(),
        })
    }

    /// The form that the store keeps. The nonce is 12 fresh random bytes.
    ///
    /// # Errors
    /// When the cipher fails.
    pub fn seal(&self, pepper: &Pepper, nonce: [u8; 12]) -> Result<Vec<u8>, SigningKeyError> {
        pepper
            .seal(PURPOSE, &self.pkcs8, nonce)
            .ok_or(SigningKeyError::Generation)
    }

    /// From the form that the store keeps.
    ///
    /// # Errors
    /// When the pepper is not the one it was sealed under.
    pub fn open(pepper: &Pepper, sealed: &[u8]) -> Result<Self, SigningKeyError> {
        Self::from_pkcs8(&pepper.open(PURPOSE, sealed)?)
    }

    /// `kid`: the key's thumbprint (RFC 7638).
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The private key as PKCS#8 DER, for the signer.
    pub fn pkcs8_der(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The public key for the JWK set (RFC 7517).
    pub fn public_jwk(&self) -> Value {
        json!({
            "kty": "EC", "crv": "P-256", "x": self.x, "y": self.y,
            "kid": self.key_id, "use": "sig", "alg": "ES256",
        })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.key_id)
    }
}

/// RFC 7638, section 3: SHA-256 over the required members in order, without spaces.
fn thumbprint(x: &str, y: &str) -> String {
    let members = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, members.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};

    fn pepper(line: &str) -> Pepper {
        Pepper::parse(line).unwrap()
    }

    #[test]
    fn survives_the_store_and_its_public_half_verifies_what_it_signs() {
        let pepper = pepper("1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=");
        let made = SigningKey::generate().unwrap();
        let sealed = made.seal(&pepper, [5; 12]).unwrap();
        let key = SigningKey::open(&pepper, &sealed).unwrap();
        assert_eq!(key.public_jwk(), made.public_jwk());

        let claims = json!({ "sub": "alice", "exp": 4_000_000_000_u64 });
        let token = jsonwebtoken::encode(
            &Header::new(Algorithm::ES256),
            &claims,
            &EncodingKey::from_ec_der(key.pkcs8_der()),
        )
        .unwrap();
        let jwk = serde_json::from_value(key.public_jwk()).unwrap();
        let decoded = jsonwebtoken::decode::<Value>(
            &token,
            &DecodingKey::from_jwk(&jwk).unwrap(),
            &Validation::new(Algorithm::ES256),
        )
        .unwrap();
        assert_eq!(decoded.claims["sub"], "alice");
    }

    #[test]
    fn the_bytes_in_the_store_do_not_open_under_another_pepper() {
        let right = pepper("1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=");
        let wrong = pepper("1:AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=");
        let key = SigningKey::generate().unwrap();
        let sealed = key.seal(&right, [5; 12]).unwrap();
        assert!(matches!(
            SigningKey::open(&wrong, &sealed),
            Err(SigningKeyError::Sealed(_))
        ));
        let secret = &key.pkcs8_der()[36..68];
        assert!(!sealed.windows(32).any(|window| window == secret));
        assert_eq!(format!("{key:?}"), format!("SigningKey({})", key.key_id()));
    }
}
