//! Why a request is not served, and what the client is told.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::auth::authorize::MissingScopes;
use crate::http::cors;
use crate::http::stream::Body;
use crate::mcp::absent::Absent;
use crate::mcp::era::{SUPPORTED, UNSUPPORTED_VERSION, Unsupported};
use crate::mcp::header_match::HEADER_MISMATCH;
use crate::mcp::message::Fault;

/// After how many seconds a client should try again when the authorization server is unavailable.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("2");

/// The JSON-RPC error code of what JSON-RPC has no code for.
const SERVER_ERROR: i32 = -32000;
/// The methods of the endpoint.
pub const ALL_METHODS: &str = "GET, POST, DELETE, OPTIONS";
/// Those that are left in MCP 2026-07-28.
pub const STATELESS_METHODS: &str = "POST, OPTIONS";

/// Why a request is not served.
#[derive(Debug, PartialEq)]
pub enum Refusal {
    /// No token.
    NoToken,
    /// The request is malformed (RFC 6750 section 3.1).
    InvalidRequest(&'static str),
    /// The token is not valid, with the reason.
    InvalidToken(&'static str),
    /// The access rules deny it.
    InsufficientScope(MissingScopes),
    /// The access rules deny it to everybody.
    Absent(Absent),
    /// The request comes from a web page whose origin is not allowed.
    OriginNotAllowed,
    /// The `Host` header names another host.
    HostNotServed,
    /// The path is not that of the endpoint.
    NotFound,
    /// The endpoint does not support this HTTP method, but these.
    MethodNotAllowed(&'static str),
    /// The session is unknown, or belongs to another caller.
    UnknownSession,
    /// The body has more than this many bytes.
    BodyTooLarge(u32),
    /// The body did not arrive in time.
    BodyTimeout,
    /// The body is compressed or not in UTF-8, so that the rules cannot be applied to it.
    BodyEncoded,
    /// The body is not JSON-RPC to which the rules can be applied.
    Body(Fault),
    /// A header contradicts the body. With the id of the message.
    HeaderMismatch(String, Option<Value>),
    /// There is no such revision of MCP. With the id of the message.
    UnsupportedVersion(Unsupported, Option<Value>),
    /// This subject has too many requests in flight.
    Busy,
    /// The token cannot be checked now.
    Unavailable,
    /// The MCP server cannot be reached.
    UpstreamUnavailable,
    /// The MCP server did not answer in time.
    UpstreamTimeout,
    /// The MCP server compressed a response that must be filtered, which it was asked not to do.
    UpstreamEncoded,
}

/// What every challenge says (RFC 6750 section 3, RFC 9728 section 5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The URL of the resource's metadata.
    pub resource_metadata: String,
    /// The scopes to ask for, with spaces between.
    pub scope: String,
}

impl Challenge {
    fn bearer(&self, error: Option<(&str, &str)>, scope: &str) -> String {
        let mut parts = Vec::new();
        if let Some((code, description)) = error {
            parts.push(format!("error=\"{code}\""));
            parts.push(format!("error_description=\"{description}\""));
        }
        if !scope.is_empty() {
            parts.push(format!("scope=\"{scope}\""));
        }
        parts.push(format!("resource_metadata=\"{}\"", self.resource_metadata));
        format!("Bearer {}", parts.join(", "))
    }
}

impl Refusal {
    /// Its name in metrics and logs.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::NoToken => "no_token",
            Self::InvalidRequest(_) => "invalid_request",
            Self::InvalidToken(_) => "invalid_token",
            Self::InsufficientScope(_) => "insufficient_scope",
            Self::Absent(_) => "denied",
            Self::OriginNotAllowed => "origin_not_allowed",
            Self::HostNotServed => "host_not_served",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed(_) => "method_not_allowed",
            Self::UnknownSession => "unknown_session",
            Self::BodyTooLarge(_) => "body_too_large",
            Self::BodyTimeout => "body_timeout",
            Self::BodyEncoded => "body_encoded",
            Self::Body(_) => "invalid_body",
            Self::HeaderMismatch(..) => "header_mismatch",
            Self::UnsupportedVersion(..) => "unsupported_version",
            Self::Busy => "busy",
            Self::Unavailable => "authorization_server_unavailable",
            Self::UpstreamUnavailable => "upstream_unavailable",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::UpstreamEncoded => "upstream_encoded",
        }
    }

