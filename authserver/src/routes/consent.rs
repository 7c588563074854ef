//! `POST /consent`: the user's decision.

use axum::extract::State;
use axum::response::Response;

use super::authorize::Pending;
use super::login::stale_form;
use super::{Shared, see_other};
use crate::body::Form;
use crate::consent_ticket::{Purpose, Ticket};
use crate::error::OAuthError;
use crate::login::session::{self, Session};

pub(super) async fn consent(State(app): State<Shared>, form: Form) -> Response {
    let Form { headers, params } = form;
    let ticket = Ticket::read(&app.pepper, Purpose::Consent, params.get("ticket"));
    let (Some(ticket), Some(cookie)) = (ticket, app.cookies.form(&headers)) else {
        return stale_form();
    };
    // What the user saw no longer holds: the page comes again, as it is now.
    let again = || see_other(&app.issuer.url(&format!("/authorize?{}", ticket.query)));
    if !ticket.is_current(cookie, app.clock.now()) {
        return again();
    }
    // The request is checked once more: client or resource may have changed since the page was shown.
    let pending = match Pending::load(&app, &ticket.query).await {
        Ok(pending) => pending,
        Err(page) => return page,
    };
    let request = match &pending.request {
        Ok(request) => request,
        Err(error) => return pending.refuse(&app, error),
    };
    let session = match session::of(&app, &headers).await {
        Ok(session) => session,
        Err(error) => return pending.refuse(&app, &error.into()),
    };
    let unchanged = |session: &Session| {
        let shown = ticket.shown.as_ref();
        shown.is_some_and(|shown| shown.is(request, &session.id))
    };
    let Some(session) = session.filter(unchanged) else {
        return again();
    };
    if params.get("decision") != Some("allow") {
        let denied = OAuthError::bad("access_denied", "the user did not consent");
        return pending.refuse(&app, &denied);
    }
    let approved = pending.approve(&app, request, &session.subject).await;
    approved.unwrap_or_else(|error| pending.refuse(&app, &error))
}
