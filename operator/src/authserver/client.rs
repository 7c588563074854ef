//! Calls to the admin API.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use mcpauth_service::clock::Clock;
use mcpauth_wire::admin::{Collection, Outcome, PutAnswer, SIGNING_KEYS_PATH, SigningKeyList};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Mutex, broadcast};

use super::error::{CallError, judge};
use super::internal::{Internal, InternalClient, TIMEOUT};
use super::server::Server;
use super::tokens::Tokens;

/// Time between probes of a server that does not respond.
const PROBE: Duration = Duration::from_secs(2);
/// How many servers may start to respond again before a controller has taken note.
const RESPONDING: usize = 64;
/// Maximum size of a response, in bytes.
const ANSWER: usize = 64 * 1024;
/// Characters that need no encoding in a path segment.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'-');

/// The URL of a server's internal port, with or without TLS: its [`Server::url`] in a cluster.
pub type Endpoint = Arc<dyn Fn(&Server, bool) -> String + Send + Sync>;

/// Calls the admin API of any McpAuthServer.
pub struct AuthServers(Arc<Calls>);

struct Calls {
    clear: HttpClient<HttpConnector, Full<Bytes>>,
    /// How servers are reached, if not in the clear.
    reached: Mutex<HashMap<Server, Reached>>,
    endpoint: Endpoint,
    tokens: Tokens,
    /// The servers that did not respond to the last call, with the reason. They get no calls but those of a probe, so
    /// that the objects that reference them do not occupy workers.
    silent: Mutex<HashMap<Server, String>>,
    responding: broadcast::Sender<Server>,
}

