//! Sources of the claims about a token.

pub mod introspection;

use std::path::PathBuf;

use http::StatusCode;
use mcpauth_wire::introspection::Answer;

use introspection::Introspector;

/// A source of claims about tokens. How claims are validated for this resource does not depend on
/// the source.
#[derive(Clone, Debug)]
pub enum TokenSource {
    /// The authorization server's introspection endpoint (RFC 7662).
    Introspection(Introspector),
}

/// Why a source has no answer. None of these messages contains a token.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The proxy's own credential cannot be read.
    #[error("cannot read the proxy's own credential {path}: {reason}")]
    Credential {
        /// The file.
        path: PathBuf,
        /// Why it cannot be used.
        reason: String,
    },
    /// The endpoint does not accept the proxy's credential.
    #[error(
        "the introspection endpoint rejected the proxy's own credential with status {0}; \
         check that the resource lists this proxy in introspectors"
    )]
    Rejected(StatusCode),
    /// The endpoint answered with an error.
    #[error("the introspection endpoint returned status {0}")]
    Status(StatusCode),
    /// The endpoint cannot be reached, or the connection broke.
    #[error("cannot reach the introspection endpoint: {0}")]
    Transport(String),
    /// The answer does not follow RFC 7662.
    #[error("the response of the introspection endpoint is malformed: {0}")]
    Malformed(String),
    /// There was no answer in time.
    #[error(
        "the introspection endpoint did not respond in time; \
         check that it is up, or raise `introspection.timeoutMilliseconds`"
    )]
    Timeout,
    /// Too many tokens are waiting to be checked.
    #[error("too many tokens are waiting to be checked")]
    Busy,
}

impl TokenSource {
    /// The claims of `token`.
    ///
    /// # Errors
    /// There is no usable answer; the caller fails closed.
    pub async fn claims(&self, token: &str) -> Result<Answer, SourceError> {
        match self {
            Self::Introspection(introspector) => introspector.introspect(token).await,
        }
    }
}
