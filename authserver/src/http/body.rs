//! Bodies of requests: `application/x-www-form-urlencoded` as parameters, and JSON.

use std::fmt;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;

use crate::http::error::HttpError;
use crate::oauth::error::OAuthError;
use crate::oauth::params::Params;

/// Headers and parameters of a form. A query string is rejected as well, because URLs are logged everywhere and must
/// not contain secrets.
/// `Debug` shows only the names of parameters.
pub struct Form {
    /// The request's headers.
    pub headers: HeaderMap,
    /// The form's parameters.
    pub params: Params,
}

impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Form").field(&self.params).finish()
    }
}

impl<S: Send + Sync> FromRequest<S> for Form {
    type Rejection = HttpError;

    async fn from_request(request: Request, state: &S) -> Result<Self, HttpError> {
        let headers = request.headers().clone();
        let params = Params::parse(&form(request, state).await?)?;
        Ok(Self { headers, params })
    }
}

/// The body of a form.
///
/// # Errors
/// 400 when it is none, when there are parameters in the URL, or when the body does not arrive; 413 when it is too large.
pub async fn form<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, HttpError> {
    let (head, body) = request.into_parts();
    check_form(&head)?;
    read(Request::from_parts(head, body), state).await
}

/// Whether a request has a form, and all of its parameters in it.
///
/// # Errors
/// 400 when it does not.
pub(super) fn check_form(head: &Parts) -> Result<(), HttpError> {
    if head.uri.query().is_some_and(|query| !query.is_empty()) {
        let text = "parameters in the URL are not accepted; send them in the form";
        return Err(OAuthError::InvalidRequest(text.into()).into());
    }
    if !is_form(&head.headers) {
        let text = "the Content-Type must be application/x-www-form-urlencoded";
        return Err(OAuthError::InvalidRequest(text.into()).into());
    }
    Ok(())
}

/// A body as hyper has it, unless it is larger than `most`.
///
/// # Errors
/// 413 when it is too large, 400 when it does not arrive.
pub(super) async fn collect(body: Incoming, most: usize) -> Result<Bytes, HttpError> {
    let collected = Limited::new(body, most).collect().await;
    let collected = collected.map_err(|error| match error.is::<LengthLimitError>() {
        true => HttpError::BodyTooLarge,
        false => unreadable(),
    });
    Ok(collected?.to_bytes())
}

/// The body, unless it is larger than the route allows.
///
/// # Errors
/// 413 when it is too large, 400 when it does not arrive.
pub async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, HttpError> {
    Bytes::from_request(request, state)
        .await
        .map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => HttpError::BodyTooLarge,
            _ => unreadable(),
        })
}

fn unreadable() -> HttpError {
    OAuthError::InvalidRequest("the request body could not be read".into()).into()
}

fn is_form(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let media_type = content_type.and_then(|value| value.split(';').next());
    media_type.is_some_and(|media_type| {
        media_type
            .trim()
            .eq_ignore_ascii_case("application/x-www-form-urlencoded")
    })
}
