//! `POST /consent`: the user's decision.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use mcpauth_wire::Scopes;

use super::pending::{Asked, Pending};
use super::templates::{self, ConsentPage, ScopeLine};
use super::{Pages, form};
use crate::audit::Event;
use crate::http::audit;
use crate::http::body::Form;
use crate::http::redirect::see_other;
use crate::http::trace;
use crate::http::visit::Visit;
use crate::login::session::Session;
use crate::login::ticket::{Purpose, Shown, Ticket};
use crate::oauth::authorization::AuthorizationRequest;
use crate::oauth::client::ClientOrigin;
use crate::oauth::error::OAuthError;
use crate::oauth::redirect_uri;
use crate::oauth::resource::Resource;

pub(in super::super) async fn consent(
    State(pages): State<Arc<Pages>>,
    visit: Visit,
    form: Form,
) -> Response {
    let params = form.params;
    let core = &pages.core;
    let ticket = Ticket::read(&core.pepper, Purpose::Consent, params.get("ticket"));
    let (Some(ticket), Some(cookie)) = (ticket, pages.cookies.form(&visit.headers)) else {
        return form::stale();
    };
    // The request has changed since the user saw it: show the page again.
    let again = || see_other(&pages.url(&visit.place, &format!("/authorize?{}", ticket.query)));
    if !ticket.is_current(cookie, core.clock.now()) {
        return again();
    }
    // The request is checked once more: client or resource may have changed since the page was shown.
    let pending = match Pending::load(&pages, &ticket.query).await {
        Ok(pending) => pending,
        Err(page) => return page,
    };
    let request = match &pending.request {
        Ok(request) => request,
        Err(error) => return pending.refuse(&pages, error),
    };
    let session = match pages.session(&visit.headers).await {
        Ok(session) => session,
        Err(error) => return pending.refuse(&pages, &error.into()),
    };
    let unchanged = |session: &Session| {
        let shown = ticket.shown.as_ref();
        shown.is_some_and(|shown| shown.is(request, &session.id))
    };
    let Some(session) = session.filter(unchanged) else {
        return again();
    };
    if params.get("decision") != Some("allow") {
        let denied = OAuthError::AccessDenied("the user did not consent".into());
        trace::subject(&session.subject);
        audit::about(|about| about.scopes(request.scopes.iter()));
        audit::record(Event::ConsentDenied);
        return pending.refuse(&pages, &denied);
    }
    let (user, at) = (session.user(), session.began_at());
    let approved = pending
        .approve(&pages, request, &user, at, Asked::Yes)
        .await;
    approved.unwrap_or_else(|error| pending.refuse(&pages, &error))
}

pub(in super::super) fn page(
    pages: &Pages,
    pending: &Pending,
    request: &AuthorizationRequest,
    session: &Session,
    visit: &Visit,
) -> Result<Response, OAuthError> {
    let scopes = request.effective_scopes();
    let lines = scope_lines(&scopes, &request.resource);
    let shown = Shown {
        resource: request.resource.resource.clone(),
        scopes,
        session_id: session.id.clone(),
    };
    let query = pending.params.to_query();
    let switch_user = format!("/authorize?{}&prompt=login", pending.after_login());
    let redirect_uri = &pending.target.redirect_uri;
    let core = &pages.core;
    form::with_cookie(pages, visit, |cookie| {
        let ticket = Ticket::new(query, Some(shown), cookie, core.clock.now());
        let page = ConsentPage {
            client_name: pending.client_name(),
            client_id: &pending.client.client_id,
            self_registered: pending.client.origin == ClientOrigin::Dynamic,
            destination: &redirect_uri::destination(redirect_uri),
            on_this_computer: !redirect_uri.starts_with("https://"),
            resource_name: &request.resource.name,
            resource: &request.resource.resource,
            scopes: &lines,
            subject: &session.subject,
            switch_user: &pages.url(&visit.place, &switch_user),
            action: &pages.url(&visit.place, "/consent"),
            ticket: &ticket.to_field(&core.pepper, Purpose::Consent),
        };
        templates::render(StatusCode::OK, &page)
    })
}

fn scope_lines(scopes: &Scopes, resource: &Resource) -> Vec<ScopeLine> {
    let describe = |name: &str| match name {
        "openid" => "Know who you are",
        "offline_access" => "Stay connected while you are away",
        name => {
            let mut known = resource.scopes.iter();
            let known = known.find(|scope| scope.name == name);
            known.map_or("", |scope| scope.description.as_str())
        }
    };
    let line = |name: &str| match describe(name) {
        "" => ScopeLine {
            description: name.to_owned(),
            name: None,
        },
        text => ScopeLine {
            description: text.to_owned(),
            name: Some(name.to_owned()),
        },
    };
    // For a resource without scopes, every token allows everything.
    let whole = resource.scopes.is_empty().then(|| ScopeLine {
        description: "Use all features".to_owned(),
        name: None,
    });
    whole.into_iter().chain(scopes.iter().map(line)).collect()
}
