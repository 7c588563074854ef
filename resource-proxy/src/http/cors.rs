//! Cross-origin requests of browsers (the Fetch standard).
//!
//! Credentials as the standard defines them (cookies) are never allowed: pages send the token explicitly.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ALLOW,
    ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::Full;

use crate::http::stream::Body;

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, DELETE, OPTIONS");
const EXPOSED: HeaderValue =
    HeaderValue::from_static("WWW-Authenticate, Mcp-Session-Id, MCP-Protocol-Version, Retry-After");
const ANY: HeaderValue = HeaderValue::from_static("*");

/// Where a request comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Not from a browser's page of another origin.
    Absent,
    /// From one that may call.
    Allowed(HeaderValue),
    /// From any other.
    Refused,
}

impl Origin {
    /// Judges the `Origin` header. A page that comes from the resource's own origin may call: no other host can claim it.
    pub fn of(headers: &HeaderMap, own: &str, allowed: &[String]) -> Self {
        let mut values = headers.get_all(ORIGIN).iter();
        let mut may_call = allowed.iter().map(String::as_str).chain([own]);
        match (values.next(), values.next()) {
            (None, _) => Self::Absent,
            (Some(origin), None) if may_call.any(|one| one.as_bytes() == origin.as_bytes()) => {
                Self::Allowed(origin.clone())
            }
            _ => Self::Refused,
        }
    }

    /// Allows the page to read the response.
    pub fn expose<B>(&self, response: &mut Response<B>) {
        if let Self::Allowed(origin) = self {
            let headers = response.headers_mut();
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
            headers.append(VARY, HeaderValue::from_static("Origin"));
        }
    }
}

/// The answer to OPTIONS at the MCP endpoint. Which headers a page may send is up to the server,
/// which has its own (`Mcp-Param-*`), so that the page gets those that it asks for.
pub fn preflight(request: &HeaderMap) -> Response<Body> {
    let mut response = empty(StatusCode::NO_CONTENT);
    let headers = response.headers_mut();
    headers.insert(ALLOW, METHODS);
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    headers.insert(
        VARY,
        HeaderValue::from_static("Access-Control-Request-Headers"),
    );
    if let Some(wanted) = request.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    response
}

/// The answer to OPTIONS at the metadata.
pub fn public_preflight() -> Response<Body> {
    let mut response = empty(StatusCode::NO_CONTENT);
    make_public(&mut response);
    let headers = response.headers_mut();
    headers.insert(
        ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, OPTIONS"),
    );
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, ANY);
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}

/// Allows every page to read the response.
pub fn make_public<B>(response: &mut Response<B>) {
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
}

/// A response without a body.
pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::Left(Full::default()));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(values: &[&'static str]) -> Origin {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(ORIGIN, HeaderValue::from_static(value));
        }
        Origin::of(
            &headers,
            "http://localhost:9001",
            &["https://app.example".into()],
        )
    }

    #[test]
    fn only_a_listed_origin_and_the_own_one_may_call() {
        assert_eq!(origin(&[]), Origin::Absent);
        for own_or_listed in ["https://app.example", "http://localhost:9001"] {
            assert!(matches!(origin(&[own_or_listed]), Origin::Allowed(_)));
        }
        for other in [
            vec!["https://app.example:8443"],
            vec!["http://app.example"],
            vec!["http://localhost"],
            vec!["http://localhost:9002"],
            vec!["https://localhost:9001"],
            vec!["https://app.example.evil.example"],
            vec!["null"],
            vec![""],
            vec!["https://app.example", "https://evil.example"],
        ] {
            assert_eq!(origin(&other), Origin::Refused, "{other:?}");
        }
    }
}
