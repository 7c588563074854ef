//! Verifies ServiceAccount tokens with the cluster's own keys, which the API server publishes.
//!
//! Verifying a token needs no request to the API server, so a flood of invalid tokens does not delay valid ones.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jsonwebtoken::jwk::JwkSet;
use mcpauth_service::clock::{Clock, UnixTime};
use moka::sync::Cache;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::service_account::{ClusterKeys, Refused, ServiceAccountToken, verify};
use crate::http::error::HttpError;
use crate::keys::digest::{Digest, sha256};
use crate::oauth::error::OAuthError;

/// The API server's OpenID Connect Discovery document: the issuer of its tokens and the location of its keys.
const DISCOVERY: &str = "/.well-known/openid-configuration";
const JWKS: &str = "/openid/v1/jwks";
/// Timeout of a request to the API server.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How often the keys are refreshed, and so how long a key that the cluster removed is still accepted.
const REFRESH: Duration = Duration::from_secs(300);
/// How often reading the keys is retried while there are none.
const RETRY: Duration = Duration::from_secs(2);
/// Minimum time between refreshes that unknown keys cause.
const UNKNOWN_KEY: Duration = Duration::from_secs(10);
/// How long a verified signature is cached, and how many are.
const REMEMBERED: Duration = Duration::from_secs(60);
const TOKENS: u64 = 10_000;

/// Verifies ServiceAccount tokens. `Debug` shows none.
pub struct TokenVerifier {
    audience: String,
    client: kube::Client,
    clock: Clock,
    keys: RwLock<Result<Arc<ClusterKeys>, Arc<str>>>,
    /// When the last refresh started, whether or not it succeeded. Locked during a refresh.
    asked: Mutex<Option<Instant>>,
    verified: Cache<Digest, ServiceAccountToken>,
}

impl fmt::Debug for TokenVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenVerifier({})", self.audience)
    }
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
}

impl TokenVerifier {
    /// For tokens with `audience`. No request is sent to the API server yet.
    pub fn new(audience: String, client: kube::Client, clock: Clock) -> Self {
        Self {
            audience,
            client,
            clock,
            keys: RwLock::new(Err(
                "the cluster's ServiceAccount keys have not been read yet".into(),
            )),
            asked: Mutex::default(),
            verified: Cache::builder()
                .max_capacity(TOKENS)
                .time_to_live(REMEMBERED)
                .build(),
        }
    }

    /// The ServiceAccount that a token proves.
    ///
    /// # Errors
    /// 401 for an invalid token; 503 while there are no keys.
    pub async fn principal(&self, token: &str) -> Result<Arc<str>, HttpError> {
        let (key, now) = (sha256(token), self.clock.now());
        if let Some(known) = self.verified.get(&key).filter(|known| known.expires > now) {
            return Ok(known.principal);
        }
        let verified = match self.verify(token, now)? {
            Err(Refused::UnknownKey) => {
                self.refresh_for_unknown_key().await;
                self.verify(token, now)?
            }
            answer => answer,
        };
        let verified = verified.map_err(|refused| HttpError::Unauthenticated(refused.text()))?;
        self.verified.insert(key, verified.clone());
        Ok(verified.principal)
    }

    fn verify(
        &self,
        token: &str,
        now: UnixTime,
    ) -> Result<Result<ServiceAccountToken, Refused>, HttpError> {
        let keys = self.current().map_err(|_| {
            let text = "the cluster's ServiceAccount keys have not been read yet; try again";
            HttpError::from(OAuthError::TemporarilyUnavailable(text.into()))
        })?;
        Ok(verify(token, &keys, &self.audience, now))
    }

    /// Whether tokens can be verified.
    ///
    /// # Errors
    /// Why not, in one line.
    pub fn ready(&self) -> Result<(), String> {
        self.current().map(drop).map_err(|why| why.to_string())
    }