    /// The reason, for logs. It contains no part of a token or a body.
    pub fn reason(&self) -> Cow<'_, str> {
        match self {
            Self::InvalidRequest(reason) | Self::InvalidToken(reason) => Cow::Borrowed(reason),
            Self::InsufficientScope(missing) => Cow::Owned(missing.to_string()),
            Self::Absent(absent) => Cow::Borrowed(absent.because),
            // The parser's message may quote the body.
            Self::Body(fault) => Cow::Owned(format!("JSON-RPC error {}", fault.code())),
            Self::BodyTooLarge(limit) => Cow::Owned(format!("more than {limit} bytes")),
            other => Cow::Borrowed(other.outcome()),
        }
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NoToken | Self::InvalidToken(_) => StatusCode::UNAUTHORIZED,
            Self::InvalidRequest(_)
            | Self::Body(_)
            | Self::HeaderMismatch(..)
            | Self::UnsupportedVersion(..) => StatusCode::BAD_REQUEST,
            Self::Absent(absent) => absent.status,
            Self::InsufficientScope(_) | Self::OriginNotAllowed => StatusCode::FORBIDDEN,
            Self::HostNotServed => StatusCode::MISDIRECTED_REQUEST,
            Self::NotFound | Self::UnknownSession => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::BodyEncoded => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Busy | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::UpstreamUnavailable | Self::UpstreamEncoded => StatusCode::BAD_GATEWAY,
            Self::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// The answer to the client. One of MCP 2026-07-28 reads every body as JSON-RPC.
    pub fn into_response(self, challenge: &Challenge, is_json_rpc: bool) -> Response<Body> {
        let status = self.status();
        let authenticate = self.challenge(challenge);
        let allow = match self {
            Self::MethodNotAllowed(methods) => Some(methods),
            _ => None,
        };
        let mut response = match self.body(is_json_rpc) {
            Some(body) => json_response(status, &body),
            None => cors::empty(status),
        };
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(value) = authenticate.and_then(|text| HeaderValue::try_from(text).ok()) {
            headers.insert(WWW_AUTHENTICATE, value);
        }
        if let Some(methods) = allow {
            headers.insert(ALLOW, HeaderValue::from_static(methods));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
        }
        response
    }

    fn challenge(&self, challenge: &Challenge) -> Option<String> {
        let all = &challenge.scope;
        match self {
            // Without a token there is no error code (RFC 6750 section 3.1).
            Self::NoToken => Some(challenge.bearer(None, all)),
            Self::InvalidToken(reason) => {
                Some(challenge.bearer(Some(("invalid_token", reason)), all))
            }
            Self::InvalidRequest(reason) => {
                Some(challenge.bearer(Some(("invalid_request", reason)), all))
            }
            Self::InsufficientScope(missing) => {
                let reason = "the token lacks a required scope";
                let scope = missing.to_ask_for.join(" ");
                Some(challenge.bearer(Some(("insufficient_scope", reason)), &scope))
            }
            _ => None,
        }
    }

    fn body(self, is_json_rpc: bool) -> Option<Value> {
        Some(match self {
            Self::Absent(absent) => return absent.body,
            Self::Body(fault) => {
                let (code, text) = (fault.code(), fault.to_string());
                let id = match fault {
                    Fault::Params { id, .. } => id,
                    Fault::Parse(_) | Fault::Invalid(_) => None,
                };
                json_rpc(code, &text, id.as_ref())
            }
            Self::HeaderMismatch(reason, id) => json_rpc(HEADER_MISMATCH, &reason, id.as_ref()),
            Self::UnsupportedVersion(Unsupported(requested), id) => {
                let mut body = json_rpc(
                    UNSUPPORTED_VERSION,
                    "Unsupported protocol version",
                    id.as_ref(),
                );
                body["error"]["data"] = json!({ "supported": SUPPORTED, "requested": requested });
                body
            }
            Self::UnknownSession => {
                let text = "session not found; start a new one with initialize";
                json_rpc(-32001, text, None)
            }
            other => other.oauth_body(is_json_rpc),
        })
    }

    /// A body with `error` and `error_description` (RFC 6749, section 5.2), or the same as JSON-RPC.
    fn oauth_body(&self, is_json_rpc: bool) -> Value {
        let (error, description) = self.describe();
        let mut members = match self {
            Self::InsufficientScope(missing) => json!({ "scope": missing.to_ask_for.join(" ") }),
            _ => json!({}),
        };
        members["error"] = error.into();
        if is_json_rpc {
            let mut body = json_rpc(SERVER_ERROR, &description, None);
            body["error"]["data"] = members;
            return body;
        }
        members["error_description"] = description.into();
        members
    }