/// How a server is reached, with a client if it can be.
struct Reached {
    by: Internal,
    client: Result<InternalClient, String>,
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
        Self(Arc::new(Calls {
            clear: InternalClient::clear(),
            reached: Mutex::default(),
            endpoint,
            tokens: Tokens::new(client, namespace, account, clock),
            silent: Mutex::default(),
            responding: broadcast::Sender::new(RESPONDING),
        }))
    }

    /// From now on a server is called like this.
    pub async fn is_reached_by(&self, server: &Server, by: Internal) {
        let mut reached = self.0.reached.lock().await;
        let client = match &by {
            Internal::Clear => {
                reached.remove(server);
                return;
            }
            _ if reached.get(server).is_some_and(|known| known.by == by) => return,
            Internal::Tls(ca) => InternalClient::with_ca(ca, &server.namespace, &server.name),
            Internal::Unknown => Err("the CA of its certificate is not known yet".to_owned()),
        };
        reached.insert(server.clone(), Reached { by, client });
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
                "the response is not from the admin API of McpAuthServer {server}: check that the Service of its \
                 internal port selects only its pods"
            ))
        })
    }

    /// Servers that respond again.
    pub fn responding(&self) -> impl Stream<Item = Server> + Send + use<> {
        let receiver = self.0.responding.subscribe();
        futures::stream::unfold(receiver, async |mut receiver| {
            loop {
                match receiver.recv().await {
                    Ok(server) => return Some((server, receiver)),
                    // Their objects are reconciled later, at the next resync.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                }
            }
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

    /// The keys that sign ID tokens. A server that does not respond is not asked.
    ///
    /// # Errors
    /// [`CallError`], whose text names the server.
    pub async fn signing_keys(&self, server: &Server) -> Result<SigningKeyList, CallError> {
        if let Some(why) = self.0.silent.lock().await.get(server).cloned() {
            return Err(CallError::Silent(why));
        }
        let path = SIGNING_KEYS_PATH;
        let answer = self.0.exchange(server, Method::GET, path, Bytes::new());
        let answer = answer.await;
        if let Err(CallError::Silent(why)) = &answer {
            self.probe_until_it_responds(server, why, path).await;
        }
        serde_json::from_slice(&answer?).map_err(|error| {
            CallError::Unreachable(format!(
                "the response of McpAuthServer {server} at {path} cannot be read: {error}"
            ))
        })
    }

    /// Forgets a server that was deleted.
    pub async fn forget(&self, server: &Server) {
        self.0.tokens.forget(server).await;
        self.0.reached.lock().await.remove(server);
        self.0.silent.lock().await.remove(server);
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
        let outcome = |error: Option<&CallError>| {
            let outcome = error.map_or("ok", CallError::outcome);
            tracing::Span::current().record("outcome", outcome);
        };
        let silent = self.0.silent.lock().await.get(server).cloned();
        if let Some(why) = silent {
            let error = CallError::Silent(why);
            outcome(Some(&error));
            return Err(error);
        }
        let path = path(collection, id);
        let answer = self.0.exchange(server, method, &path, body).await;
        outcome(answer.as_ref().err());
        if let Err(CallError::Silent(why)) = &answer {
            self.probe_until_it_responds(server, why, &path).await;
        }
        answer
    }

    async fn probe_until_it_responds(&self, server: &Server, why: &str, path: &str) {
        if let Entry::Vacant(entry) = self.0.silent.lock().await.entry(server.clone()) {
            entry.insert(why.to_owned());
            let (calls, server, path) = (Arc::clone(&self.0), server.clone(), path.to_owned());
            tokio::spawn(async move { calls.probe(server, &path).await });
        }
    }
}

impl Calls {
    /// Reads an entry until the server responds, whatever the response is, or is forgotten. Reading changes nothing,
    /// so it does not matter that the entry may be out of date or deleted.
    async fn probe(&self, server: Server, path: &str) {
        loop {
            tokio::time::sleep(PROBE).await;
            if !self.silent.lock().await.contains_key(&server) {
                return;
            }
            let answer = self
                .exchange(&server, Method::GET, path, Bytes::new())
                .await;
            if !matches!(answer, Err(CallError::Silent(_))) {
                break;
            }
        }
        self.silent.lock().await.remove(&server);
        // Without a receiver there is no controller that waits for it.
        let _ = self.responding.send(server);
    }

    async fn exchange(
        &self,
        server: &Server,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Bytes, CallError> {
        let client = self.client(server).await?;
        let tls = client.is_tls();
        let uri = format!("{}{path}", (self.endpoint)(server, tls));
        for fresh in [false, true] {
            let token = self.tokens.token(server, server.url(tls), fresh).await?;
            let request = Request::builder()
                .method(method.clone())
                .uri(&uri)
                .header(header::AUTHORIZATION, format!("Bearer {token}"))
                .header(header::CONTENT_TYPE, "application/json")
                .body(Full::new(body.clone()))
                .map_err(|e| CallError::Refused(format!("{uri}: {e}")))?;
            let (status, answer) = self.send(server, &client, request).await?;
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

    async fn client(&self, server: &Server) -> Result<InternalClient, CallError> {
        match self.reached.lock().await.get(server) {
            None => Ok(InternalClient::Clear(self.clear.clone())),
            Some(Reached { client, .. }) => client.clone().map_err(|why| {
                CallError::Unreachable(format!(
                    "McpAuthServer {server} has spec.internalTls, and {why}: see its conditions. Retrying"
                ))
            }),
        }
    }

    async fn send(
        &self,
        server: &Server,
        client: &InternalClient,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), CallError> {
        let silent = |why: String| {
            CallError::Silent(format!(
                "McpAuthServer {server} does not respond at {} ({why}): check that it is Ready, and that NetworkPolicies let \
                 the operator reach its internal port. Retrying",
                (self.endpoint)(server, client.is_tls())
            ))
        };
        let exchange = async {
            let response = client.request(request).await;
            let response = response.map_err(|e| root_cause(&e))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER);
            let body = body.collect().await.map_err(|e| root_cause(e.as_ref()))?;
            Ok((status, body.to_bytes()))
        };
        match tokio::time::timeout(TIMEOUT, exchange).await {
            Ok(answer) => answer.map_err(silent),
            Err(_) => Err(silent(format!(
                "no response within {} s",
                TIMEOUT.as_secs()
            ))),
        }
    }
}

/// The path of an entry.
fn path(collection: Collection, id: &str) -> String {
    collection.path(&utf8_percent_encode(id, SEGMENT).to_string())
}

/// The innermost cause, because the outer ones only say that something failed.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
