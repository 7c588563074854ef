//! The request to the server, and its response to the client.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST,
    HeaderName, ORIGIN, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::{Authority, Parts, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use http_body_util::{Either, Full};
use mcpauth_service::otlp;
use tracing::Span;

use crate::auth::identity::Identity;
use crate::client::{HttpClient, with_causes};
use crate::config;
use crate::http::media_type::is_event_stream;
use crate::http::refusal::Refusal;
use crate::http::stream::{Body, Stream};

/// The header that names a session.
pub const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");

/// The header with which a client resumes a stream, before MCP 2026-07-28.
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Headers that say who calls. Only we may set them.
const IDENTITY: [HeaderName; 3] = [
    HeaderName::from_static("x-mcp-subject"),
    HeaderName::from_static("x-mcp-client-id"),
    HeaderName::from_static("x-mcp-scopes"),
];

/// Headers that are about one connection (RFC 9110 section 7.6.1), and the length, which is written
/// anew.
const HOP_BY_HOP: [HeaderName; 10] = [
    CONNECTION,
    CONTENT_LENGTH,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-authenticate"),
    HeaderName::from_static("proxy-authorization"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Headers that `Connection` must not name, besides those of MCP and [`IDENTITY`].
const END_TO_END: [HeaderName; 7] = [
    ACCEPT,
    AUTHORIZATION,
    CONTENT_ENCODING,
    CONTENT_TYPE,
    HOST,
    LAST_EVENT_ID,
    ORIGIN,
];

/// The MCP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    scheme: Scheme,
    authority: Authority,
    path: String,
    host: HeaderValue,
    timeout: Duration,
}

impl Upstream {
    /// From a checked configuration.
    ///
    /// # Errors
    /// The URL cannot be called.
    pub fn new(config: &config::Upstream) -> Result<Self, String> {
        let failed = |problem: &dyn std::fmt::Display| format!("upstream.url: {problem}");
        let uri: Uri = config.url.parse().map_err(|error| failed(&error))?;
        let path = uri.path().to_owned();
        let parts = uri.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return Err(failed(&"is not an absolute URL"));
        };
        let host = HeaderValue::from_str(authority.as_str()).map_err(|error| failed(&error))?;
        Ok(Self {
            scheme,
            authority,
            path,
            host,
            timeout: Duration::from_secs(config.response_header_seconds.into()),
        })
    }

    /// Where a request with this query goes. The path is the configured one, whatever the client's.
    fn uri(&self, query: Option<&str>) -> Result<Uri, http::Error> {
        let path = match query {
            Some(query) => PathAndQuery::try_from(format!("{}?{query}", self.path))?,
            None => PathAndQuery::try_from(self.path.as_str())?,
        };
        let mut parts = Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(path);
        Ok(Uri::from_parts(parts)?)
    }

    /// The request as it is sent to the server: the client's, without credentials and hop-by-hop headers.
    ///
    /// # Errors
    /// The query cannot be part of a URL.
    pub fn request(
        &self,
        client: http::request::Parts,
        body: Bytes,
        identity: Option<&Identity>,
    ) -> Result<Request<Full<Bytes>>, http::Error> {
        let mut headers = client.headers;
        remove_hop_by_hop(&mut headers);
        headers.remove(AUTHORIZATION);
        remove_identity(&mut headers);
        headers.insert(HOST, self.host.clone());
        if let Some(identity) = identity {
            let values = [
                &identity.subject,
                &identity.client_id,
                &identity.scopes.join(" "),
            ];
            for (name, value) in IDENTITY.into_iter().zip(values) {
                // A value that a header cannot carry is omitted, so that the server never sees a wrong identity.
                if let Ok(value) = HeaderValue::try_from(value) {
                    headers.insert(name, value);
                }
            }
        }
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = client.method;
        *request.uri_mut() = self.uri(client.uri.query())?;
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// A request of our own, to see whether the server answers.
    ///
    /// # Errors
    /// The configured path cannot be part of a URL.
    pub fn probe(&self, method: Method, body: Bytes) -> Result<Request<Full<Bytes>>, http::Error> {
        // Without an event stream, a GET would open one.
        let accept = match method {
            Method::POST => "application/json, text/event-stream",
            _ => "application/json",
        };
        Request::builder()
            .method(method)
            .uri(self.uri(None)?)
            .header(HOST, &self.host)
            .header(ACCEPT, accept)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
    }

    /// Sends a request, in the span that this is called in, and waits until the response begins. Dropping the future, and later the
    /// body, closes the connection to the server, which tells it that the client disconnected.
    ///
    /// # Errors
    /// The server is unavailable or too slow.
    pub async fn send(
        &self,
        client: &HttpClient,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Body>, Refusal> {
        let span = Span::current();
        otlp::pass_on(&span, request.headers_mut());
        let response = self.answer(client, request).await;
        match &response {
            Ok(response) => otlp::answered(&span, response.status().as_u16()),
            Err(_) => otlp::failed(&span),
        }
        response
    }

    async fn answer(
        &self,
        client: &HttpClient,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Body>, Refusal> {
        let response = tokio::time::timeout(self.timeout, client.request(request)).await;
        let response = response.map_err(|_| {
            tracing::warn!(upstream = %self.authority, "no response in time");
            Refusal::UpstreamTimeout
        })?;
        let mut response = response.map_err(|error| {
            tracing::warn!(error = with_causes(&error), upstream = %self.authority, "no response");
            Refusal::UpstreamUnavailable
        })?;
        let headers = response.headers_mut();
        let length = headers.get(CONTENT_LENGTH).cloned();
        remove_hop_by_hop(headers);
        remove_cors(headers);
        if let Some(length) = length {
            // A response to HEAD has a length but no body.
            headers.insert(CONTENT_LENGTH, length);
        }
        if is_event_stream(headers) {
            let name = HeaderName::from_static("x-accel-buffering");
            headers.insert(name, HeaderValue::from_static("no"));
        }
        Ok(response.map(|body| Either::Right(Stream::new(body))))
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.path)
    }
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = named_by_connection(headers).collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// Removes the identity headers, and every header whose name has another character than letters, digits and `-`: servers
/// that make variables of the names (CGI, WSGI) read `mcp_session_id` as `mcp-session-id`.
fn remove_identity(headers: &mut HeaderMap) {
    let is_clear = |name: &str| {
        let mut bytes = name.bytes();
        // In 2026-07-28, `Mcp-Param-` is followed by a name that the server chose.
        name.starts_with("mcp-param-")
            || bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    remove(headers, |name| {
        IDENTITY.contains(name) || !is_clear(name.as_str())
    });
}

fn remove(headers: &mut HeaderMap, is_unwanted: impl Fn(&HeaderName) -> bool) {
    let unwanted: Vec<HeaderName> = headers
        .keys()
        .filter(|name| is_unwanted(name))
        .cloned()
        .collect();
    for name in unwanted {
        headers.remove(name);
    }
}

/// Whether `Connection` names a header that is about more than one connection (RFC 9110, section 7.6.1) and that was
/// checked here: removed as that header asks, the server would read the request differently.
pub fn hides_headers(headers: &HeaderMap) -> bool {
    named_by_connection(headers).any(|name| {
        let is_mcp = name.as_str().starts_with("mcp-") || IDENTITY.contains(&name);
        is_mcp || END_TO_END.contains(&name)
    })
}

fn named_by_connection(headers: &HeaderMap) -> impl Iterator<Item = HeaderName> {
    let values = headers.get_all(CONNECTION).iter();
    let values = values.filter_map(|value| value.to_str().ok());
    let names = values.flat_map(|value| value.split(','));
    names.filter_map(|name| name.trim().parse().ok())
}

/// The proxy decides which pages may read a response.
fn remove_cors(headers: &mut HeaderMap) {
    remove(headers, |name| name.as_str().starts_with("access-control-"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarded(
        headers: &[(&'static str, &str)],
        identity: Option<&Identity>,
    ) -> Request<Full<Bytes>> {
        let upstream = Upstream::new(&config::Upstream {
            url: "http://127.0.0.1:8000/inner".into(),
            response_header_seconds: 1,
        });
        let mut request = Request::post("http://public.example/mcp?a=b");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        upstream
            .unwrap()
            .request(parts, Bytes::new(), identity)
            .unwrap()
    }

    #[test]
    fn the_clients_authorization_never_reaches_the_mcp_server() {
        let request = forwarded(
            &[
                ("authorization", "Bearer a"),
                ("authorization", "Bearer b"),
                ("proxy-authorization", "Basic c"),
                ("accept", "application/json"),
            ],
            None,
        );
        let names: Vec<&str> = request.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["accept", "host"]);
        assert_eq!(request.uri(), "http://127.0.0.1:8000/inner?a=b");
        assert_eq!(request.headers()[HOST], "127.0.0.1:8000");
    }

    #[test]
    fn identity_headers_sent_by_the_client_are_stripped() {
        let sent = [
            ("x-mcp-subject", "root"),
            ("X-Mcp-Client-Id", "root"),
            ("x_mcp_scopes", "all"),
            ("x-mcp_subject", "root"),
            ("x.mcp.subject", "root"),
            ("mcp_session_id", "s"),
            ("mcp-session_id", "s"),
            ("content_length", "9"),
            ("x-mcp-toolsets", "repos"),
            ("mcp-param-user_id", "u"),
        ];
        let request = forwarded(&sent, None);
        assert_eq!(request.headers().len(), 3, "{:?}", request.headers());
        assert_eq!(request.headers()["mcp-param-user_id"], "u");
        assert_eq!(request.headers()["x-mcp-toolsets"], "repos");

        let identity = Identity {
            client_id: "client".into(),
            subject: "alice".into(),
            scopes: vec!["a".into(), "b".into()],
            grantable: vec![],
        };
        let request = forwarded(&sent, Some(&identity));
        assert_eq!(request.headers()["x-mcp-subject"], "alice");
        assert_eq!(request.headers()["x-mcp-client-id"], "client");
        assert_eq!(request.headers()["x-mcp-scopes"], "a b");
        let odd = Identity {
            subject: "al\nice".into(),
            ..identity
        };
        assert!(
            !forwarded(&sent, Some(&odd))
                .headers()
                .contains_key("x-mcp-subject")
        );
    }

    #[test]
    fn what_concerns_one_connection_stays_there() {
        let request = forwarded(
            &[
                ("connection", "keep-alive, X-Private"),
                ("x-private", "1"),
                ("transfer-encoding", "chunked"),
                ("te", "trailers"),
                ("upgrade", "websocket"),
                ("content-length", "9"),
                ("mcp-protocol-version", "2025-06-18"),
            ],
            None,
        );
        let names: Vec<&str> = request.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["mcp-protocol-version", "host"]);
    }
}
