//! Why a request is not served, and what the client is told.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use mcpauth_wire::scope::OFFLINE_ACCESS;
use serde_json::{Value, json};

use crate::auth::authorize::Denial;
use crate::http::stream::Body;
use crate::mcp::header_match::HEADER_MISMATCH;
use crate::mcp::message::Fault;

/// After how many seconds a client should try again when the authorization server is unavailable.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("2");

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
    InsufficientScope(Denial),
    /// The request comes from a web page whose origin is not allowed.
    OriginNotAllowed,
    /// The `Host` header names another host.
    HostNotServed,
    /// The path is not that of the endpoint.
    NotFound,
    /// The endpoint does not support this HTTP method.
    MethodNotAllowed,
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
    /// This subject has too many requests in flight.
    Busy,
    /// The token cannot be checked now.
    Unavailable,
    /// The MCP server cannot be reached.
    UpstreamUnavailable,
    /// The MCP server did not answer in time.
    UpstreamTimeout,
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
            Self::OriginNotAllowed => "origin_not_allowed",
            Self::HostNotServed => "host_not_served",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::UnknownSession => "unknown_session",
            Self::BodyTooLarge(_) => "body_too_large",
            Self::BodyTimeout => "body_timeout",
            Self::BodyEncoded => "body_encoded",
            Self::Body(_) => "invalid_body",
            Self::HeaderMismatch(..) => "header_mismatch",
            Self::Busy => "busy",
            Self::Unavailable => "authorization_server_unavailable",
            Self::UpstreamUnavailable => "upstream_unavailable",
            Self::UpstreamTimeout => "upstream_timeout",
        }
    }

    /// The reason, for logs. It contains no part of a token or a body.
    pub fn reason(&self) -> Cow<'_, str> {
        match self {
            Self::InvalidRequest(reason) | Self::InvalidToken(reason) => Cow::Borrowed(reason),
            Self::InsufficientScope(denial) => Cow::Owned(denial.to_string()),
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
            Self::InvalidRequest(_) | Self::Body(_) | Self::HeaderMismatch(..) => {
                StatusCode::BAD_REQUEST
            }
            Self::InsufficientScope(_) | Self::OriginNotAllowed => StatusCode::FORBIDDEN,
            Self::HostNotServed => StatusCode::MISDIRECTED_REQUEST,
            Self::NotFound | Self::UnknownSession => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::BodyEncoded => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Busy | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::UpstreamUnavailable => StatusCode::BAD_GATEWAY,
            Self::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// The answer to the client.
    pub fn into_response(self, challenge: &Challenge) -> Response<Body> {
        let status = self.status();
        let authenticate = self.challenge(challenge);
        let allow = self == Self::MethodNotAllowed;
        let mut response = json_response(status, &self.body());
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(value) = authenticate.and_then(|text| HeaderValue::try_from(text).ok()) {
            headers.insert(WWW_AUTHENTICATE, value);
        }
        if allow {
            headers.insert(
                ALLOW,
                HeaderValue::from_static("GET, POST, DELETE, OPTIONS"),
            );
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
            Self::InsufficientScope(denial) => {
                let reason = "the token lacks a required scope";
                let scope = to_ask_for(denial);
                Some(challenge.bearer(Some(("insufficient_scope", reason)), &scope))
            }
            _ => None,
        }
    }

    fn body(self) -> Value {
        let (error, description) = match self {
            Self::Body(fault) => return json_rpc(fault.code(), &fault.to_string(), &Value::Null),
            Self::HeaderMismatch(reason, id) => {
                return json_rpc(HEADER_MISMATCH, &reason, &id.unwrap_or_default());
            }
            Self::UnknownSession => {
                return json_rpc(
                    -32001,
                    "session not found; start a new one with initialize",
                    &Value::Null,
                );
            }
            Self::BodyTooLarge(limit) => {
                let text = format!("the body is longer than {limit} bytes");
                return json!({ "error": "body_too_large", "error_description": text });
            }
            Self::InsufficientScope(denial) => {
                let scope = to_ask_for(&denial);
                let text = format!("this request requires the scopes: {scope}");
                return json!({
                    "error": "insufficient_scope", "error_description": text, "scope": scope,
                });
            }
            Self::NoToken => (
                "unauthorized",
                "send an access token in the Authorization header",
            ),
            Self::InvalidRequest(reason) => ("invalid_request", reason),
            Self::InvalidToken(reason) => ("invalid_token", reason),
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
            Self::MethodNotAllowed => ("method_not_allowed", "use POST, GET or DELETE"),
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
        };
        json!({ "error": error, "error_description": description })
    }
}

/// The scopes that a client asks for to be allowed, with spaces between.
fn to_ask_for(denial: &Denial) -> String {
    let needed = denial.needed.iter().map(String::as_str);
    let needed: Vec<&str> = needed.filter(|scope| *scope != OFFLINE_ACCESS).collect();
    needed.join(" ")
}

fn json_rpc(code: i32, message: &str, id: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } })
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
        let response = refusal.into_response(&challenge);
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
        let denial = Denial {
            rule: None,
            needed: vec!["b".into(), "offline_access".into(), "c".into()],
            missing: vec!["c".into()],
        };
        let needs = challenge_of(Refusal::InsufficientScope(denial)).unwrap();
        assert!(needs.contains(r#"error="insufficient_scope""#) && needs.contains(metadata));
        assert!(
            needs.contains(r#"scope="b c""#) && !needs.contains("a b"),
            "{needs}"
        );
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
