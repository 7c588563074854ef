//! Introspection (RFC 7662), as both ports answer it: a caller learns only about tokens for the resources that name it
//! as an introspector.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, header};
use mcpauth_wire::introspection::{Answer, GRANTABLE_SCOPE, OneOrMany};
use tracing::{Level, Span};

use crate::http::core::Core;
use crate::http::error::HttpError;
use crate::http::trace;
use crate::metrics::{CountedIntrospections, Introspected, Metrics};
use crate::oauth::error::OAuthError;
use crate::oauth::params::Params;
use crate::oauth::token::{Token, TokenKind};
use crate::store::{ActiveToken, Extent};

/// What introspection depends on.
#[derive(Debug)]
pub(super) struct Introspection {
    core: Arc<Core>,
    counted: CountedIntrospections,
}

/// About as much as an answer has, in bytes.
const BODY: usize = 512;

impl Introspection {
    pub(super) fn new(core: Arc<Core>, metrics: &Metrics) -> Self {
        Self {
            core,
            counted: metrics.introspections(),
        }
    }

    /// What the principal `caller` may know of a token.
    ///
    /// # Errors
    /// 400 without a token, 503 when the store is away.
    pub(super) async fn answer(
        &self,
        caller: &str,
        params: &Params,
    ) -> Result<Response, HttpError> {
        let core = &self.core;
        let Some(token) = params.get("token") else {
            let text = "token is missing; send the access token in the form";
            return Err(OAuthError::InvalidRequest(text.into()).into());
        };
        let active = match Token::parse(token).filter(|token| token.kind() == TokenKind::Access) {
            Some(token) => {
                let hashes = token.hashes(&core.pepper);
                let extent = match params.get(GRANTABLE_SCOPE) {
                    Some("true") => Extent::Grantable,
                    _ => Extent::Token,
                };
                core.store
                    .introspect(&hashes, extent, core.clock.now())
                    .await?
            }
            None => None,
        };
        let outcome = match &active {
            Some(token) if token.introspectors.iter().any(|one| one == caller) => {
                Introspected::Active
            }
            Some(_) => Introspected::Foreign,
            None => Introspected::Inactive,
        };
        self.counted.count(outcome);
        if tracing::enabled!(Level::DEBUG) {
            trace_outcome(outcome, active.as_ref());
        }
        let known = active.filter(|_| outcome == Introspected::Active);
        let answer = known.map(|token| describe(core.issuer.as_str(), token));
        respond(&answer.unwrap_or_default())
    }
}

/// An answer, which nobody may store.
fn respond(answer: &Answer) -> Result<Response, HttpError> {
    let mut body = Vec::with_capacity(BODY);
    serde_json::to_writer(&mut body, answer).map_err(|_| OAuthError::ServerError)?;
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, json);
    let no_store = HeaderValue::from_static("no-store");
    headers.insert(header::CACHE_CONTROL, no_store);
    Ok(response)
}

fn trace_outcome(outcome: Introspected, token: Option<&ActiveToken>) {
    Span::current().record("outcome", outcome.as_str());
    if let Some(token) = token {
        trace::client(&token.client_id);
        trace::subject(token.subject.as_ref().unwrap_or(&token.client_id));
        trace::resource(&token.resource);
    }
    tracing::debug!("answered");
}

fn describe(issuer: &str, token: ActiveToken) -> Answer {
    let one = |text: String| Some(OneOrMany::One(text));
    Answer {
        active: true,
        scope: token.scopes.to_parameter().map(OneOrMany::One),
        // Without a user the client acts for itself (RFC 9068, section 2.2).
        sub: Some(token.subject.unwrap_or_else(|| token.client_id.clone())),
        client_id: Some(token.client_id),
        aud: one(token.resource),
        iss: Some(issuer.to_owned()),
        exp: Some(token.expires_at.as_seconds() as f64),
        iat: Some(token.issued_at.as_seconds() as f64),
        token_type: Some("Bearer".to_owned()),
        jti: Some(token.token_id),
        cnf: None,
        grantable_scope: token.grantable.and_then(|scopes| one(scopes.to_string())),
    }
}
