//! The keys that sign ID tokens: ECDSA on P-256 (ES256), and RSA of 2048 bits (RS256). The store keeps them sealed under
//! the pepper.

use std::fmt;

use aws_lc_rs::digest;
use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
    RsaPublicKeyComponents,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mcpauth_wire::authserver_config::SigningAlgorithm;
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
    #[error("the stored signing key is not a private {} key in PKCS#8", .0.as_str())]
    Invalid(SigningAlgorithm),
    /// It does not sign.
    #[error("cannot sign")]
    Signing,
}

/// A signing key with its identifier. `Debug` shows only that.
pub struct SigningKey {
    key_id: String,
    public_jwk: Value,
    pkcs8: Vec<u8>,
    pair: Pair,
}

enum Pair {
    Ec(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl SigningKey {
    /// A new key. An RSA key takes long: not on a thread that others wait for.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn generate(algorithm: SigningAlgorithm) -> Result<Self, SigningKeyError> {
        let failed = |_| SigningKeyError::Generation;
        let pkcs8: Vec<u8> = match algorithm {
            SigningAlgorithm::Es256 => {
                let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
                let pkcs8 = pair.and_then(|pair| pair.to_pkcs8v1());
                pkcs8.map_err(failed)?.as_ref().to_vec()
            }
            SigningAlgorithm::Rs256 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(failed)?;
                let pkcs8: Pkcs8V1Der<'_> = pair.as_der().map_err(failed)?;
                pkcs8.as_ref().to_vec()
            }
        };
        Self::from_pkcs8(algorithm, pkcs8)
    }

