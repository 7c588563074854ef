//! Outcomes of a call to the admin API.

use bytes::Bytes;
use http::StatusCode;
use mcpauth_api::conditions::reasons;
use mcpauth_wire::admin::ErrorAnswer;

use super::server::Server;
use crate::problem::{Problem, Retry};

/// Why a call failed. No variant contains what was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The server cannot be reached, or does not respond.
    #[error("{0}")]
    Silent(String),
    /// The server responds with an error of its own.
    #[error("{0}")]
    Unreachable(String),
    /// The server does not accept the operator's credentials.
    #[error("{0}")]
    NotAdmitted(String),
    /// Another resource has the same URL.
    #[error("{0}")]
    Conflict(String),
    /// The server rejects what was sent.
    #[error("{0}")]
    Refused(String),
}

impl CallError {
    /// The kind of failure as one word, for logs.
    pub const fn outcome(&self) -> &'static str {
        match self {
            Self::Silent(_) | Self::Unreachable(_) => "unreachable",
            Self::NotAdmitted(_) => "not_admitted",
            Self::Conflict(_) => "conflict",
            Self::Refused(_) => "refused",
        }
    }
}

impl From<CallError> for Problem {
    fn from(error: CallError) -> Self {
        match error {
            // A probe notices when it responds again; the object is then reconciled at once.
            CallError::Silent(why) => Self {
                retry: Retry::Probe,
                ..Self::unreachable(reasons::AUTH_SERVER_UNREACHABLE, why)
            },
            CallError::Unreachable(why) => Self::unreachable(reasons::AUTH_SERVER_UNREACHABLE, why),
            CallError::NotAdmitted(why) => Self::outage(reasons::AUTH_SERVER_REFUSED, why),
            CallError::Conflict(why) => Self::person(reasons::RESOURCE_CONFLICT, why),
            CallError::Refused(why) => Self::person(reasons::AUTH_SERVER_REFUSED, why),
        }
    }
}

/// Interprets a response.
pub fn judge(server: &Server, status: StatusCode, body: Bytes) -> Result<Bytes, CallError> {
    if status.is_success() {
        return Ok(body);
    }
    let said = serde_json::from_slice(&body)
        .map(|e: ErrorAnswer| format!("{}: {}", e.error, e.error_description))
        .unwrap_or_default();
    Err(match status {
        StatusCode::CONFLICT => CallError::Conflict(format!(
            "McpAuthServer {server} reports a conflict: {said}. Give each ProtectedMcpServer another spec.resource"
        )),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => CallError::NotAdmitted(format!(
            "McpAuthServer {server} rejects the operator ({status}): the operator's ServiceAccount is not \
             one of its admins. This passes by itself while pods of the McpAuthServer are replaced after a change of installation; \
             otherwise another installation of the operator manages the McpAuthServer: see its annotation \
             mcpauth.io/claimed-by"
        )),
        _ if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
            CallError::Refused(format!(
                "McpAuthServer {server} rejected the registration: {status} {said}"
            ))
        }
        _ => CallError::Unreachable(format!(
            "McpAuthServer {server} returned an error: {status} {said}; see the logs of its pods. Retrying"
        )),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Server {
        Server {
            namespace: "default".into(),
            name: "auth".into(),
        }
    }

    fn judged(code: u16, body: &'static str) -> Result<Bytes, CallError> {
        judge(
            &server(),
            StatusCode::from_u16(code).unwrap(),
            Bytes::from_static(body.as_bytes()),
        )
    }

    #[test]
    fn answers_are_told_apart_by_who_can_mend_them() {
        let body = r#"{"error":"conflict","error_description":"a.b has that resource"}"#;
        assert!(
            matches!(judged(409, body), Err(CallError::Conflict(m)) if m.contains("a.b has that"))
        );
        assert!(matches!(judged(400, body), Err(CallError::Refused(_))));
        assert!(matches!(judged(403, ""), Err(CallError::NotAdmitted(_))));
        for code in [429, 500, 502, 503] {
            assert!(matches!(
                judged(code, "<html>"),
                Err(CallError::Unreachable(_))
            ));
        }
        assert!(judged(204, "").is_ok());
    }

    #[test]
    fn only_what_a_person_must_mend_degrades() {
        assert!(Problem::from(CallError::Conflict("x".into())).degraded);
        assert!(Problem::from(CallError::Refused("x".into())).degraded);
        assert!(!Problem::from(CallError::Unreachable("x".into())).degraded);
    }
}