    /// The code and the text of an error.
    fn describe(&self) -> (&'static str, Cow<'static, str>) {
        let (error, description) = match self {
            Self::BodyTooLarge(limit) => {
                let text = format!("the body is longer than {limit} bytes");
                return ("body_too_large", text.into());
            }
            Self::InsufficientScope(missing) => {
                let scopes = missing.to_ask_for.join(" ");
                let text = format!("request a token with the scopes: {scopes}");
                return ("insufficient_scope", text.into());
            }
            Self::NoToken => (
                "unauthorized",
                "send an access token in the Authorization header",
            ),
            Self::InvalidRequest(reason) => ("invalid_request", *reason),
            Self::InvalidToken(reason) => ("invalid_token", *reason),
            Self::OriginNotAllowed => (
                "origin_not_allowed",
                "this origin is not allowed; an administrator can add it to allowedOrigins",
            ),
            Self::HostNotServed => (
                "host_not_served",
                "the Host header does not match the resource's URL",
            ),
            Self::NotFound => (
                "not_found",
                "there is no endpoint at this path; use the resource's URL",
            ),
            Self::MethodNotAllowed(_) => (
                "method_not_allowed",
                "use one of the methods in the Allow header",
            ),
            Self::BodyTimeout => ("body_timeout", "the request body was not received in time"),
            Self::BodyEncoded => (
                "body_encoded",
                "send the body in UTF-8 and without Content-Encoding",
            ),
            Self::Busy => (
                "temporarily_unavailable",
                "too many concurrent requests for this subject; try again later",
            ),
            Self::Unavailable => (
                "temporarily_unavailable",
                "the token cannot be checked right now; try again",
            ),
            Self::UpstreamUnavailable => {
                ("upstream_unavailable", "the MCP server cannot be reached")
            }
            Self::UpstreamTimeout => ("upstream_timeout", "the MCP server did not respond in time"),
            Self::UpstreamEncoded => (
                "upstream_encoded",
                "the MCP server compressed its response, which cannot be filtered",
            ),
            // These have bodies of their own.
            Self::Absent(_)
            | Self::Body(_)
            | Self::HeaderMismatch(..)
            | Self::UnsupportedVersion(..)
            | Self::UnknownSession => ("refused", "the request was refused"),
        };
        (error, description.into())
    }
}

fn json_rpc(code: i32, message: &str, id: Option<&Value>) -> Value {
    let error = json!({ "code": code, "message": message });
    json!({ "jsonrpc": "2.0", "id": id, "error": error })
}

/// A response with a JSON body.
pub(crate) fn json_response(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::Left(Full::new(Bytes::from(body.to_string()))));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge_of(refusal: Refusal) -> Option<String> {
        let challenge = Challenge {
            resource_metadata: "https://h/.well-known/oauth-protected-resource/mcp".into(),
            scope: "a b".into(),
        };
        let response = refusal.into_response(&challenge, false);
        let value = response.headers().get(WWW_AUTHENTICATE)?;
        Some(value.to_str().unwrap().to_owned())
    }

    #[test]
    fn challenges_say_what_rfc_6750_and_rfc_9728_ask_for() {
        let metadata = r#"resource_metadata="https://h/.well-known/oauth-protected-resource/mcp""#;
        assert_eq!(
            challenge_of(Refusal::NoToken).unwrap(),
            format!(r#"Bearer scope="a b", {metadata}"#)
        );
        assert_eq!(
            challenge_of(Refusal::InvalidToken("expired")).unwrap(),
            format!(
                r#"Bearer error="invalid_token", error_description="expired", scope="a b", {metadata}"#
            )
        );
        let missing = MissingScopes {
            because: String::new(),
            missing: vec!["c".into()],
            to_ask_for: vec!["b".into(), "c".into()],
        };
        let needs = challenge_of(Refusal::InsufficientScope(missing)).unwrap();
        assert!(needs.contains(r#"error="insufficient_scope""#) && needs.contains(metadata));
        assert!(
            needs.contains(r#"scope="b c""#) && !needs.contains("a b"),
            "{needs}"
        );
    }

    #[test]
    fn a_client_of_2026_07_28_reads_every_refusal_as_json_rpc() {
        let missing = MissingScopes {
            because: String::new(),
            missing: vec![],
            to_ask_for: vec!["b".into()],
        };
        for refusal in [
            Refusal::NoToken,
            Refusal::InvalidRequest("x"),
            Refusal::InsufficientScope(missing),
            Refusal::MethodNotAllowed(STATELESS_METHODS),
            Refusal::UnknownSession,
            Refusal::BodyTooLarge(1),
            Refusal::Body(Fault::Invalid("x".into())),
            Refusal::HeaderMismatch("x".into(), None),
            Refusal::UnsupportedVersion(Unsupported("x".into()), None),
            Refusal::Busy,
            Refusal::UpstreamTimeout,
        ] {
            let name = refusal.outcome();
            let body = refusal.body(true).unwrap();
            assert_eq!(body["jsonrpc"], "2.0", "{name}");
            assert!(body["error"]["code"].is_i64(), "{name}: {body}");
            assert!(body["error"]["message"].is_string(), "{name}: {body}");
        }
    }

    #[test]
    fn an_authorization_server_that_is_away_is_no_reason_to_log_in_again() {
        assert_eq!(
            Refusal::Unavailable.status(),
            StatusCode::SERVICE_UNAVAILABLE
        );
        assert_eq!(challenge_of(Refusal::Unavailable), None);
    }
}
