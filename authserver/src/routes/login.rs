//! `POST /login`: a user name and a password for a session.

use std::num::NonZeroU32;

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode, header};

use super::authorize::{Pending, login_page};
use super::{Peer, Shared, see_other};
use crate::app::App;
use crate::body::Form;
use crate::consent_ticket::{Purpose, Ticket};
use crate::error::{self, OAuthError};
use crate::login::Login;
use crate::login::session::{LIFETIME_SECONDS, Session};
use crate::pages;
use crate::rate_limit::{Decision, RateLimit};

/// Passwords for one user from one address, in a minute. Right ones count, too: guesses that come
/// together are counted before the first is known to be wrong.
const ATTEMPTS: RateLimit = RateLimit::per_minute(NonZeroU32::MIN.saturating_add(9));

pub(super) async fn login(State(app): State<Shared>, peer: Peer, form: Form) -> Response {
    let Form { headers, params } = form;
    let ticket = Ticket::open(
        &app.pepper,
        Purpose::Login,
        params.get("ticket"),
        app.cookies.form(&headers),
        app.clock.now(),
    );
    let Some(ticket) = ticket else {
        return stale_form();
    };
    let pending = match Pending::load(&app, &ticket.query).await {
        Ok(pending) => pending,
        Err(page) => return page,
    };
    let name = params.get("username").unwrap_or_default();
    let password = params.get("password").unwrap_or_default();
    match attempt(&app, &peer, name, password).await {
        Ok(Attempt::Accepted(mark)) => match begin_session(&app, name, mark, &ticket.query) {
            Ok(response) => response,
            Err(error) => pending.refuse(&app, &error),
        },
        Ok(refused) => refuse(&app, &pending, &headers, &refused),
        Err(error) => pending.refuse(&app, &error),
    }
}

/// The page for a form that is not this browser's, too old, or changed.
pub(super) fn stale_form() -> Response {
    let message = "The page was open for too long, or does not belong to this browser. Go back to the application and connect again.";
    pages::error(
        StatusCode::BAD_REQUEST,
        "This page is no longer valid",
        message,
    )
}

enum Attempt {
    /// With the mark of the password.
    Accepted(String),
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
    let away = |error| {
        tracing::error!(%error, "users cannot be looked up");
        OAuthError::unavailable("users cannot be looked up")
    };
    // Counted when it is its turn: else who goes away early could make us count without end.
    let turn = users.turn().await.map_err(away)?;
    let (key, now) = (format!("{name} {}", peer.network()), app.clock.now());
    if let Decision::Refused { retry_after } = app.store.hit("login", &key, ATTEMPTS, now).await? {
        app.metrics.login("limited");
        return Ok(Attempt::TooMany(retry_after));
    }
    let verified = users.verify(turn, name, password.to_owned()).await;
    let accepted = verified.map_err(away)?;
    if let Some(mark) = accepted {
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

fn refuse(app: &App, pending: &Pending, headers: &HeaderMap, refused: &Attempt) -> Response {
    let (status, text) = match refused {
        Attempt::TooMany(_) => (
            StatusCode::TOO_MANY_REQUESTS,
            "Too many attempts. Wait a minute and try again.",
        ),
        _ => (StatusCode::UNAUTHORIZED, "User name or password is wrong."),
    };
    let page = login_page(app, pending, headers, status, Some(text));
    let mut response = page.unwrap_or_else(|error| pending.refuse(app, &error));
    if let Attempt::TooMany(wait) = refused {
        let wait = error::retry_after(*wait);
        response.headers_mut().insert(header::RETRY_AFTER, wait);
    }
    response
}
