//! The error codes of OAuth and its extensions, and what each tells the client's developer.
//!
//! How an error becomes an HTTP response is written in `http/error.rs`; in the redirect back to a client
//! (RFC 6749, section 4.1.2.1) code and description are query parameters.

use std::borrow::Cow;

use crate::oauth::grant::Refusal;
use crate::oauth::params::ParamsError;
use crate::random::RandomError;

/// What is wrong with the request. Printable ASCII without double quote and backslash (RFC 6749,
/// section 5.2).
pub type Description = Cow<'static, str>;

/// One variant for each error code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OAuthError {
    /// RFC 6749, section 5.2: a parameter is missing, repeated or malformed.
    InvalidRequest(Description),
    /// RFC 6749, section 5.2. It has one description for every cause, so that nobody learns which clients
    /// exist.
    InvalidClient,
    /// RFC 6749, section 5.2: the code or refresh token is not honoured.
    InvalidGrant(Description),
    /// RFC 6749, section 5.2: the client may not use this grant type.
    UnauthorizedClient(Description),
    /// RFC 6749, section 5.2.
    UnsupportedGrantType(Description),
    /// RFC 6749, section 5.2.
    InvalidScope(Description),
    /// RFC 8707, section 2: the resource is unknown, missing or not for this client.
    InvalidTarget(Description),
    /// RFC 6749, section 4.1.2.1: the user or the server denied the request.
    AccessDenied(Description),
    /// RFC 6749, section 4.1.2.1.
    UnsupportedResponseType(Description),
    /// OpenID Connect Core, section 3.1.2.6: `prompt=none`, and no session.
    LoginRequired,
    /// OpenID Connect Core, section 3.1.2.6: `prompt=none`, and consent is always asked for.
    ConsentRequired,
    /// OpenID Connect Core, section 3.1.2.6.
    RequestNotSupported,
    /// OpenID Connect Core, section 3.1.2.6.
    RequestUriNotSupported,
    /// RFC 7591, section 3.2.2.
    InvalidRedirectUri(Description),
    /// RFC 7591, section 3.2.2.
    InvalidClientMetadata(Description),
    /// RFC 6749, section 4.1.2.1: something that the server needs is unavailable; a retry may succeed.
    TemporarilyUnavailable(Description),
    /// RFC 6749, section 4.1.2.1: an internal error, which is in the server's log.
    ServerError,
}

impl OAuthError {
    /// The code, as RFCs spell it.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::InvalidRequest(_) => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant(_) => "invalid_grant",
            Self::UnauthorizedClient(_) => "unauthorized_client",
            Self::UnsupportedGrantType(_) => "unsupported_grant_type",
            Self::InvalidScope(_) => "invalid_scope",
            Self::InvalidTarget(_) => "invalid_target",
            Self::AccessDenied(_) => "access_denied",
            Self::UnsupportedResponseType(_) => "unsupported_response_type",
            Self::LoginRequired => "login_required",
            Self::ConsentRequired => "consent_required",
            Self::RequestNotSupported => "request_not_supported",
            Self::RequestUriNotSupported => "request_uri_not_supported",
            Self::InvalidRedirectUri(_) => "invalid_redirect_uri",
            Self::InvalidClientMetadata(_) => "invalid_client_metadata",
            Self::TemporarilyUnavailable(_) => "temporarily_unavailable",
            Self::ServerError => "server_error",
        }
    }

    /// `error_description`.
    pub fn description(&self) -> &str {
        match self {
            Self::InvalidRequest(text)
            | Self::InvalidGrant(text)
            | Self::UnauthorizedClient(text)
            | Self::UnsupportedGrantType(text)
            | Self::InvalidScope(text)
            | Self::InvalidTarget(text)
            | Self::AccessDenied(text)
            | Self::UnsupportedResponseType(text)
            | Self::InvalidRedirectUri(text)
            | Self::InvalidClientMetadata(text)
            | Self::TemporarilyUnavailable(text) => text,
            Self::InvalidClient => {
                "client authentication failed: the client is unknown, or its secret, key or authentication method does not match its registration; register the client again"
            }
            Self::LoginRequired => {
                "the user is not signed in, and prompt=none does not allow a sign-in page"
            }
            Self::ConsentRequired => {
                "the user has not consented, and prompt=none does not allow a consent page"
            }
            Self::RequestNotSupported => {
                "request objects are not supported; send the parameters directly"
            }
            Self::RequestUriNotSupported => {
                "request_uri is not supported; send the parameters directly"
            }
            Self::ServerError => "internal error; see the authorization server's log",
        }
    }
}

impl std::fmt::Display for OAuthError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code(), self.description())
    }
}

impl std::error::Error for OAuthError {}

impl From<Refusal> for OAuthError {
    fn from(refusal: Refusal) -> Self {
        let text = refusal.to_string().into();
        match refusal {
            Refusal::Resource => Self::InvalidTarget(text),
            Refusal::Scope => Self::InvalidScope(text),
            Refusal::Unknown
            | Refusal::AnotherClient
            | Refusal::Expired
            | Refusal::Reused
            | Refusal::TooManyAttempts
            | Refusal::RedirectUri
            | Refusal::CodeVerifier => Self::InvalidGrant(text),
        }
    }
}

impl From<ParamsError> for OAuthError {
    fn from(error: ParamsError) -> Self {
        Self::InvalidRequest(error.to_string().into())
    }
}

impl From<RandomError> for OAuthError {
    fn from(error: RandomError) -> Self {
        tracing::error!(%error, "cannot create a token or identifier");
        Self::ServerError
    }
}
