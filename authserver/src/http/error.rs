//! Errors as OAuth clients read them (OAuth 2.1, section 3.2.4): a code, a text, a status.

use std::borrow::Cow;
use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use crate::oauth::params::ParamsError;
use crate::random::RandomError;
use crate::store::StoreError;

/// `{"error": CODE, "error_description": TEXT}` with its status and headers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {description}")]
pub struct OAuthError {
    status: StatusCode,
    code: &'static str,
    description: Cow<'static, str>,
    challenge: Option<&'static str>,
    retry_after: Option<Duration>,
}

impl OAuthError {
    /// With this status, code and text. The text is for the client's developer and must be ASCII.
    pub fn new(
        status: StatusCode,
        code: &'static str,
        description: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status,
            code,
            description: description.into(),
            challenge: None,
            retry_after: None,
        }
    }

    /// 400 with this code.
    pub fn bad(code: &'static str, description: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, description)
    }

    /// 400 `invalid_request`.
    pub fn invalid_request(description: impl Into<Cow<'static, str>>) -> Self {
        Self::bad("invalid_request", description)
    }

    /// 401 `invalid_client`: one text for everything, so that nobody learns which clients exist. With a
    /// challenge when the client used the `Authorization` header (OAuth 2.1, section 3.2.4).
    pub fn invalid_client(basic: bool) -> Self {
        let mut error = Self::new(
            StatusCode::UNAUTHORIZED,
            "invalid_client",
            "client authentication failed: the client is unknown, or this is not its secret, key or registered method; register again",
        );
        error.challenge = basic.then_some("Basic realm=\"token\"");
        error
    }

    /// 401 on the internal port.
    pub fn unauthenticated(description: &'static str) -> Self {
        let mut error = Self::new(StatusCode::UNAUTHORIZED, "invalid_token", description);
        error.challenge = Some("Bearer realm=\"internal\", Basic realm=\"internal\"");
        error
    }

    /// 429 with `Retry-After`.
    pub fn too_many_requests(retry_after: Duration) -> Self {
        let mut error = Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "temporarily_unavailable",
            "too many requests; try again after the seconds in Retry-After",
        );
        error.retry_after = Some(retry_after);
        error
    }

    /// 503 with `Retry-After`.
    pub fn unavailable(description: impl Into<Cow<'static, str>>) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let mut error = Self::new(status, "temporarily_unavailable", description);
        error.retry_after = Some(Duration::from_secs(1));
        error
    }

    /// 500 `server_error`. What went wrong is in the log.
    pub fn server_error() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "server_error",
            "the authorization server failed; its log says more",
        )
    }

    /// The code.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The text.
    pub fn description(&self) -> &str {
        &self.description
    }
}

impl From<StoreError> for OAuthError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) | StoreError::Misconfigured(_) => {
                tracing::error!(%error, "the store does not answer");
                Self::unavailable("the authorization server's storage is away; try again")
            }
            StoreError::Conflict(text) => Self::new(StatusCode::CONFLICT, "conflict", text),
            StoreError::Random(error) => error.into(),
            StoreError::Internal(_) => {
                tracing::error!(%error, "the store failed");
                Self::server_error()
            }
        }
    }
}

impl From<RandomError> for OAuthError {
    fn from(error: RandomError) -> Self {
        tracing::error!(%error, "nothing can be issued");
        Self::server_error()
    }
}

impl From<ParamsError> for OAuthError {
    fn from(error: ParamsError) -> Self {
        Self::invalid_request(error.to_string())
    }
}

/// `Retry-After`: whole seconds, rounded up, at least one.
pub fn retry_after(wait: Duration) -> HeaderValue {
    HeaderValue::from(wait.as_millis().div_ceil(1000).clamp(1, 86_400) as u32)
}

impl IntoResponse for OAuthError {
    fn into_response(self) -> Response {
        let body = json!({ "error": self.code, "error_description": self.description });
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(challenge) = self.challenge {
            let challenge = HeaderValue::from_static(challenge);
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, retry_after(wait));
        }
        response
    }
}