    fn current(&self) -> Result<Arc<ClusterKeys>, Arc<str>> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.clone()
    }

    /// Keeps the keys up to date; never returns.
    pub async fn keep_up_to_date(&self) {
        loop {
            let mut asked = self.asked.lock().await;
            self.refresh().await;
            *asked = Some(Instant::now());
            drop(asked);
            let wait = if self.ready().is_ok() { REFRESH } else { RETRY };
            tokio::time::sleep(wait).await;
        }
    }

    /// Refreshes the keys, because the cluster may have a new one, unless that was just done. Callers do not wait for a
    /// refresh by another: if the API server does not respond, a flood of invalid tokens would use up all connections.
    async fn refresh_for_unknown_key(&self) {
        let Ok(mut asked) = self.asked.try_lock() else {
            return;
        };
        if asked.is_some_and(|asked| asked.elapsed() < UNKNOWN_KEY) {
            return;
        }
        *asked = Some(Instant::now());
        self.refresh().await;
    }

    /// Reads the keys. The current ones are kept when the API server does not respond.
    async fn refresh(&self) {
        match self.read().await {
            Ok(keys) => self.set(Ok(Arc::new(keys))),
            Err(why) => {
                tracing::warn!(error = %why, "cannot read the cluster's ServiceAccount keys; retrying");
                if self.ready().is_err() {
                    self.set(Err(why.into()));
                }
            }
        }
    }

    fn set(&self, keys: Result<Arc<ClusterKeys>, Arc<str>>) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    async fn read(&self) -> Result<ClusterKeys, String> {
        let discovery: Discovery = self.get(DISCOVERY).await?;
        let keys: JwkSet = self.get(JWKS).await?;
        if keys.keys.is_empty() {
            return Err(format!("{JWKS} of the Kubernetes API has no keys"));
        }
        Ok(ClusterKeys {
            issuer: discovery.issuer,
            keys,
        })
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        let request = http::Request::get(path)
            .body(Vec::new())
            .map_err(|error| error.to_string())?;
        let answer = tokio::time::timeout(TIMEOUT, self.client.request_text(request)).await;
        let text = match answer {
            Ok(Ok(text)) => text,
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => {
                return Err(format!(
                    "the Kubernetes API forbids GET {path}: bind the ClusterRole \
                     system:service-account-issuer-discovery to the group system:serviceaccounts, as clusters do by default"
                ));
            }
            Ok(Err(error)) => return Err(format!("GET {path} of the Kubernetes API: {error}")),
            Err(_) => {
                let seconds = TIMEOUT.as_secs();
                return Err(format!(
                    "the Kubernetes API did not respond to GET {path} within {seconds} s"
                ));
            }
        };
        serde_json::from_str(&text).map_err(|error| {
            format!("GET {path} of the Kubernetes API: unexpected response: {error}")
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::StatusCode;
    use serde_json::{Value, json};

    use super::super::service_account::tests::{AUDIENCE, ISSUER, Signer};
    use super::*;

    /// What the API server answers.
    struct ApiServer {
        keys: std::sync::Mutex<Vec<Value>>,
        /// None: it answers.
        status: std::sync::Mutex<Option<u16>>,
        asked: AtomicUsize,
    }

    impl ApiServer {
        fn with(signer: &Signer) -> Arc<Self> {
            Arc::new(Self {
                keys: std::sync::Mutex::new(vec![signer.jwk()]),
                status: std::sync::Mutex::default(),
                asked: AtomicUsize::new(0),
            })
        }

        fn verifier(self: &Arc<Self>) -> TokenVerifier {
            let server = Arc::clone(self);
            let api = tower::service_fn(move |request: http::Request<kube::client::Body>| {
                let (status, body) = server.answer(request.uri().path());
                let body = kube::client::Body::from(body.to_string().into_bytes());
                let response = http::Response::builder().status(status);
                async move { Ok::<_, tower::BoxError>(response.body(body)?) }
            });
            let client = kube::Client::new(api, "default");
            TokenVerifier::new(AUDIENCE.into(), client, Clock::system())
        }

        fn answer(&self, path: &str) -> (u16, Value) {
            self.asked.fetch_add(1, Ordering::Relaxed);
            if let Some(code) = *self.status.lock().unwrap() {
                return (
                    code,
                    json!({ "kind": "Status", "code": code, "message": "no" }),
                );
            }
            let keys = self.keys.lock().unwrap().clone();
            match path {
                DISCOVERY => (
                    200,
                    json!({ "issuer": ISSUER, "jwks_uri": "https://elsewhere/" }),
                ),
                JWKS => (200, json!({ "keys": keys })),
                _ => (404, json!({})),
            }
        }
    }

    fn fresh(signer: &Signer) -> String {
        signer.token(Clock::system().now())
    }

    async fn status(verifier: &TokenVerifier, token: &str) -> StatusCode {
        verifier.principal(token).await.unwrap_err().status()
    }

    #[tokio::test]
    async fn not_ready_before_the_first_keys_and_then_for_good() {
        let signer = Signer::new();
        let server = ApiServer::with(&signer);
        *server.status.lock().unwrap() = Some(403);
        let verifier = server.verifier();
        assert_eq!(status(&verifier, &fresh(&signer)).await, 503);
        verifier.refresh().await;
        let why = verifier.ready().unwrap_err();
        assert!(
            why.contains("system:service-account-issuer-discovery"),
            "{why}"
        );
        assert_eq!(status(&verifier, &fresh(&signer)).await, 503);

        *server.status.lock().unwrap() = None;
        verifier.refresh().await;
        assert_eq!(verifier.ready(), Ok(()));
        // They are kept while the API server is away.
        *server.status.lock().unwrap() = Some(503);
        verifier.refresh().await;
        let principal = verifier.principal(&fresh(&signer)).await;
        assert_eq!(&*principal.unwrap(), "system:serviceaccount:default:notes");
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_key_is_found_at_once_and_unknown_ones_are_asked_for_each_ten_seconds() {
        let (old, new, stranger) = (Signer::new(), Signer::new(), Signer::new());
        let server = ApiServer::with(&old);
        let verifier = server.verifier();
        verifier.refresh().await;
        server.keys.lock().unwrap().push(new.jwk());
        assert!(verifier.principal(&fresh(&new)).await.is_ok());
        let asked = server.asked.load(Ordering::Relaxed);
        for _ in 0..100 {
            assert_eq!(status(&verifier, &fresh(&stranger)).await, 401);
        }
        assert_eq!(server.asked.load(Ordering::Relaxed), asked);
        tokio::time::advance(UNKNOWN_KEY).await;
        for _ in 0..100 {
            assert_eq!(status(&verifier, &fresh(&stranger)).await, 401);
        }
        assert_eq!(server.asked.load(Ordering::Relaxed), asked + 2);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_while_the_api_server_is_silent() {
        let (signer, stranger) = (Signer::new(), Signer::new());
        let server = ApiServer::with(&signer);
        let verifier = Arc::new(server.verifier());
        verifier.refresh().await;
        // As during a question that is not answered.
        let asked = verifier.asked.lock().await;
        let begin = Instant::now();
        for _ in 0..100 {
            assert_eq!(status(&verifier, &fresh(&stranger)).await, 401);
            assert!(verifier.principal(&fresh(&signer)).await.is_ok());
        }
        assert_eq!(begin.elapsed(), Duration::ZERO, "on a clock that stands");
        drop(asked);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_the_cluster_takes_away_is_forgotten() {
        let (old, new) = (Signer::new(), Signer::new());
        let server = ApiServer::with(&old);
        let verifier = Arc::new(server.verifier());
        let keeper = tokio::spawn({
            let verifier = Arc::clone(&verifier);
            async move { verifier.keep_up_to_date().await }
        });
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(verifier.principal(&fresh(&old)).await.is_ok());
        *server.keys.lock().unwrap() = vec![new.jwk()];
        tokio::time::sleep(REFRESH).await;
        assert_eq!(status(&verifier, &fresh(&old)).await, 401);
        assert!(verifier.principal(&fresh(&new)).await.is_ok());
        keeper.abort();
    }

    #[tokio::test]
    async fn a_token_is_never_logged() {
        let logs = mcpauth_test_support::logs::capture();
        let signer = Signer::new();
        let server = ApiServer::with(&signer);
        let verifier = server.verifier();
        *server.status.lock().unwrap() = Some(500);
        verifier.refresh().await;
        *server.status.lock().unwrap() = None;
        verifier.refresh().await;
        let (good, bad) = (fresh(&signer), fresh(&Signer::new()));
        assert!(verifier.principal(&good).await.is_ok());
        assert_eq!(status(&verifier, &bad).await, 401);
        assert_eq!(logs.containing("cannot read the cluster's").len(), 1);
        logs.assert_free_of(&[&good, &bad]);
        assert!(!format!("{verifier:?}").contains(&good));
    }
}
