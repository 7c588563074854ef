//! From errors to HTTP responses: status, headers, and `{"error": CODE, "error_description": TEXT}` (RFC
//! 6749, section 5.2).

use std::borrow::Cow;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use crate::login::LoginError;
use crate::oauth::error::OAuthError;
use crate::oauth::params::ParamsError;
use crate::random::RandomError;
use crate::store::StoreError;

/// How long a client should wait before it tries again after a 503.
pub const RETRY_UNAVAILABLE: Duration = Duration::from_secs(1);

/// An error response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpError {
    /// An OAuth error.
    OAuth(OAuthError),
    /// `invalid_client` for credentials in the `Authorization` header: the response needs a challenge (RFC
    /// 6749, section 5.2).
    InvalidBasicCredentials,
    /// Public introspection: no caller has this id and secret.
    UnknownCaller,
    /// Registration: there is no token in the request; the text says which one is needed.
    TokenMissing(&'static str),
    /// Registration: the token is wrong; the text says which one is needed.
    WrongToken(&'static str),
    /// Over a rate limit; the next request is allowed after this time.
    TooManyRequests(Duration),
    /// There are as many self-registered clients as there may be, and all are in use.
    RegistrationFull,
    /// The form or document is larger than the endpoint accepts.
    BodyTooLarge,
    /// No such endpoint, resource or client: the text says which.
    NotFound(&'static str),
    /// The endpoint does not support this method.
    MethodNotAllowed,
    /// Internal port: the request is not authenticated; the text says what is wrong.
    Unauthenticated(&'static str),
    /// Admin API: this principal is not an administrator.
    NotAdmin(String),
    /// Admin API: the document is not a valid resource.
    InvalidResource(String),
    /// Admin API: the document contradicts what is stored.
    Conflict(String),
}

/// Why a request was refused, for the log and the audit: an extension of the response.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The error code.
    pub error: &'static str,
    /// The text beside it.
    pub reason: String,
    /// Whether the log has it.
    pub logged: bool,
}

impl Refused {
    /// Not logged yet.
    pub fn new(error: &'static str, reason: impl Into<String>) -> Self {
        Self {
            error,
            reason: reason.into(),
            logged: false,
        }
    }
}

impl From<&OAuthError> for Refused {
    fn from(error: &OAuthError) -> Self {
        Self::new(error.code(), error.description())
    }
}

/// The status and the body of an error response.
struct ErrorBody<'a> {
    status: StatusCode,
    code: &'static str,
    description: Cow<'a, str>,
}

impl HttpError {
    /// The status.
    pub fn status(&self) -> StatusCode {
        self.error_body().status
    }

    fn error_body(&self) -> ErrorBody<'_> {
        let (status, code, description) = match self {
            Self::OAuth(error) => (status(error), error.code(), error.description().into()),
            Self::InvalidBasicCredentials => {
                let error = OAuthError::InvalidClient;
                let description = error.description().to_owned();
                (status(&error), error.code(), description.into())
            }
            Self::UnknownCaller => (
                StatusCode::UNAUTHORIZED,
                OAuthError::InvalidClient.code(),
                "send the id and the secret of an introspection caller with HTTP Basic: one of them is wrong or missing"
                    .into(),
            ),
            Self::TooManyRequests(_) => (
                StatusCode::TOO_MANY_REQUESTS,
                "temporarily_unavailable",
                "too many requests; wait for the number of seconds in Retry-After".into(),
            ),
            Self::RegistrationFull => (
                StatusCode::SERVICE_UNAVAILABLE,
                "temporarily_unavailable",
                "the maximum number of self-registered clients is reached, and all of them are in use; ask an \
                 administrator to register the client, or to raise registration.dynamic.maxClients"
                    .into(),
            ),
            Self::BodyTooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "invalid_request",
                "the request body is too large".into(),
            ),
            Self::NotFound(text) => (StatusCode::NOT_FOUND, "not_found", (*text).into()),
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                "invalid_request",
                "this endpoint does not support the method; the Allow header lists those that it supports".into(),
            ),
            Self::Unauthenticated(text) | Self::TokenMissing(text) | Self::WrongToken(text) => {
                (StatusCode::UNAUTHORIZED, "invalid_token", (*text).into())
            }
            Self::NotAdmin(principal) => (
                StatusCode::FORBIDDEN,
                "access_denied",
                format!("{principal} is not an administrator; add it to internal.admins").into(),
            ),
            Self::InvalidResource(text) => {
                (StatusCode::BAD_REQUEST, "invalid_resource", text.into())
            }
            Self::Conflict(text) => (StatusCode::CONFLICT, "conflict", text.into()),
        };
        ErrorBody {
            status,
            code,
            description,
        }
    }

    /// `WWW-Authenticate`.
    fn challenge(&self) -> Option<&'static str> {
        match self {
            Self::InvalidBasicCredentials => Some("Basic realm=\"token\""),
            Self::UnknownCaller => Some("Basic realm=\"introspection\""),
            // Without an error code, for a client that did not know (RFC 6750, section 3.1).
            Self::TokenMissing(_) => Some("Bearer realm=\"registration\""),
            Self::WrongToken(_) => Some("Bearer realm=\"registration\", error=\"invalid_token\""),
            Self::Unauthenticated(_) => Some("Bearer realm=\"internal\", Basic realm=\"internal\""),
            _ => None,
        }
    }

    /// How long to wait before a retry.
    fn retry(&self) -> Option<Duration> {
        match self {
            Self::OAuth(OAuthError::TemporarilyUnavailable(_)) => Some(RETRY_UNAVAILABLE),
            Self::TooManyRequests(wait) => Some(*wait),
            _ => None,
        }
    }
}

