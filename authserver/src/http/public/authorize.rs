//! `GET /authorize` (OAuth 2.1, section 4.1.1). It has no side effects, because clients may send it twice.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::HeaderMap;

use super::pages::pending::Pending;
use super::pages::{Pages, consent, login};
use crate::login::Start;
use crate::login::session::Session;
use crate::oauth::authorization::{AuthorizationRequest, Prompt};
use crate::oauth::error::OAuthError;
use crate::oauth::grant::LoginMark;

pub(super) async fn authorize(
    State(pages): State<Arc<Pages>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let query = query.unwrap_or_default();
    let pending = match Pending::load(&pages, &query).await {
        Ok(pending) => pending,
        Err(page) => return page,
    };
    let answer = match &pending.request {
        Ok(request) => decide(&pages, &pending, request, &headers).await,
        Err(error) => Err(error.clone()),
    };
    answer.unwrap_or_else(|error| pending.refuse_unasked(&pages, &error))
}

async fn decide(
    pages: &Pages,
    pending: &Pending,
    request: &AuthorizationRequest,
    headers: &HeaderMap,
) -> Result<Response, OAuthError> {
    if let Start::Known(subject) = pages.login.start() {
        let login = LoginMark::default();
        return pending.approve(pages, request, subject, &login).await;
    }
    let session = pages.session(headers).await?;
    let Some(session) = session.filter(|_| request.prompt != Prompt::Login) else {
        return match request.prompt {
            Prompt::None => Err(OAuthError::LoginRequired),
            _ => login::page(pages, pending, headers, &login::LoginTry::default()),
        };
    };
    let asks = request.prompt == Prompt::Consent || pending.client.needs_consent(&request.resource);
    match (asks, request.prompt) {
        (false, _) => {
            let Session { subject, mark, .. } = &session;
            pending.approve(pages, request, subject, mark).await
        }
        (true, Prompt::None) => Err(OAuthError::ConsentRequired),
        (true, _) => consent::page(pages, pending, request, &session, headers),
    }
}