    fn from_pkcs8(algorithm: SigningAlgorithm, pkcs8: Vec<u8>) -> Result<Self, SigningKeyError> {
        let invalid = || SigningKeyError::Invalid(algorithm);
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (pair, required) = match algorithm {
            SigningAlgorithm::Es256 => {
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8)
                    .map_err(|_| invalid())?;
                // Uncompressed point: 0x04, x, y.
                let point = pair.public_key().as_ref();
                let (Some(x), Some(y)) = (point.get(1..33), point.get(33..65)) else {
                    return Err(invalid());
                };
                let required = [
                    ("crv", "P-256".into()),
                    ("kty", "EC".into()),
                    ("x", encode(x)),
                    ("y", encode(y)),
                ];
                (Pair::Ec(pair), required.to_vec())
            }
            SigningAlgorithm::Rs256 => {
                let pair = RsaKeyPair::from_pkcs8(&pkcs8).map_err(|_| invalid())?;
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                let required = [
                    ("e", encode(&public.e)),
                    ("kty", "RSA".into()),
                    ("n", encode(&public.n)),
                ];
                (Pair::Rsa(pair), required.to_vec())
            }
        };
        let key_id = thumbprint(&required);
        let mut public_jwk = json!({ "kid": key_id, "use": "sig", "alg": algorithm.as_str() });
        for (name, value) in required {
            public_jwk[name] = value.into();
        }
        Ok(Self {
            key_id,
            public_jwk,
            pkcs8,
            pair,
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
    pub fn open(
        algorithm: SigningAlgorithm,
        pepper: &Pepper,
        sealed: &[u8],
    ) -> Result<Self, SigningKeyError> {
        Self::from_pkcs8(algorithm, pepper.open(PURPOSE, sealed)?)
    }

    /// Its algorithm.
    pub fn algorithm(&self) -> SigningAlgorithm {
        match self.pair {
            Pair::Ec(_) => SigningAlgorithm::Es256,
            Pair::Rsa(_) => SigningAlgorithm::Rs256,
        }
    }

    /// `kid`: the key's thumbprint (RFC 7638).
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The private key as PKCS#8 DER.
    pub fn pkcs8_der(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The public key for the JWK set (RFC 7517).
    pub fn public_jwk(&self) -> Value {
        self.public_jwk.clone()
    }

    /// A JWT with these claims (RFC 7519), in the compact form.
    ///
    /// # Errors
    /// When the library does not sign.
    pub fn sign(&self, typ: &str, claims: &Value) -> Result<String, SigningKeyError> {
        let header = json!({ "typ": typ, "alg": self.algorithm().as_str(), "kid": self.key_id });
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let message = format!("{}.{}", encode(&header), encode(claims));
        let (random, bytes) = (SystemRandom::new(), message.as_bytes());
        let signature = match &self.pair {
            Pair::Ec(pair) => pair.sign(&random, bytes).map(|made| made.as_ref().to_vec()),
            Pair::Rsa(pair) => {
                let mut made = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, bytes, &mut made)
                    .map(|()| made)
            }
        };
        let signature = signature.map_err(|_| SigningKeyError::Signing)?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.key_id)
    }
}

/// RFC 7638, section 3: SHA-256 over the required members, which are in order, without spaces.
fn thumbprint(required: &[(&str, String)]) -> String {
    let members: Vec<_> = required
        .iter()
        .map(|(name, value)| format!(r#""{name}":"{value}""#))
        .collect();
    let json = format!("{{{}}}", members.join(","));
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, json.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{Algorithm, DecodingKey, Validation};

    fn pepper(line: &str) -> Pepper {
        Pepper::parse(line).unwrap()
    }

    #[test]
    fn survives_the_store_and_its_public_half_verifies_what_it_signs() {
        let pepper = pepper("1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=");
        for algorithm in SigningAlgorithm::ALL {
            let made = SigningKey::generate(algorithm).unwrap();
            let sealed = made.seal(&pepper, [5; 12]).unwrap();
            let key = SigningKey::open(algorithm, &pepper, &sealed).unwrap();
            assert_eq!(key.public_jwk(), made.public_jwk());
            assert_eq!(key.algorithm(), algorithm);

            let claims = json!({ "sub": "alice", "exp": 4_000_000_000_u64 });
            let token = key.sign("JWT", &claims).unwrap();
            let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(key.public_jwk()).unwrap();
            let algorithm: Algorithm = algorithm.as_str().parse().unwrap();
            let decoded = jsonwebtoken::decode::<Value>(
                &token,
                &DecodingKey::from_jwk(&jwk).unwrap(),
                &Validation::new(algorithm),
            )
            .unwrap();
            assert_eq!(decoded.claims["sub"], "alice");
            assert_eq!(decoded.header.kid.as_deref(), Some(key.key_id()));
            assert_eq!(decoded.header.typ.as_deref(), Some("JWT"));
            let thumbprint = jwk.thumbprint(jsonwebtoken::jwk::ThumbprintHash::SHA256);
            assert_eq!(key.key_id(), thumbprint.unwrap());
        }
    }

    #[test]
    fn a_key_of_another_algorithm_is_none() {
        let pepper = pepper("1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=");
        let key = SigningKey::generate(SigningAlgorithm::Es256).unwrap();
        let sealed = key.seal(&pepper, [5; 12]).unwrap();
        let error = SigningKey::open(SigningAlgorithm::Rs256, &pepper, &sealed).unwrap_err();
        assert!(matches!(error, SigningKeyError::Invalid(_)), "{error}");
    }

    #[test]
    fn the_bytes_in_the_store_do_not_open_under_another_pepper() {
        let right = pepper("1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=");
        let wrong = pepper("1:AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=");
        let algorithm = SigningAlgorithm::Es256;
        let key = SigningKey::generate(algorithm).unwrap();
        let sealed = key.seal(&right, [5; 12]).unwrap();
        assert!(matches!(
            SigningKey::open(algorithm, &wrong, &sealed),
            Err(SigningKeyError::Sealed(_))
        ));
        let secret = &key.pkcs8_der()[36..68];
        assert!(!sealed.windows(32).any(|window| window == secret));
        assert_eq!(format!("{key:?}"), format!("SigningKey({})", key.key_id()));
    }
}