fn status(error: &OAuthError) -> StatusCode {
    match error {
        OAuthError::InvalidClient => StatusCode::UNAUTHORIZED,
        OAuthError::TemporarilyUnavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        OAuthError::ServerError => StatusCode::INTERNAL_SERVER_ERROR,
        OAuthError::InvalidRequest(_)
        | OAuthError::InvalidGrant(_)
        | OAuthError::UnauthorizedClient(_)
        | OAuthError::UnsupportedGrantType(_)
        | OAuthError::InvalidScope(_)
        | OAuthError::InvalidTarget(_)
        | OAuthError::AccessDenied(_)
        | OAuthError::UnsupportedResponseType(_)
        | OAuthError::LoginRequired
        | OAuthError::ConsentRequired
        | OAuthError::RequestNotSupported
        | OAuthError::RequestUriNotSupported
        | OAuthError::InvalidRedirectUri(_)
        | OAuthError::InvalidClientMetadata(_) => StatusCode::BAD_REQUEST,
    }
}

impl std::fmt::Display for HttpError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = self.error_body();
        write!(f, "{}: {}", parts.code, parts.description)
    }
}

impl std::error::Error for HttpError {}

impl From<OAuthError> for HttpError {
    fn from(error: OAuthError) -> Self {
        Self::OAuth(error)
    }
}

impl From<StoreError> for HttpError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict(text) => Self::Conflict(text),
            other => Self::OAuth(other.into()),
        }
    }
}

impl From<RandomError> for HttpError {
    fn from(error: RandomError) -> Self {
        Self::OAuth(error.into())
    }
}

impl From<ParamsError> for HttpError {
    fn from(error: ParamsError) -> Self {
        Self::OAuth(error.into())
    }
}

impl From<LoginError> for HttpError {
    fn from(error: LoginError) -> Self {
        Self::OAuth(error.into())
    }
}

impl From<StoreError> for OAuthError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) | StoreError::ReadOnly(_) | StoreError::Misconfigured(_) => {
                tracing::error!(%error, "storage is unavailable");
                let text = "the authorization server cannot reach its storage; try again";
                Self::TemporarilyUnavailable(text.into())
            }
            StoreError::TooNew(_) => {
                tracing::error!(%error, "only a newer version can answer");
                let text = "the authorization server is being updated; try again";
                Self::TemporarilyUnavailable(text.into())
            }
            // 503 would invite the client to present the code again, and that ends its family.
            StoreError::Unconfirmed(_) => {
                tracing::error!(%error, "a redemption is in doubt");
                let text =
                    "the storage did not confirm that the code was redeemed; authorize again";
                Self::InvalidGrant(text.into())
            }
            // The client or the resource was deleted while the request was under way.
            StoreError::Conflict(text) => Self::AccessDenied(text.into()),
            StoreError::Internal(_) | StoreError::Random(_) => {
                tracing::error!(%error, "a storage operation failed");
                Self::ServerError
            }
        }
    }
}

impl From<LoginError> for OAuthError {
    fn from(error: LoginError) -> Self {
        tracing::error!(%error, "cannot look up a user");
        let text = "the authorization server cannot look up its users; try again";
        Self::TemporarilyUnavailable(text.into())
    }
}

/// `Retry-After`: whole seconds, rounded up, at least one.
pub fn retry_after(wait: Duration) -> HeaderValue {
    HeaderValue::from(wait.as_millis().div_ceil(1000).clamp(1, 86_400) as u32)
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let parts = self.error_body();
        let body = json!({ "error": parts.code, "error_description": parts.description });
        let refused = Refused::new(parts.code, parts.description);
        let mut response = (parts.status, Extension(refused), Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(challenge) = self.challenge() {
            let challenge = HeaderValue::from_static(challenge);
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(wait) = self.retry() {
            headers.insert(header::RETRY_AFTER, retry_after(wait));
        }
        response
    }
}
