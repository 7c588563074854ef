//! `GET /authorize` (OAuth 2.1, section 4.1.1). It changes nothing: clients send it twice.

use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::HeaderMap;

use super::pages::{consent, login};
use super::pending::Pending;
use crate::http::state::{App, Shared};
use crate::login::{Login, session};
use crate::oauth::authorization::{AuthorizationRequest, Prompt};
use crate::oauth::error::OAuthError;

pub(super) async fn authorize(
    State(app): State<Shared>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let query = query.unwrap_or_default();
    let pending = match Pending::load(&app, &query).await {
        Ok(pending) => pending,
        Err(page) => return page,
    };
    let answer = match &pending.request {
        Ok(request) => decide(&app, &pending, request, &headers).await,
        Err(error) => Err(error.clone()),
    };
    answer.unwrap_or_else(|error| pending.refuse_unasked(&app, &error))
}

async fn decide(
    app: &App,
    pending: &Pending,
    request: &AuthorizationRequest,
    headers: &HeaderMap,
) -> Result<Response, OAuthError> {
    if let Login::AutoApprove { subject } = &app.login {
        return pending.approve(app, request, subject).await;
    }
    let session = session::of(app, headers).await?;
    match (session, request.prompt) {
        (None, Prompt::None) => Err(OAuthError::LoginRequired),
        (Some(_), Prompt::None) => Err(OAuthError::ConsentRequired),
        (None, _) | (Some(_), Prompt::Login) => {
            login::page(app, pending, headers, &login::LoginTry::default())
        }
        (Some(session), Prompt::Default) => consent::page(app, pending, request, &session, headers),
    }
}
