//! The admin API of authorization servers, as a client.
//!
//! The operator proves who it is with a token of its own ServiceAccount, made by TokenRequest for the
//! audience that is the server's internal URL: a token stolen by one server is of no use at another, nor
//! at the Kubernetes API.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;
use mcpauth_api::conditions::reasons;
use mcpauth_service::clock::Clock;
pub use mcpauth_wire::admin::{Collection, Outcome};
use mcpauth_wire::admin::{ErrorAnswer, PutAnswer};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use tokio::sync::Mutex;

use crate::desired::names;
use crate::problem::Problem;
use crate::text::explain;
use crate::time;

/// How long one call may take, from connecting to the last byte.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long a call to a server that did not answer the last time waits for its turn.
const TURN: Duration = Duration::from_millis(250);
/// The largest answer that is read, in bytes.
const ANSWER: usize = 64 * 1024;
/// The lifetime asked for tokens, in seconds.
const TOKEN_SECONDS: i64 = 3600;
/// A token that expires sooner than this is replaced.
const TOKEN_RESERVE: SignedDuration = SignedDuration::from_mins(10);
/// What stands in a path segment as it is.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'-');

/// Names a McpAuthServer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Server {
    /// The URL of its internal port in the cluster: the audience of the tokens that it takes there.
    pub fn audience(&self) -> String {
        names::internal_url(&self.namespace, &self.name)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Where a server's internal port is reached: its [`Server::audience`] in a cluster.
pub type Endpoint = Arc<dyn Fn(&Server) -> String + Send + Sync>;

/// Why a call failed. No variant carries what was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// It cannot be reached, or is not able to answer.
    #[error("{0}")]
    Unreachable(String),
    /// It does not let the operator in.
    #[error("{0}")]
    NotAdmitted(String),
    /// Another resource has the same URL.
    #[error("{0}")]
    Conflict(String),
    /// It does not take what was sent.
    #[error("{0}")]
    Refused(String),
}

impl CallError {
    /// The kind of failure in one word, for logs.
    const fn outcome(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::NotAdmitted(_) => "not_admitted",
            Self::Conflict(_) => "conflict",
            Self::Refused(_) => "refused",
        }
    }
}

impl From<CallError> for Problem {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Unreachable(why) => Self::outage(reasons::AUTH_SERVER_UNREACHABLE, why),
            CallError::NotAdmitted(why) => Self::outage(reasons::AUTH_SERVER_REFUSED, why),
            CallError::Conflict(why) => Self::person(reasons::RESOURCE_CONFLICT, why),
            CallError::Refused(why) => Self::person(reasons::AUTH_SERVER_REFUSED, why),
        }
    }
}

#[derive(Clone)]
struct Token {
    value: Arc<str>,
    expires: Timestamp,
}

/// A server that did not answer the last time: one call at a time goes there, so that those who refer to it
/// keep no workers from the others.
#[derive(Clone, Default)]
struct Silent {
    why: String,
    turn: Arc<Mutex<()>>,
}

/// Calls the admin API of any McpAuthServer.
pub struct AuthServers {
    http: HttpClient<HttpConnector, Full<Bytes>>,
    accounts: Api<ServiceAccount>,
    account: String,
    endpoint: Endpoint,
    clock: Clock,
    tokens: Mutex<HashMap<Server, Token>>,
    silent: Mutex<HashMap<Server, Silent>>,
}

