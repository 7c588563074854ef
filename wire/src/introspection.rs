//! Introspection's answer (RFC 7662, section 2.2).

use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

/// The parameter that asks for [`Answer::grantable_scope`], by the value `true` (RFC 7662, section 2.1, leaves room for more
/// parameters). A server that does not know it ignores it.
pub const GRANTABLE_SCOPE: &str = "grantable_scope";

/// What the endpoint says about a token. Ours says all of it in the first of each two forms; a proxy also
/// reads the answers of others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Whether the token is valid. If not, no other member is present.
    pub active: bool,
    /// Its scopes: a string with spaces, or a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<OneOrMany>,
    /// Whom it was issued to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// On whose behalf; without a user the client acts for itself (RFC 9068, section 2.2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// For which resources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aud: Option<OneOrMany>,
    /// Who issued it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// Until when, in seconds since the epoch.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "seconds"
    )]
    pub exp: Option<f64>,
    /// Since when, in seconds since the epoch.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "seconds"
    )]
    pub iat: Option<f64>,
    /// `Bearer`, or a type that requires proof of possession.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_type: Option<String>,
    /// An identifier of the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// The key that the caller must prove to possess (RFC 7800, RFC 8705).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cnf: Option<Value>,
    /// The scopes of the resource that client and user may have, held or not: what another authorization of theirs can
    /// bring, separated by spaces, or empty. Ours alone, and only where [`GRANTABLE_SCOPE`] asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grantable_scope: Option<OneOrMany>,
}

/// A string or a list of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One.
    One(String),
    /// A list.
    Many(Vec<String>),
}

impl OneOrMany {
    /// All of them.
    #[must_use]
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// A NumericDate as most readers expect it: without a fraction when there is none.
fn seconds<S: Serializer>(time: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    /// Up to here an f64 holds every integer.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match time {
        None => serializer.serialize_none(),
        #[expect(
            clippy::cast_possible_truncation,
            reason = "it is a whole number in range"
        )]
        Some(time) if time.fract() == 0.0 && time.abs() <= EXACT => {
            serializer.serialize_i64(*time as i64)
        }
        Some(time) => serializer.serialize_f64(*time),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ours_is_written_as_rfc_7662_has_it() {
        let answer = Answer {
            active: true,
            scope: Some(OneOrMany::One("a b".into())),
            exp: Some(1_800_000_000.0),
            ..Answer::default()
        };
        let value = serde_json::to_value(&answer).unwrap();
        assert_eq!(
            value,
            json!({ "active": true, "scope": "a b", "exp": 1_800_000_000 })
        );
        let inactive = serde_json::to_value(Answer::default()).unwrap();
        assert_eq!(inactive, json!({ "active": false }));
    }

    #[test]
    fn answers_of_others_are_read() {
        let answer: Answer = serde_json::from_value(json!({
            "active": true, "scope": ["a", "b"], "aud": ["x", "y"], "exp": 1.5, "more": 1,
        }))
        .unwrap();
        assert_eq!(answer.scope.unwrap().as_slice(), ["a", "b"]);
        assert_eq!(answer.aud.unwrap().as_slice(), ["x", "y"]);
        assert_eq!(answer.exp, Some(1.5));
        assert!(serde_json::from_value::<Answer>(json!({})).is_err());
    }
}
