//! `POST /login`: a user name and a password for a session.

use std::num::NonZeroU32;

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode, header};

use super::super::pending::Pending;
use super::form;
use super::templates::{self, LoginPage};
use crate::http::body::Form;
use crate::http::error;
use crate::http::peer::Peer;
use crate::http::redirect::see_other;
use crate::http::state::{App, Shared};
use crate::login::Login;
use crate::login::session::{LIFETIME_SECONDS, Session};
use crate::login::ticket::{Purpose, Ticket};
use crate::oauth::error::OAuthError;
use crate::oauth::rate_limit::{Decision, RateLimit};

/// Passwords for one user from one address, in a minute. Right ones count, too: guesses that come
/// together are counted before the first is known to be wrong.
const ATTEMPTS: RateLimit = RateLimit::per_minute(NonZeroU32::MIN.saturating_add(9));

pub async fn login(State(app): State<Shared>, peer: Peer, form: Form) -> Response {
    let Form { headers, params } = form;
    let ticket = Ticket::read(&app.pepper, Purpose::Login, params.get("ticket"));
    let (Some(ticket), Some(cookie)) = (ticket, app.cookies.form(&headers)) else {
        return form::stale();
    };
    let pending = match Pending::load(&app, &ticket.query).await {
        Ok(pending) => pending,
        Err(page) => return page,
    };
    let name = params.get("username").unwrap_or_default();
    if !ticket.is_current(cookie, app.clock.now()) {
        return ask_again(&app, &pending, &headers, name, &Attempt::Stale);
    }
    let password = params.get("password").unwrap_or_default();
    match attempt(&app, &peer, name, password).await {
        Ok(Attempt::Accepted(mark)) => match begin_session(&app, name, mark, &ticket.query) {
            Ok(response) => response,
            Err(error) => pending.refuse_unasked(&app, &error),
        },
        Ok(refused) => ask_again(&app, &pending, &headers, name, &refused),
        Err(error) => pending.refuse_unasked(&app, &error),
    }
}

/// `GET` of a form's address: the browser shows it while the answer to the form is on the screen, and
/// users go there again.
pub async fn without_form() -> Response {
    form::stale()
}

/// What came of the last try to log in.
#[derive(Default)]
pub(in super::super) struct LoginTry<'a> {
    pub(in super::super) status: StatusCode,
    pub(in super::super) username: &'a str,
    pub(in super::super) error: Option<&'a str>,
}

/// The login form, which returns to this request.
pub(in super::super) fn page(
    app: &App,
    pending: &Pending,
    headers: &HeaderMap,
    last: &LoginTry<'_>,
) -> Result<Response, OAuthError> {
    // After the login the request comes again, and would ask for another.
    let query = pending.params.clone().without("prompt").to_query();
    form::with_cookie(app, headers, |cookie| {
        let ticket = Ticket::new(query, None, cookie, app.clock.now());
        let page = LoginPage {
            server: app.issuer.without_scheme(),
            client_name: pending.client_name(),
            action: &app.issuer.url("/login"),
            ticket: &ticket.to_field(&app.pepper, Purpose::Login),
            username: last.username,
            error: last.error,
        };
        templates::render(last.status, &page)
    })
}

enum Attempt {
    /// With the mark of the password.
    Accepted(String),
    /// The page was too old, or another tab took its cookie's place.
    Stale,
    Wrong,
    TooMany(std::time::Duration),
}

async fn attempt(
    app: &App,
    peer: &Peer,
    name: &str,
    password: &str,
) -> Result<Attempt, OAuthError> {
    let Login::LocalUsers(users) = &app.login else {
        return Ok(Attempt::Wrong);
    };
    // Counted when it is its turn: else who goes away early could make us count without end.
    let turn = users.turn().await?;
    let (key, now) = (format!("{name} {}", peer.network()), app.clock.now());
    if let Decision::Refused { retry_after } = app.store.hit("login", &key, ATTEMPTS, now).await? {
        app.metrics.login("limited");
        return Ok(Attempt::TooMany(retry_after));
    }
    if let Some(mark) = users.verify(turn, name, password.to_owned()).await? {
        app.metrics.login("accepted");
        return Ok(Attempt::Accepted(mark));
    }
    app.metrics.login("refused");
    Ok(Attempt::Wrong)
}

fn begin_session(app: &App, name: &str, mark: String, query: &str) -> Result<Response, OAuthError> {
    let session = Session::begin(name.to_owned(), mark, app.clock.now())?;
    let mut response = see_other(&app.issuer.url(&format!("/authorize?{query}")));
    let cookie = session.to_cookie(app);
    if let Some(set) = app.cookies.set_session(&cookie, LIFETIME_SECONDS.into()) {
        response.headers_mut().append(header::SET_COOKIE, set);
    }
    Ok(response)
}

fn ask_again(
    app: &App,
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
            "This page was no longer valid. Please sign in once more.",
        ),
        _ => (StatusCode::UNAUTHORIZED, "User name or password is wrong."),
    };
    let last = LoginTry {
        status,
        username,
        error: Some(text),
    };
    let page = page(app, pending, headers, &last);
    let mut response = page.unwrap_or_else(|error| pending.refuse_unasked(app, &error));
    if let Attempt::TooMany(wait) = refused {
        let wait = error::retry_after(*wait);
        response.headers_mut().insert(header::RETRY_AFTER, wait);
    }
    response
}