impl AuthServers {
    /// `account` is the operator's own ServiceAccount in `namespace`.
    pub fn new(
        client: kube::Client,
        namespace: &str,
        account: &str,
        endpoint: Endpoint,
        clock: Clock,
    ) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(TIMEOUT));
        Self {
            http: HttpClient::builder(TokioExecutor::new()).build(connector),
            accounts: Api::namespaced(client, namespace),
            account: account.to_owned(),
            endpoint,
            clock,
            tokens: Mutex::default(),
            silent: Mutex::default(),
        }
    }

    /// Creates or replaces `id`.
    ///
    /// # Errors
    /// [`CallError`], whose text names the server.
    pub async fn put(
        &self,
        server: &Server,
        collection: Collection,
        id: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<Outcome, CallError> {
        let body = serde_json::to_vec(body).map_err(|e| CallError::Refused(e.to_string()))?;
        let answer = self
            .call(server, Method::PUT, collection, id, body.into())
            .await?;
        serde_json::from_slice::<PutAnswer>(&answer).map(|a| a.outcome).map_err(|_| {
            CallError::Unreachable(format!(
                "McpAuthServer {server} did not answer as the admin API does: is {} something else?",
                (self.endpoint)(server)
            ))
        })
    }

    /// Removes `id`, and the grants that hang on it. It is no error that it is not there.
    ///
    /// # Errors
    /// [`CallError`], whose text names the server.
    pub async fn delete(
        &self,
        server: &Server,
        collection: Collection,
        id: &str,
    ) -> Result<(), CallError> {
        self.call(server, Method::DELETE, collection, id, Bytes::new())
            .await
            .map(|_| ())
    }

    /// Forgets a server that is gone.
    pub async fn forget(&self, server: &Server) {
        self.tokens.lock().await.remove(server);
        self.silent.lock().await.remove(server);
    }

    #[tracing::instrument(name = "admin_api", skip_all, fields(
        %server, %method, ?collection, id, outcome = tracing::field::Empty,
    ))]
    async fn call(
        &self,
        server: &Server,
        method: Method,
        collection: Collection,
        id: &str,
        body: Bytes,
    ) -> Result<Bytes, CallError> {
        let silent = self.silent.lock().await.get(server).cloned();
        let _turn = match &silent {
            None => None,
            Some(silent) => match tokio::time::timeout(TURN, silent.turn.lock()).await {
                Ok(turn) => Some(turn),
                Err(_) if self.silent.lock().await.contains_key(server) => {
                    return Err(CallError::Unreachable(silent.why.clone()));
                }
                Err(_) => None,
            },
        };
        let answer = self.exchange(server, method, collection, id, body).await;
        let outcome = answer.as_ref().err().map_or("ok", CallError::outcome);
        tracing::Span::current().record("outcome", outcome);
        let mut all = self.silent.lock().await;
        match &answer {
            Err(CallError::Unreachable(why)) => {
                all.entry(server.clone()).or_default().why.clone_from(why);
            }
            _ => drop(all.remove(server)),
        }
        answer
    }

    async fn exchange(
        &self,
        server: &Server,
        method: Method,
        collection: Collection,
        id: &str,
        body: Bytes,
    ) -> Result<Bytes, CallError> {
        let id = utf8_percent_encode(id, SEGMENT).to_string();
        let uri = format!("{}{}", (self.endpoint)(server), collection.path(&id));
        for fresh in [false, true] {
            let token = self.token(server, fresh).await?;
            let request = Request::builder()
                .method(method.clone())
                .uri(&uri)
                .header(header::AUTHORIZATION, format!("Bearer {token}"))
                .header(header::CONTENT_TYPE, "application/json")
                .body(Full::new(body.clone()))
                .map_err(|e| CallError::Refused(format!("{uri}: {e}")))?;
            let (status, answer) = self.send(server, request).await?;
            // A token may have become useless before its time: the cluster's keys were changed.
            if status == StatusCode::UNAUTHORIZED && !fresh {
                continue;
            }
            return judge(server, status, answer);
        }
        Err(CallError::NotAdmitted(format!(
            "McpAuthServer {server} does not accept the operator's token"
        )))
    }

    async fn send(
        &self,
        server: &Server,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), CallError> {
        let unreachable = |why: String| {
            CallError::Unreachable(format!(
                "McpAuthServer {server} does not answer at {} ({why}); it is tried again",
                (self.endpoint)(server)
            ))
        };
        let exchange = async {
            let response = self
                .http
                .request(request)
                .await
                .map_err(|e| root_cause(&e))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER);
            let body = body.collect().await.map_err(|e| root_cause(e.as_ref()))?;
            Ok((status, body.to_bytes()))
        };
        match tokio::time::timeout(TIMEOUT, exchange).await {
            Ok(answer) => answer.map_err(unreachable),
            Err(_) => Err(unreachable(format!(
                "no answer within {} s",
                TIMEOUT.as_secs()
            ))),
        }
    }

    /// A token for `server`: the one at hand unless it is about to expire or `fresh` is asked for.
    async fn token(&self, server: &Server, fresh: bool) -> Result<Arc<str>, CallError> {
        let soon = time::now(&self.clock) + TOKEN_RESERVE;
        let cached = self.tokens.lock().await.get(server).cloned();
        if let Some(token) = cached.filter(|t| !fresh && t.expires > soon) {
            return Ok(token.value);
        }
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: vec![server.audience()],
                expiration_seconds: Some(TOKEN_SECONDS),
                bound_object_ref: None,
            },
            ..TokenRequest::default()
        };
        let answer = self
            .accounts
            .create_token_request(&self.account, &PostParams::default(), &request)
            .await;
        let status = answer
            .map_err(|error| {
                CallError::NotAdmitted(format!(
                    "the operator cannot get a token of its ServiceAccount {}: {}",
                    self.account,
                    explain(&error)
                ))
            })?
            .status
            .ok_or_else(|| CallError::NotAdmitted("TokenRequest gave no token".to_owned()))?;
        let token = Token {
            value: status.token.into(),
            expires: status.expiration_timestamp.0,
        };
        self.tokens
            .lock()
            .await
            .insert(server.clone(), token.clone());
        Ok(token.value)
    }
}

/// What an answer means.
fn judge(server: &Server, status: StatusCode, body: Bytes) -> Result<Bytes, CallError> {
    if status.is_success() {
        return Ok(body);
    }
    let said = serde_json::from_slice(&body)
        .map(|e: ErrorAnswer| format!("{}: {}", e.error, e.error_description))
        .unwrap_or_default();
    Err(match status {
        StatusCode::CONFLICT => CallError::Conflict(format!("McpAuthServer {server} says {said}")),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => CallError::NotAdmitted(format!(
            "McpAuthServer {server} does not let the operator in ({status}): \
             the operator's ServiceAccount must be among its admins"
        )),
        _ if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
            CallError::Refused(format!(
                "McpAuthServer {server} refuses it: {status} {said}"
            ))
        }
        _ => CallError::Unreachable(format!(
            "McpAuthServer {server} is not able to answer: {status} {said}"
        )),
    })
}

/// The innermost cause: the outer ones only say that something failed.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
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
    fn the_audience_is_the_internal_url() {
        assert_eq!(server().audience(), "http://auth-internal.default.svc:8081");
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
