//! `POST /introspect` on the internal port (RFC 7662).

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use http::{HeaderValue, header};
use mcpauth_wire::introspection::{Answer, OneOrMany};
use tracing::field::Empty;
use tracing::{Level, Span};

use super::Principal;
use crate::http::body::Form;
use crate::http::core::Core;
use crate::http::error::HttpError;
use crate::http::trace;
use crate::metrics::{Introspected, Metrics};
use crate::oauth::error::OAuthError;
use crate::oauth::token::{Token, TokenKind};
use crate::store::ActiveToken;

/// What introspection depends on.
#[derive(Debug)]
pub(super) struct Introspection {
    pub(super) core: Arc<Core>,
    pub(super) metrics: Arc<Metrics>,
}

type Response = ([(header::HeaderName, HeaderValue); 1], Json<Answer>);

/// Its span is at debug level, because proxies send a request for every token that is not in their cache.
#[tracing::instrument(
    name = "introspect",
    level = "debug",
    skip_all,
    fields(%caller, client = Empty, subject = Empty, resource = Empty, outcome = Empty)
)]
pub(super) async fn introspect(
    State(introspection): State<Arc<Introspection>>,
    Extension(Principal(caller)): Extension<Principal>,
    form: Form,
) -> Result<Response, HttpError> {
    let core = &introspection.core;
    let Some(token) = form.params.get("token") else {
        let text = "token is missing; send the access token in the form";
        return Err(OAuthError::InvalidRequest(text.into()).into());
    };
    let active = match Token::parse(token).filter(|token| token.kind() == TokenKind::Access) {
        Some(token) => {
            let hashes = token.hashes(&core.pepper);
            core.store.introspect(&hashes, core.clock.now()).await?
        }
        None => None,
    };
    let (outcome, body) = match &active {
        Some(token) if token.introspectors.contains(&caller) => {
            (Introspected::Active, describe(core.issuer.as_str(), token))
        }
        Some(_) => (Introspected::Foreign, Answer::default()),
        None => (Introspected::Inactive, Answer::default()),
    };
    introspection.metrics.introspection(outcome);
    if tracing::enabled!(Level::DEBUG) {
        trace_outcome(outcome, active.as_ref());
    }
    let no_store = HeaderValue::from_static("no-store");
    Ok(([(header::CACHE_CONTROL, no_store)], Json(body)))
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

fn describe(issuer: &str, token: &ActiveToken) -> Answer {
    let one = |text: String| Some(OneOrMany::One(text));
    Answer {
        active: true,
        scope: one(token.scopes.to_string()),
        client_id: Some(token.client_id.clone()),
        // Without a user the client acts for itself (RFC 9068, section 2.2).
        sub: Some(token.subject.as_ref().unwrap_or(&token.client_id).clone()),
        aud: one(token.resource.clone()),
        iss: Some(issuer.to_owned()),
        exp: Some(token.expires_at.as_seconds() as f64),
        iat: Some(token.issued_at.as_seconds() as f64),
        token_type: Some("Bearer".to_owned()),
        jti: Some(token.token_id.clone()),
        cnf: None,
    }
}
