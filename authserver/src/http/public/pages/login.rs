//! The sign-in form of local users: a user name and a password for a session.

use std::num::NonZeroU32;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode, header};

use super::pending::Pending;
use super::templates::{self, LoginPage};
use super::{Pages, form};
use crate::http::body::Form;
use crate::http::error::{self, Refused};
use crate::http::peer::Peer;
use crate::http::redirect::see_other;
use crate::http::trace;
use crate::login::session::{LIFETIME_SECONDS, Session};
use crate::login::ticket::{Purpose, Ticket};
use crate::login::{LoginError, Start, User};
use crate::metrics::LoginAttempt;
use crate::oauth::error::OAuthError;
use crate::oauth::rate_limit::{Decision, RateLimit};

/// Passwords per minute for one user from one address. Correct ones count, too: concurrent guesses
/// are counted before the first is known to be wrong.
const ATTEMPTS: RateLimit = RateLimit::per_minute(NonZeroU32::MIN.saturating_add(9));

pub(in super::super) async fn login(
    State(pages): State<Arc<Pages>>,
    peer: Peer,
    form: Form,
) -> Response {
    let Form { headers, params } = form;
    let core = &pages.core;
    let ticket = Ticket::read(&core.pepper, Purpose::Login, params.get("ticket"));
    let (Some(ticket), Some(cookie)) = (ticket, pages.cookies.form(&headers)) else {
        return form::stale();
    };
    let pending = match Pending::load(&pages, &ticket.query).await {
        Ok(pending) => pending,
        Err(page) => return page,
    };
    let name = params.get("username").unwrap_or_default();
    if !ticket.is_current(cookie, core.clock.now()) {
        return ask_again(&pages, &pending, &headers, name, &Attempt::Stale);
    }
    let password = params.get("password").unwrap_or_default();
    match attempt(&pages, &peer, name, password).await {
        Ok(Attempt::Accepted(user)) => match begin_session(&pages, user, &ticket.query) {
            Ok(response) => response,
            Err(error) => pending.refuse_unasked(&pages, &error),
        },
        Ok(refused) => ask_again(&pages, &pending, &headers, name, &refused),
        Err(error) => pending.refuse_unasked(&pages, &error),
    }
}

/// `GET` of a form's address: the browser shows it while the answer to the form is on the screen, and
/// users go there again.
pub(in super::super) async fn without_form() -> Response {
    form::stale()
}

/// The outcome of the last sign-in attempt.
#[derive(Default)]
pub(in super::super) struct LoginTry<'a> {
    pub(in super::super) status: StatusCode,
    pub(in super::super) username: &'a str,
    pub(in super::super) error: Option<&'a str>,
}

/// The login form, which returns to this request.
pub(in super::super) fn page(
    pages: &Pages,
    pending: &Pending,
    headers: &HeaderMap,
    last: &LoginTry<'_>,
) -> Result<Response, OAuthError> {
    // After the login the request is repeated, and would prompt for another login.
    let query = pending.params.clone().without("prompt").to_query();
    let core = &pages.core;
    form::with_cookie(pages, headers, |cookie| {
        let ticket = Ticket::new(query, None, cookie, core.clock.now());
        let page = LoginPage {
            server: core.issuer.without_scheme(),
            client_name: pending.client_name(),
            action: &core.issuer.url("/login"),
            ticket: &ticket.to_field(&core.pepper, Purpose::Login),
            username: last.username,
            error: last.error,
        };
        templates::render(last.status, &page)
    })
}

enum Attempt {
    Accepted(User),
    /// The page was too old, or another tab replaced its cookie.
    Stale,
    Wrong,
    TooMany(std::time::Duration),
}

async fn attempt(
    pages: &Pages,
    peer: &Peer,
    name: &str,
    password: &str,
) -> Result<Attempt, OAuthError> {
    let Start::Form(users) = pages.login.start() else {
        return Ok(Attempt::Wrong);
    };
    // Counted only right before hashing: a client that disconnects earlier costs nothing, and is not counted.
    let turn = users.turn().await.map_err(LoginError::from)?;
    let (key, now) = (format!("{name} {}", peer.network()), pages.core.clock.now());
    let decision = pages.core.store.hit("login", &key, ATTEMPTS, now).await?;
    if let Decision::Refused { retry_after } = decision {
        pages.metrics.login(LoginAttempt::Limited);
        return Ok(Attempt::TooMany(retry_after));
    }
    let verified = users.verify(turn, name, password.to_owned()).await;
    if let Some(user) = verified.map_err(LoginError::from)? {
        pages.metrics.login(LoginAttempt::Accepted);
        trace::subject(&user.subject);
        return Ok(Attempt::Accepted(user));
    }
    pages.metrics.login(LoginAttempt::Refused);
    Ok(Attempt::Wrong)
}

fn begin_session(pages: &Pages, user: User, query: &str) -> Result<Response, OAuthError> {
    let core = &pages.core;
    let session = Session::begin(user, core.clock.now())?;
    let mut response = see_other(&core.issuer.url(&format!("/authorize?{query}")));
    let cookie = session.to_cookie(&core.pepper);
    if let Some(set) = pages.cookies.set_session(&cookie, LIFETIME_SECONDS.into()) {
        response.headers_mut().append(header::SET_COOKIE, set);
    }
    Ok(response)
}

fn ask_again(
    pages: &Pages,
    pending: &Pending,
    headers: &HeaderMap,
    username: &str,
    refused: &Attempt,
) -> Response {
    let (status, text) = match refused {
        Attempt::TooMany(_) => (
            StatusCode::TOO_MANY_REQUESTS,
            "Too many attempts. Wait a minute and try again.",
        ),
        Attempt::Stale => (
            StatusCode::BAD_REQUEST,
            "This page was no longer valid. Sign in again.",
        ),
        _ => (
            StatusCode::UNAUTHORIZED,
            "The user name or password is wrong.",
        ),
    };
    let last = LoginTry {
        status,
        username,
        error: Some(text),
    };
    let page = page(pages, pending, headers, &last);
    let mut response = page.unwrap_or_else(|error| pending.refuse_unasked(pages, &error));
    response.extensions_mut().insert(Refused {
        error: "access_denied",
        reason: text.to_owned(),
    });
    if let Attempt::TooMany(wait) = refused {
        let wait = error::retry_after(*wait);
        response.headers_mut().insert(header::RETRY_AFTER, wait);
    }
    response
}
