//! `POST /introspect` on the internal port (RFC 7662).

use axum::extract::State;
use axum::{Extension, Json};
use http::{HeaderValue, header};
use mcpauth_wire::introspection::{Answer, OneOrMany};

use super::Principal;
use crate::http::body::Form;
use crate::http::error::HttpError;
use crate::http::state::Shared;
use crate::oauth::error::OAuthError;
use crate::oauth::token::{Token, TokenKind};
use crate::store::ActiveToken;

type Response = ([(header::HeaderName, HeaderValue); 1], Json<Answer>);

pub(super) async fn introspect(
    State(app): State<Shared>,
    Extension(Principal(caller)): Extension<Principal>,
    form: Form,
) -> Result<Response, HttpError> {
    let Some(token) = form.params.get("token") else {
        return Err(OAuthError::InvalidRequest("token is missing".into()).into());
    };
    let active = match Token::parse(token).filter(|token| token.kind() == TokenKind::Access) {
        Some(token) => {
            let hashes = app.pepper.token_hashes(&token);
            app.store.introspect(&hashes, app.clock.now()).await?
        }
        None => None,
    };
    let (outcome, body) = match active {
        Some(token) if token.introspectors.contains(&caller) => {
            ("active", describe(app.issuer.as_str(), &token))
        }
        Some(_) => ("foreign", Answer::default()),
        None => ("inactive", Answer::default()),
    };
    app.metrics.introspection(outcome);
    let no_store = HeaderValue::from_static("no-store");
    Ok(([(header::CACHE_CONTROL, no_store)], Json(body)))
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
