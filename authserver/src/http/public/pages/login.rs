//! The sign-in form of local users: a user name and a password for a session.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use http::{StatusCode, header};
use mcpauth_service::admission::Caller;

use super::pending::Pending;
use super::templates::{self, LoginPage};
use super::{Pages, form};
use crate::audit::Event;
use crate::http::audit;
use crate::http::body::Form;
use crate::http::error::{self, Refused};
use crate::http::peer::Peer;
use crate::http::redirect::see_other;
use crate::http::trace;
use crate::http::visit::Visit;
use crate::login::device::{self, Device};
use crate::login::session::{self, Session};
use crate::login::ticket::{Purpose, Ticket};
use crate::login::users::UsersError;
use crate::login::{LoginError, Start, User, password};
use crate::metrics::LoginAttempt;
use crate::oauth::error::OAuthError;
use crate::oauth::rate_limit::{Decision, RateLimit};
use crate::store::StoreError;

pub(in super::super) async fn login(
    State(pages): State<Arc<Pages>>,
    peer: Peer,
    visit: Visit,
    form: Form,
) -> Response {
    let params = form.params;
    let core = &pages.core;
    let ticket = Ticket::read(&core.pepper, Purpose::Login, params.get("ticket"));
    let (Some(ticket), Some(cookie)) = (ticket, pages.cookies.form(&visit.headers)) else {
        return form::stale();
    };
    let pending = match Pending::load(&pages, &ticket.query).await {
        Ok(pending) => pending,
        Err(page) => return page,
    };
    let name = params.get("username").unwrap_or_default();
    if !ticket.is_current(cookie, core.clock.now()) {
        return ask_again(&pages, &pending, &visit, name, &Attempt::Stale);
    }
    let password = params.get("password").unwrap_or_default();
    let device = pages.device(&visit.headers, name);
    match attempt(&pages, &peer, device.as_ref(), name, password).await {
        Ok(Attempt::Accepted(user)) => match begin_session(&pages, user, device, &ticket.query) {
            Ok(response) => response,
            Err(error) => pending.refuse_unasked(&pages, &error),
        },
        Ok(refused) => {
            note_refused(&pages, name, &refused).await;
            ask_again(&pages, &pending, &visit, name, &refused)
        }
        Err(error) => pending.refuse_unasked(&pages, &error),
    }
}

/// Names the user in the audit, if there is one: some type their password into the wrong field.
async fn note_refused(pages: &Pages, name: &str, refused: &Attempt) {
    let exists = pages.login.exists(name).await.unwrap_or(false);
    audit::about(|about| match exists {
        true => about.subject(name),
        false => about.reason("no user has this name"),
    });
    audit::record(match refused {
        Attempt::TooMany(_) | Attempt::Busy => Event::LoginLimited,
        _ => Event::LoginRefused,
    });
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
    visit: &Visit,
    last: &LoginTry<'_>,
) -> Result<Response, OAuthError> {
    let query = pending.after_login();
    let core = &pages.core;
    form::with_cookie(pages, visit, |cookie| {
        let ticket = Ticket::new(query, None, cookie, core.clock.now());
        let page = LoginPage {
            server: core.issuer.without_scheme(),
            client_name: pending.client_name(),
            action: &pages.url(&visit.place, "/login"),
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
    TooMany(Duration),
    Busy,
}

async fn attempt(
    pages: &Pages,
    peer: &Peer,
    device: Option<&Device>,
    name: &str,
    password: &str,
) -> Result<Attempt, OAuthError> {
    let Start::Form(users) = pages.login.start() else {
        return Ok(Attempt::Wrong);
    };
    if !password::is_length(password) {
        pages.metrics.login(LoginAttempt::Refused);
        return Ok(Attempt::Wrong);
    }
    let caller = device.map_or(Caller::Unknown, |_| Caller::Known);
    // Counted only right before hashing: a client that disconnects earlier costs nothing, and is not counted.
    let turn = match users.turn(caller, peer.network()).await {
        Err(UsersError::Busy) => {
            pages.metrics.login(LoginAttempt::Limited);
            return Ok(Attempt::Busy);
        }
        turn => turn.map_err(LoginError::from)?,
    };
    if let Decision::Refused { retry_after } = count(pages, peer, device, name).await? {
        pages.metrics.login(LoginAttempt::Limited);
        return Ok(Attempt::TooMany(retry_after));
    }
    let verified = users.verify(turn, name, password.to_owned()).await;
    if let Some(user) = verified.map_err(LoginError::from)? {
        pages.metrics.login(LoginAttempt::Accepted);
        return Ok(Attempt::Accepted(user));
    }
    pages.metrics.login(LoginAttempt::Refused);
    Ok(Attempt::Wrong)
}

/// Counts an attempt, also one with the right password: concurrent guesses are counted before the first is known to be
/// wrong. A browser that the user has signed in with is counted by itself, others by their network: over all names first, so that
/// made-up names fill no table.
async fn count(
    pages: &Pages,
    peer: &Peer,
    device: Option<&Device>,
    name: &str,
) -> Result<Decision, StoreError> {
    let (store, now) = (&pages.core.store, pages.core.clock.now());
    let per_user = RateLimit::per_minute(pages.limits.login_failures_per_minute);
    if let Some(device) = device {
        return store.hit("login-device", &device.id, per_user, now).await;
    }
    let network = peer.network().to_string();
    let per_network = RateLimit::per_minute(pages.limits.address_failures_per_minute);
    let over_all_names = store
        .hit("login-network", &network, per_network, now)
        .await?;
    if over_all_names != Decision::Allowed {
        return Ok(over_all_names);
    }
    let key = format!("{name} {network}");
    store.hit("login", &key, per_user, now).await
}

/// Begins a session, and goes on with this request in it.
pub(in super::super) fn begin_session(
    pages: &Pages,
    user: User,
    device: Option<Device>,
    query: &str,
) -> Result<Response, OAuthError> {
    let (core, now) = (&pages.core, pages.core.clock.now());
    let device = Device::after_login(device, &user.subject, now)?;
    trace::subject(&user.subject);
    let session = Session::begin(user, now)?;
    let cookies = &pages.cookies;
    // Never where the form was: somebody else may have sent the browser there.
    let place = cookies.next_place()?;
    let mut response = see_other(&pages.url(&place, &format!("/authorize?{query}")));
    let session = cookies.set_session(
        &place,
        &session.to_cookie(&core.pepper),
        session::LIFETIME_SECONDS.into(),
    );
    let device = cookies.set_device(
        &place,
        &device.to_cookie(&core.pepper),
        device::LIFETIME_SECONDS.into(),
    );
    for cookie in [session, device].into_iter().flatten() {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    audit::record(Event::LoggedIn);
    Ok(response)
}

fn ask_again(
    pages: &Pages,
    pending: &Pending,
    visit: &Visit,
    username: &str,
    refused: &Attempt,
) -> Response {
    let (status, text) = match refused {
        Attempt::TooMany(_) => (
            StatusCode::TOO_MANY_REQUESTS,
            "Too many attempts. Wait a minute and try again.",
        ),
        Attempt::Busy => (
            StatusCode::SERVICE_UNAVAILABLE,
            "Too many people are signing in at the moment. Try again in a few seconds.",
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
    let page = page(pages, pending, visit, &last);
    let mut response = page.unwrap_or_else(|error| pending.refuse_unasked(pages, &error));
    response
        .extensions_mut()
        .insert(Refused::new("access_denied", text));
    if let Attempt::TooMany(wait) = refused {
        let wait = error::retry_after(*wait);
        response.headers_mut().insert(header::RETRY_AFTER, wait);
    }
    response
}
