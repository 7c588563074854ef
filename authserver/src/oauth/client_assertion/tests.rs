use super::*;
use crate::keys::signing_key::SigningKey;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use mcpauth_wire::authserver_config::SigningAlgorithm;
use serde_json::json;

const ISSUER: &str = "https://auth.example";
const NOW: UnixTime = UnixTime::from_seconds(1_800_000_000);

struct Case {
    key: SigningKey,
    jwks: Value,
    claims: Value,
    header: Header,
}

impl Case {
    fn new() -> Self {
        let key = SigningKey::generate(SigningAlgorithm::Es256).unwrap();
        let now = NOW.as_seconds();
        Self {
            jwks: json!({ "keys": [key.public_jwk()] }),
            claims: json!({
                "iss": "client", "sub": "client", "aud": ISSUER, "iat": now, "exp": now + 60, "jti": "1",
            }),
            header: Header::new(Algorithm::ES256),
            key,
        }
    }

    fn jwt(&self) -> String {
        let key = EncodingKey::from_ec_der(self.key.pkcs8_der());
        encode(&self.header, &self.claims, &key).unwrap()
    }

    fn verify(&self, jwt: &str) -> Result<String, AssertionError> {
        self.verify_for(AssertionAudience::Issuer, jwt)
    }

    fn verify_for(&self, accepted: AssertionAudience, jwt: &str) -> Result<String, AssertionError> {
        let issuer = &Issuer::parse(ISSUER).unwrap();
        let audience = Audience { issuer, accepted };
        verify(jwt, Some(&self.jwks), "client", audience, NOW).map(|claims| claims.jti)
    }

    fn with(mut self, claim: &str, value: Value) -> Result<String, AssertionError> {
        self.claims[claim] = value;
        let jwt = self.jwt();
        self.verify(&jwt)
    }
}

fn encoded(part: &Value) -> String {
    URL_SAFE_NO_PAD.encode(part.to_string())
}

#[test]
fn a_good_assertion() {
    let case = Case::new();
    assert_eq!(case.verify(&case.jwt()), Ok("1".into()));
    assert_eq!(claimed_client(&case.jwt()).as_deref(), Some("client"));
    assert_eq!(claimed_client("noise"), None);
}

#[test]
fn alg_none() {
    let case = Case::new();
    let payload = encoded(&case.claims);
    for alg in ["none", "None", "nOnE", ""] {
        let header = encoded(&json!({ "alg": alg, "typ": "JWT" }));
        for signature in ["", "AAAA"] {
            let jwt = format!("{header}.{payload}.{signature}");
            assert_eq!(case.verify(&jwt), Err(AssertionError::Header), "{jwt}");
        }
    }
}

#[test]
fn hmac_with_the_public_key() {
    let case = Case::new();
    let public = case.jwks["keys"][0].to_string();
    for secret in [public.as_bytes(), case.jwks.to_string().as_bytes()] {
        let key = EncodingKey::from_secret(secret);
        let jwt = encode(&Header::new(Algorithm::HS256), &case.claims, &key).unwrap();
        assert_eq!(case.verify(&jwt), Err(AssertionError::Header));
    }
}

/// A26: what clients in the field send, and no more.
#[test]
fn aud_is_this_server_alone() {
    use AssertionAudience::{Issuer as ByIssuer, TokenEndpoint};
    for (aud, by_issuer, old) in [
        (json!(ISSUER), true, true),
        (json!(format!("{ISSUER}/")), true, true),
        (json!([ISSUER]), true, true),
        (json!([format!("{ISSUER}/")]), true, true),
        (json!(format!("{ISSUER}/token")), false, true),
        (json!([format!("{ISSUER}/token")]), false, true),
        (json!(format!("{ISSUER}/token/")), false, false),
        (json!(format!("{ISSUER}//")), false, false),
        (json!("https://AUTH.example"), false, false),
        (json!([]), false, false),
        (json!([ISSUER, "https://other.example"]), false, false),
        (json!([ISSUER, ISSUER]), false, false),
        (json!("https://other.example"), false, false),
        (json!("https://other.example/token"), false, false),
        (Value::Null, false, false),
    ] {
        let mut case = Case::new();
        case.claims["aud"] = aud.clone();
        let jwt = case.jwt();
        for (accepted, expected) in [(ByIssuer, by_issuer), (TokenEndpoint, old)] {
            let found = case.verify_for(accepted, &jwt);
            let expected = match expected {
                true => Ok("1".into()),
                false => Err(AssertionError::Audience),
            };
            assert_eq!(found, expected, "{aud} {accepted:?}");
        }
    }
}

#[test]
fn exp_far_ahead() {
    let now = NOW.as_seconds();
    assert!(Case::new().with("exp", json!(now + MAX_LIFETIME)).is_ok());
    for exp in [now + MAX_LIFETIME + SKEW + 1, now, now - 1, i64::MAX] {
        assert_eq!(
            Case::new().with("exp", json!(exp)),
            Err(AssertionError::Time)
        );
    }
}

#[test]
fn clock_skew() {
    let now = NOW.as_seconds();
    for claim in ["nbf", "iat"] {
        assert!(Case::new().with(claim, json!(now + SKEW)).is_ok());
        let ahead = Case::new().with(claim, json!(now + SKEW + 1));
        assert_eq!(ahead, Err(AssertionError::Time));
    }
}

#[test]
fn another_client_and_no_jti() {
    assert_eq!(
        Case::new().with("iss", json!("other")),
        Err(AssertionError::Client)
    );
    assert_eq!(
        Case::new().with("sub", json!("other")),
        Err(AssertionError::Client)
    );
    assert_eq!(Case::new().with("jti", json!("")), Err(AssertionError::Id));
    assert!(Case::new().with("jti", Value::Null).is_err());
}

#[test]
fn kid_injection_and_jku_are_ignored() {
    let mut case = Case::new();
    let stranger = SigningKey::generate(SigningAlgorithm::Es256).unwrap();
    case.header.jku = Some("https://evil.example/jwks".into());
    case.header.jwk = Some(serde_json::from_value(stranger.public_jwk()).unwrap());
    assert!(case.verify(&case.jwt()).is_ok());
    let foreign = encode(
        &case.header,
        &case.claims,
        &EncodingKey::from_ec_der(stranger.pkcs8_der()),
    );
    assert_eq!(
        case.verify(&foreign.unwrap()),
        Err(AssertionError::Signature)
    );
    case.header.kid = Some("../../../dev/null".into());
    assert_eq!(case.verify(&case.jwt()), Err(AssertionError::Signature));
    case.header.kid = Some(case.key.key_id().into());
    assert!(case.verify(&case.jwt()).is_ok());
}

#[test]
fn a_key_registered_for_another_algorithm_and_critical_headers() {
    let mut case = Case::new();
    case.jwks["keys"][0]["alg"] = "ES384".into();
    assert_eq!(case.verify(&case.jwt()), Err(AssertionError::Signature));
    let mut case = Case::new();
    case.header.crit = Some(vec!["exp".into()]);
    assert_eq!(case.verify(&case.jwt()), Err(AssertionError::Header));
}
