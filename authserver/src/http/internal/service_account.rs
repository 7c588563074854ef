//! Validation of ServiceAccount tokens (pure).

use std::sync::Arc;

use jsonwebtoken::jwk::JwkSet;
use mcpauth_service::clock::UnixTime;
use serde::Deserialize;

use crate::keys::jws;

/// Maximum lifetime of a token, in seconds: the 600 that callers request, and what the API server may add. This is
/// also how long a token remains valid after its pod is deleted.
const MAX_LIFETIME: i64 = 660;
/// How far the clocks of the API server and this server may differ, in seconds.
const SKEW: i64 = 30;
/// What the names of ServiceAccounts begin with.
const PREFIX: &str = "system:serviceaccount:";

/// The issuer of a cluster's ServiceAccount tokens, and its keys.
#[derive(Clone, Debug)]
pub struct ClusterKeys {
    /// The expected `iss`, compared byte for byte.
    pub issuer: String,
    /// The public keys.
    pub keys: JwkSet,
}

/// The claims of a valid token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccountToken {
    /// `system:serviceaccount:NAMESPACE:NAME`.
    pub principal: Arc<str>,
    /// When it ends.
    pub expires: UnixTime,
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Not a JWT with an accepted signature algorithm.
    NotAToken,
    /// Signed by a key that is not in the set.
    UnknownKey,
    /// The signature does not match the key that the token names.
    Signature,
    /// The issuer is not the cluster's, the subject is not a ServiceAccount, or claims are missing.
    Issuer,
    /// This server is not the only audience.
    Audience,
    /// Expired, or not yet valid.
    Time,
    /// Valid for too long.
    Lifetime,
}

impl Refused {
    /// The error, for the caller.
    pub const fn text(self) -> &'static str {
        match self {
            Self::NotAToken => "the bearer token is not a ServiceAccount token",
            Self::UnknownKey => {
                "the ServiceAccount token is signed by an unknown key: is it from another cluster?"
            }
            Self::Signature => "the signature of the ServiceAccount token is invalid",
            Self::Issuer => "the token was not issued to a ServiceAccount of this cluster",
            Self::Audience => {
                "this authorization server must be the only audience of the ServiceAccount token"
            }
            Self::Time => "the ServiceAccount token has expired or is not yet valid",
            Self::Lifetime => {
                "the ServiceAccount token is valid for too long: request it with expirationSeconds: 600"
            }
        }
    }
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Vec<String>,
    exp: i64,
    iat: i64,
    nbf: Option<i64>,
}

/// Verifies a token that is to be for `audience`.
///
/// # Errors
/// The first rule that it breaks.
pub fn verify(
    token: &str,
    cluster: &ClusterKeys,
    audience: &str,
    now: UnixTime,
) -> Result<ServiceAccountToken, Refused> {
    let header = jws::header(token).ok_or(Refused::NotAToken)?;
    // Kubernetes always names the key.
    let kid = header.kid.as_deref().ok_or(Refused::NotAToken)?;
    let key = cluster.keys.find(kid).ok_or(Refused::UnknownKey)?;
    let claims = jws::claims(token, &header, [key.clone()]).ok_or(Refused::Signature)?;
    let claims: Claims = serde_json::from_value(claims).map_err(|_| Refused::Issuer)?;
    if claims.iss != cluster.issuer || !is_service_account(&claims.sub) {
        return Err(Refused::Issuer);
    }
    // With several audiences, each of them could use the token at the others.
    if claims.aud != [audience] {
        return Err(Refused::Audience);
    }
    if claims.exp.saturating_sub(claims.iat) > MAX_LIFETIME {
        return Err(Refused::Lifetime);
    }
    let now = now.as_seconds();
    let begin = claims.nbf.unwrap_or(claims.iat).max(claims.iat);
    if claims.exp <= now || begin > now + SKEW {
        return Err(Refused::Time);
    }
    Ok(ServiceAccountToken {
        principal: claims.sub.into(),
        expires: UnixTime::from_seconds(claims.exp),
    })
}

/// Only ServiceAccounts: an administrator chooses the names of other users, and one could look like `credential:ID`.
fn is_service_account(sub: &str) -> bool {
    let parts = sub
        .strip_prefix(PREFIX)
        .and_then(|name| name.split_once(':'));
    parts.is_some_and(|(namespace, name)| {
        !namespace.is_empty() && !name.is_empty() && !name.contains(':')
    })
}

#[cfg(test)]
pub mod tests {
    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
    use serde_json::{Value, json};

    use super::*;
    use crate::keys::signing_key::SigningKey;
    use mcpauth_wire::authserver_config::SigningAlgorithm;

    pub const ISSUER: &str = "https://kubernetes.default.svc";
    pub const AUDIENCE: &str = "http://auth-authserver-internal.default.svc:8081";
    const NOTES: &str = "system:serviceaccount:default:notes";
    const NOW: UnixTime = UnixTime::from_seconds(1_800_000_000);

    /// A cluster that signs tokens.
    pub struct Signer(SigningKey);

    impl Signer {
        pub fn new() -> Self {
            Self(SigningKey::generate(SigningAlgorithm::Es256).unwrap())
        }

        pub fn jwk(&self) -> Value {
            self.0.public_jwk()
        }

