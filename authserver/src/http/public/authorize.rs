//! `/authorize` (OAuth 2.1, section 4.1.1). It has no side effects, because clients may send a request twice.

use std::sync::Arc;

use axum::extract::{RawQuery, Request, State};
use axum::response::{IntoResponse, Response};

use super::pages::login::{self, LoginTry};
use super::pages::pending::{Asked, Pending, local};
use super::pages::{Pages, consent};
use crate::http::body;
use crate::http::redirect::see_other;
use crate::http::visit::{Place, Visit};
use crate::login::Start;
use crate::login::session::Session;
use crate::oauth::authorization::{self, AuthorizationRequest, Prompt};
use crate::oauth::error::OAuthError;
use crate::oauth::id_token_hint;
use crate::oauth::params::ParamsError;

pub(super) async fn authorize(
    State(pages): State<Arc<Pages>>,
    visit: Visit,
    RawQuery(query): RawQuery,
) -> Response {
    let query = query.unwrap_or_default();
    let pending = match Pending::load(&pages, &query).await {
        Ok(pending) => pending,
        Err(page) => return page,
    };
    let answer = match &pending.request {
        Ok(request) => decide(&pages, &pending, request, &visit).await,
        Err(error) => Err(error.clone()),
    };
    answer.unwrap_or_else(|error| pending.refuse_unasked(&pages, &error))
}

/// `POST` (OpenID Connect Core, section 3.1.2.1) becomes `GET`, for which browsers send the cookies, wherever they come from.
pub(super) async fn by_post(State(pages): State<Arc<Pages>>, request: Request) -> Response {
    let body = match body::form(request, &()).await {
        Ok(body) => body,
        Err(error) => return error.into_response(),
    };
    let params = str::from_utf8(&body)
        .map_err(|_| ParamsError::NotUtf8.into())
        .and_then(authorization::parse);
    match params {
        Ok(params) => {
            let path = format!("/authorize?{}", params.to_query());
            see_other(&pages.url(&Place::default(), &path))
        }
        Err(fault) => local(&fault),
    }
}

async fn decide(
    pages: &Pages,
    pending: &Pending,
    request: &AuthorizationRequest,
    visit: &Visit,
) -> Result<Response, OAuthError> {
    let expected = expected_user(pages, pending)?;
    let is_expected = |subject: &str| expected.as_deref().is_none_or(|only| subject == only);
    let start = pages.login.start();
    if let Start::Known(user) = &start
        && !is_expected(&user.subject)
    {
        return Err(OAuthError::LoginRequired);
    }
    if let Start::Known(user) = &start
        && pending.needs_no_click(pages, visit)
    {
        let now = pages.core.clock.now();
        return pending.approve(pages, request, user, now, Asked::No).await;
    }
    let session = pages.session(&visit.headers).await?;
    let now = pages.core.clock.now();
    let fits = |session: &Session| {
        request.prompt != Prompt::Login
            && session.is_within(request.max_age, now)
            && is_expected(&session.subject)
    };
    let form = LoginTry {
        username: expected.as_deref().unwrap_or_default(),
        error: session
            .as_ref()
            .filter(|session| !is_expected(&session.subject))
            .map(|_| "The application expects another user than the one who is signed in."),
        ..LoginTry::default()
    };
    let Some(session) = session.filter(fits) else {
        return sign_in(pages, pending, (request.prompt, start), visit, &form);
    };
    let asks = request.prompt == Prompt::Consent || pending.client.needs_consent(&request.resource);
    match (asks, request.prompt) {
        (false, _) => {
            let (user, at) = (session.user(), session.began_at());
            pending.approve(pages, request, &user, at, Asked::No).await
        }
        (true, Prompt::None) => Err(OAuthError::ConsentRequired),
        (true, _) => consent::page(pages, pending, request, &session, visit),
    }
}

/// The user whom the client expects, if it says so. It gets no code of anybody else (OpenID Connect Core, section 3.1.2.2).
fn expected_user(pages: &Pages, pending: &Pending) -> Result<Option<String>, OAuthError> {
    let hint = pending.params.get("id_token_hint");
    let subject = hint.map(|jwt| {
        let published = pages.signing.ring().jwks();
        let (issuer, client_id) = (&pages.core.issuer, &pending.client.client_id);
        id_token_hint::subject(jwt, published, issuer, client_id)
    });
    subject.transpose()
}

fn sign_in(
    pages: &Pages,
    pending: &Pending,
    how: (Prompt, Start<'_>),
    visit: &Visit,
    form: &LoginTry<'_>,
) -> Result<Response, OAuthError> {
    match how {
        (Prompt::None, Start::Known(_)) => Err(OAuthError::ConsentRequired),
        (Prompt::None, Start::Form(_)) => Err(OAuthError::LoginRequired),
        (_, Start::Known(user)) => {
            let query = pending.after_login();
            login::begin_session(pages, user, None, &query)
        }
        (_, Start::Form(_)) if pages.cookies.are_private(&visit.place) => {
            login::page(pages, pending, visit, form)
        }
        (_, Start::Form(_)) => {
            let path = format!("/authorize?{}", pending.params.to_query());
            Ok(see_other(&pages.url(&pages.cookies.next_place()?, &path)))
        }
    }
}
