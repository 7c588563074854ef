//! `POST /introspect` on the internal port (RFC 7662).

use axum::extract::State;
use axum::{Extension, Json};
use http::{HeaderValue, header};
use serde_json::{Value, json};

use super::Principal;
use crate::http::body::Form;
use crate::http::error::HttpError;
use crate::http::state::Shared;
use crate::oauth::error::OAuthError;
use crate::oauth::token::{Token, TokenKind};
use crate::store::ActiveToken;

type Answer = ([(header::HeaderName, HeaderValue); 1], Json<Value>);

pub(super) async fn introspect(
    State(app): State<Shared>,
    Extension(Principal(caller)): Extension<Principal>,
    form: Form,
) -> Result<Answer, HttpError> {
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
        Some(_) => ("foreign", inactive()),
        None => ("inactive", inactive()),
    };
    app.metrics.introspection(outcome);
    let no_store = HeaderValue::from_static("no-store");
    Ok(([(header::CACHE_CONTROL, no_store)], Json(body)))
}

fn inactive() -> Value {
    json!({ "active": false })
}

fn describe(issuer: &str, token: &ActiveToken) -> Value {
    json!({
        "active": true,
        "scope": token.scopes.to_string(),
        "client_id": token.client_id,
        // Without a user the client acts for itself (RFC 9068, section 2.2).
        "sub": token.subject.as_ref().unwrap_or(&token.client_id),
        "aud": token.resource,
        "iss": issuer,
        "exp": token.expires_at.as_seconds(),
        "iat": token.issued_at.as_seconds(),
        "token_type": "Bearer",
        "jti": token.token_id,
    })
}