        pub fn keys(&self) -> ClusterKeys {
            ClusterKeys {
                issuer: ISSUER.into(),
                keys: serde_json::from_value(json!({ "keys": [self.jwk()] })).unwrap(),
            }
        }

        pub fn sign(&self, claims: &Value) -> String {
            let header = Header {
                kid: Some(self.0.key_id().to_owned()),
                ..Header::new(Algorithm::ES256)
            };
            self.sign_with(&header, claims)
        }

        fn sign_with(&self, header: &Header, claims: &Value) -> String {
            encode(
                header,
                claims,
                &EncodingKey::from_ec_der(self.0.pkcs8_der()),
            )
            .unwrap()
        }

        /// A good token of the ServiceAccount `notes`, issued at `now`.
        pub fn token(&self, now: UnixTime) -> String {
            self.sign(&claims(now))
        }
    }

    fn claims(now: UnixTime) -> Value {
        let now = now.as_seconds();
        json!({
            "iss": ISSUER, "sub": NOTES, "aud": [AUDIENCE], "iat": now, "nbf": now, "exp": now + 600,
            "kubernetes.io": { "namespace": "default", "serviceaccount": { "name": "notes" } },
        })
    }

    #[test]
    fn a_good_token_names_its_service_account() {
        let signer = Signer::new();
        let good = verify(&signer.token(NOW), &signer.keys(), AUDIENCE, NOW);
        let expected = ServiceAccountToken {
            principal: NOTES.into(),
            expires: UnixTime::from_seconds(NOW.as_seconds() + 600),
        };
        assert_eq!(good, Ok(expected));
    }

    #[test]
    fn a_token_that_breaks_a_rule_is_refused() {
        let signer = Signer::new();
        let now = NOW.as_seconds();
        for (claim, value, refused) in [
            ("aud", json!([ISSUER]), Refused::Audience),
            ("aud", json!([AUDIENCE, ISSUER]), Refused::Audience),
            ("aud", json!([format!("{AUDIENCE}/")]), Refused::Audience),
            ("aud", json!([]), Refused::Audience),
            ("aud", json!(AUDIENCE), Refused::Issuer),
            ("iss", json!(format!("{ISSUER}/")), Refused::Issuer),
            ("iss", json!("https://other.example"), Refused::Issuer),
            ("sub", json!("system:admin"), Refused::Issuer),
            ("sub", json!("credential:operator"), Refused::Issuer),
            (
                "sub",
                json!("system:serviceaccount:default"),
                Refused::Issuer,
            ),
            ("sub", json!("system:serviceaccount:a:b:c"), Refused::Issuer),
            ("sub", json!("system:serviceaccount::x"), Refused::Issuer),
            ("exp", json!(now), Refused::Time),
            ("exp", json!(now + 661), Refused::Lifetime),
            ("exp", Value::Null, Refused::Issuer),
            ("iat", json!(now - 61), Refused::Lifetime),
            ("iat", Value::Null, Refused::Issuer),
            ("nbf", json!(now + 31), Refused::Time),
        ] {
            let mut claims = claims(NOW);
            claims[claim] = value.clone();
            let token = signer.sign(&claims);
            let answer = verify(&token, &signer.keys(), AUDIENCE, NOW);
            assert_eq!(answer, Err(refused), "{claim}: {value}");
        }
        let mut longest = claims(NOW);
        longest["exp"] = json!(now + 660);
        longest["nbf"] = json!(now + 30);
        let token = signer.sign(&longest);
        assert!(verify(&token, &signer.keys(), AUDIENCE, NOW).is_ok());
        // A clock that runs ahead of ours.
        let ahead = signer.token(UnixTime::from_seconds(now + 30));
        assert!(verify(&ahead, &signer.keys(), AUDIENCE, NOW).is_ok());
        let too_far = signer.token(UnixTime::from_seconds(now + 31));
        let answer = verify(&too_far, &signer.keys(), AUDIENCE, NOW);
        assert_eq!(answer, Err(Refused::Time));
    }

    #[test]
    fn only_the_clusters_keys_sign() {
        let (signer, stranger) = (Signer::new(), Signer::new());
        let check = |token: &str| verify(token, &signer.keys(), AUDIENCE, NOW).unwrap_err();
        assert_eq!(check(&stranger.token(NOW)), Refused::UnknownKey);
        let mut header = Header::new(Algorithm::ES256);
        assert_eq!(
            check(&signer.sign_with(&header, &claims(NOW))),
            Refused::NotAToken,
            "without a kid"
        );
        header.kid = Some(signer.0.key_id().to_owned());
        let forged = stranger.sign_with(&header, &claims(NOW));
        assert_eq!(check(&forged), Refused::Signature);
        let mut changed = signer.token(NOW);
        changed.pop();
        assert_ne!(check(&changed), Refused::NotAToken);

        let mut hmac = Header::new(Algorithm::HS256);
        hmac.kid.clone_from(&header.kid);
        let key = EncodingKey::from_secret(signer.jwk().to_string().as_bytes());
        let by_hmac = encode(&hmac, &claims(NOW), &key).unwrap();
        assert_eq!(check(&by_hmac), Refused::NotAToken);
        let payload = signer.token(NOW);
        let payload = payload.split('.').nth(1).unwrap();
        for junk in ["", "x", "a.b.c", &format!("eyJhbGciOiJub25lIn0.{payload}.")] {
            assert_eq!(check(junk), Refused::NotAToken, "{junk}");
        }
    }
}
