//! What a token's claims mean for this resource.

use std::sync::Arc;
use std::time::Duration;

use mcpauth_wire::introspection::{Answer, OneOrMany};

use crate::auth::identity::Identity;
use crate::auth::source::SourceError;
use crate::resource::Resource;

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The token is not valid, with the reason for the client.
    Invalid(&'static str),
    /// It is unknown whether the token is valid, because there is no usable response.
    Unavailable,
}

/// A judgement about a token.
pub type Verdict = Result<Arc<Identity>, Rejection>;

#[derive(Debug, PartialEq)]
pub(super) struct Judgement {
    pub(super) verdict: Verdict,
    /// How long the token is still valid.
    pub(super) remaining: Duration,
}

/// Judges the claims of a token for this resource. `now` is the time since the epoch.
///
/// # Errors
/// The token is not valid for this resource, or names no caller.
pub(super) fn judge(
    claims: Answer,
    resource: &Resource,
    now: Duration,
) -> Result<Judgement, SourceError> {
    let invalid = |reason| {
        Ok(Judgement {
            verdict: Err(Rejection::Invalid(reason)),
            remaining: Duration::MAX,
        })
    };
    if !claims.active {
        return invalid("the token is expired, revoked or unknown");
    }
    let audiences = claims.aud.as_ref().map_or(&[][..], OneOrMany::as_slice);
    if !audiences.iter().any(|aud| resource.is_audience(aud)) {
        return invalid("the token was issued for another resource");
    }
    let is_bearer = claims
        .token_type
        .is_none_or(|kind| kind.eq_ignore_ascii_case("bearer"));
    if !is_bearer || claims.cnf.is_some() {
        // The proxy does not verify proof of possession, so a stolen token of this kind would be accepted.
        return invalid("the token is bound to a key; this resource accepts bearer tokens only");
    }
    let remaining = match claims.exp {
        None => Duration::MAX,
        Some(exp) => Duration::try_from_secs_f64(exp.max(0.0))
            .unwrap_or(Duration::MAX)
            .saturating_sub(now),
    };
    if remaining.is_zero() {
        return invalid("the token has expired");
    }
    let client_id = claims.client_id.or_else(|| claims.sub.clone());
    let Some(client_id) = client_id else {
        let reason = "it has neither client_id nor sub";
        return Err(SourceError::Malformed(reason.into()));
    };
    let scopes = claims.scope.as_ref().map_or(&[][..], OneOrMany::as_slice);
    let grantable = claims.grantable_scope.as_ref();
    let grantable = grantable.map_or(&[][..], OneOrMany::as_slice);
    let identity = Identity {
        subject: claims.sub.unwrap_or_else(|| client_id.clone()),
        client_id,
        scopes: names(scopes),
        grantable: names(grantable),
    };
    Ok(Judgement {
        verdict: Ok(Arc::new(identity)),
        remaining,
    })
}

/// The scopes in these texts.
fn names(texts: &[String]) -> Vec<String> {
    let names = texts.iter().flat_map(|text| text.split_ascii_whitespace());
    names.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests;
