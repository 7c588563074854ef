//! Binds forms to the browser that they were sent to.

use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{StatusCode, header};

use super::{Pages, templates};
use crate::http::error::Refused;
use crate::http::visit::Visit;
use crate::oauth::error::OAuthError;
use crate::random;

/// The page for a form that this server did not create, or that was sent without the form cookie.
pub(super) fn stale() -> Response {
    let message = "It was reloaded or opened in another browser, or this browser blocks cookies. Go back to the application and connect again.";
    let title = "This page is no longer valid";
    let mut page = templates::error(StatusCode::BAD_REQUEST, title, message);
    let reason = "the form is not one of this server's, or came without its cookie";
    page.extensions_mut()
        .insert(Refused::new("invalid_request", reason));
    page
}

/// Renders a form bound to the browser's form cookie, which is set when there is none.
pub(super) fn with_cookie(
    pages: &Pages,
    visit: &Visit,
    render: impl FnOnce(&str) -> Response,
) -> Result<Response, OAuthError> {
    if let Some(cookie) = pages
        .cookies
        .form(&visit.headers)
        .filter(|cookie| !cookie.is_empty())
    {
        return Ok(render(cookie));
    }
    let cookie = URL_SAFE_NO_PAD.encode(random::bytes::<32>()?);
    let mut response = render(&cookie);
    if let Some(set) = pages.cookies.set_form(&visit.place, &cookie) {
        response.headers_mut().append(header::SET_COOKIE, set);
    }
    Ok(response)
}
