//! Calls to the admin API.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use mcpauth_service::clock::Clock;
use mcpauth_wire::admin::{Collection, Outcome, PutAnswer};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use tokio::sync::Mutex;

use super::error::{CallError, judge};
use super::server::Server;
use super::tokens::Tokens;

/// How long one call may take, from connecting to the last byte.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long a call to a server that did not answer the previous one waits for its turn.
const TURN: Duration = Duration::from_millis(250);
/// Maximum size of a response, in bytes.
const ANSWER: usize = 64 * 1024;
/// Characters that need no encoding in a path segment.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'-');

/// The URL of a server's internal port: its [`Server::audience`] in a cluster.
pub type Endpoint = Arc<dyn Fn(&Server) -> String + Send + Sync>;

/// A server that did not answer the previous call: it gets one call at a time, so that the objects that reference it
/// do not occupy all workers.
#[derive(Clone, Default)]
struct Silent {
    why: String,
    turn: Arc<Mutex<()>>,
}

/// Calls the admin API of any McpAuthServer.
pub struct AuthServers {
    http: HttpClient<HttpConnector, Full<Bytes>>,
    endpoint: Endpoint,
    tokens: Tokens,
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
            endpoint,
            tokens: Tokens::new(client, namespace, account, clock),
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
                "the response at {} is not from the admin API of McpAuthServer {server}: check that the Service selects only its pods",
                (self.endpoint)(server)
            ))
        })
    }

    /// Removes `id` and its grants. Removing an id that does not exist is not an error.
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

    /// Forgets a server that was deleted.
    pub async fn forget(&self, server: &Server) {
        self.tokens.forget(server).await;
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
            let token = self.tokens.token(server, fresh).await?;
            let request = Request::builder()
                .method(method.clone())
                .uri(&uri)
                .header(header::AUTHORIZATION, format!("Bearer {token}"))
                .header(header::CONTENT_TYPE, "application/json")
                .body(Full::new(body.clone()))
                .map_err(|e| CallError::Refused(format!("{uri}: {e}")))?;
            let (status, answer) = self.send(server, request).await?;
            // A cached token can become invalid before it expires, when the cluster's keys are rotated.
            if status == StatusCode::UNAUTHORIZED && !fresh {
                continue;
            }
            return judge(server, status, answer);
        }
        Err(CallError::NotAdmitted(format!(
            "McpAuthServer {server} rejects the operator's ServiceAccount token: see the authorization server's log for the reason"
        )))
    }

    async fn send(
        &self,
        server: &Server,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), CallError> {
        let unreachable = |why: String| {
            CallError::Unreachable(format!(
                "McpAuthServer {server} does not respond at {} ({why}); retrying",
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
                "no response within {} s",
                TIMEOUT.as_secs()
            ))),
        }
    }
}

/// The innermost cause, because the outer ones only say that something failed.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
