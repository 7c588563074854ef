//! A variable segment of a path, such as an id.

use axum::extract::{FromRequestParts, Path};
use http::request::Parts;

use crate::http::error::HttpError;
use crate::oauth::error::OAuthError;

/// The decoded segment of a route that has one.
pub struct Segment(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, HttpError> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(segment)| Self(segment)).map_err(|_| {
            let text = "the path must be percent-encoded UTF-8";
            OAuthError::InvalidRequest(text.into()).into()
        })
    }
}
