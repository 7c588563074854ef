//! Client authentication (OAuth 2.1, section 2.4; RFC 7523): who sends this request?

pub mod credentials;
pub mod guesses;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use mcpauth_service::admission::{Bounds, Caller};
use mcpauth_service::clock::UnixTime;
use mcpauth_service::fair_queue::FairQueue;
use mcpauth_service::heavy;
use mcpauth_service::otlp::TARGET;
use mcpauth_wire::client::{TokenEndpointAuthMethod, is_id};
use tracing::Instrument as _;

use crate::config;
use crate::http::audit;
use crate::http::core::Core;
use crate::http::error::HttpError;
use crate::http::trace;
use crate::keys::pepper::KeyedHash;
use crate::oauth::client::Client;
use crate::oauth::client_assertion::{self, AssertionError, Audience};
use crate::oauth::error::OAuthError;
use crate::oauth::params::Params;
use crate::oauth::rate_limit::{Decision, RateLimit};
use crate::oauth::token::{Token, TokenKind};
use crate::random::{self, RandomError};
use credentials::Credentials;
use guesses::Guesses;

/// How many assertions are verified at once, and wait for that.
const ASSERTIONS: Bounds = Bounds {
    waiting: 64,
    concurrent: 1,
};

/// Authenticates clients, and counts their requests against the limits.
#[derive(Debug)]
pub struct ClientAuthentication {
    core: Arc<Core>,
    limits: config::RateLimit,
    guesses: Arc<Guesses>,
    /// Assertions whose signatures are verified, one at a time, in turn with those of other networks.
    assertions: FairQueue<IpAddr>,
    /// Compared with when a client is unknown, so that the response takes equally long.
    decoy_secret: KeyedHash,
}

/// Why client authentication failed. The response is always `invalid_client`, so that it does not reveal which
/// clients exist; the log has the reason.
#[derive(Clone, Copy, Debug, thiserror::Error)]
enum Failure {
    #[error("no client has this client_id")]
    UnknownClient,
    #[error("the client did not use its registered authentication method")]
    Method,
    #[error("the client secret is wrong")]
    Secret,
    #[error("the client assertion was rejected: {0}")]
    Assertion(#[from] AssertionError),
    #[error("the client assertion was already used")]
    AssertionReused,
}

impl ClientAuthentication {
    /// With these limits.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn new(
        core: Arc<Core>,
        limits: config::RateLimit,
        guesses: Arc<Guesses>,
    ) -> Result<Self, RandomError> {
        let decoy = Token::generate(TokenKind::Access, random::bytes()?);
        Ok(Self {
            decoy_secret: core.pepper.hash_client_secret(decoy.reveal()),
            core,
            limits,
            guesses,
            assertions: FairQueue::new(ASSERTIONS),
        })
    }

    /// Authenticates the client of a request to the token or revocation endpoint, by exactly the method
    /// that it registered, and counts the request against the client's limit.
    ///
    /// Requests are counted by client only after authentication, and those of a public client by client and address: nobody
    /// can use up the limit of another client.
    ///
    /// # Errors
    /// `invalid_client`, `invalid_request` for contradictory credentials, 429 over a limit, 503 when the
    /// store is unavailable.
    pub async fn authenticate(
        &self,
        headers: &HeaderMap,
        params: &Params,
        peer: IpAddr,
    ) -> Result<Client, HttpError> {
        let span = tracing::trace_span!(target: TARGET, "authenticate_client");
        let authenticated = self.authenticated(headers, params, peer);
        authenticated.instrument(span).await
    }

    async fn authenticated(
        &self,
        headers: &HeaderMap,
        params: &Params,
        peer: IpAddr,
    ) -> Result<Client, HttpError> {
        let presented = credentials::extract(headers, params)?;
        let client = match is_id(presented.client_id()) {
            true => {
                trace::client(presented.client_id());
                self.core.store.client(presented.client_id()).await?
            }
            false => None,
        };
        let guesses = match (&presented, &client) {
            // There is nothing to guess.
            (Credentials::Public { .. }, _) | (_, None) => None,
            (_, Some(client)) => Some(self.guesses.of(&client.client_id, peer)),
        };
        if let Some(guesses) = &guesses {
            guesses.admit().await?;
        }
        let client = match self.verify(&presented, client, peer).await? {
            Ok(client) => client,
            Err(failure) => {
                tracing::info!(reason = %failure, "client authentication failed");
                audit::about(|about| about.reason(&failure.to_string()));
                if let Some(guesses) = &guesses {
                    guesses.failed();
                }
                return Err(match presented.is_basic() {
                    true => HttpError::InvalidBasicCredentials,
                    false => OAuthError::InvalidClient.into(),
                });
            }
        };
        if let Some(guesses) = &guesses {
            guesses.succeeded().await?;
        }
        let limit = RateLimit::per_minute(self.limits.client_requests_per_minute);
        let subject = match presented {
            Credentials::Public { client_id } => format!("{client_id} {peer}"),
            _ => client.client_id.clone(),
        };
        let now = self.core.clock.now();
        match self.core.store.hit("client", &subject, limit, now).await? {
            Decision::Allowed => Ok(client),
            Decision::Refused { retry_after } => Err(HttpError::TooManyRequests(retry_after)),
        }
    }

    /// How many assertions wait to be verified.
    pub fn waiting(&self) -> usize {
        self.assertions.waiting()
    }

    /// The client, when the credentials are its own. Does the same work for an unknown client.
    async fn verify(
        &self,
        presented: &Credentials,
        client: Option<Client>,
        peer: IpAddr,
    ) -> Result<Result<Client, Failure>, HttpError> {
        let secret_matches = match presented {
            Credentials::Basic { secret, .. } | Credentials::Post { secret, .. } => {
                let stored = client.as_ref().and_then(|client| client.secret_hash);
                let expected = stored.unwrap_or(self.decoy_secret);
                let matches = self.core.pepper.verify_client_secret(secret, &expected);
                matches && stored.is_some()
            }
            Credentials::Public { .. } | Credentials::Assertion { .. } => true,
        };
        let Some(client) = client else {
            return Ok(Err(Failure::UnknownClient));
        };
        if client.metadata.token_endpoint_auth_method != presented.method() {
            return Ok(Err(Failure::Method));
        }
        if !secret_matches {
            return Ok(Err(Failure::Secret));
        }
        self.rehash(presented, &client).await?;
        if let Credentials::Assertion { jwt, .. } = presented
            && let Err(failure) = self.verify_assertion(jwt, &client, peer).await?
        {
            return Ok(Err(failure));
        }
        Ok(Ok(client))
    }

    /// Hashes a verified secret again, when its hash was made under a pepper that is not the current one.
    async fn rehash(&self, presented: &Credentials, client: &Client) -> Result<(), HttpError> {
        if let Credentials::Basic { secret, .. } | Credentials::Post { secret, .. } = presented
            && let Some(before) = client.secret_hash
            && let Some(after) = self.core.pepper.rehash_client_secret(secret, &before)
        {
            let store = &self.core.store;
            store
                .replace_secret_hash(&client.client_id, &before, &after)
                .await?;
        }
        Ok(())
    }

    /// Verifies a client assertion, and uses it up.
    async fn verify_assertion(
        &self,
        jwt: &str,
        client: &Client,
        peer: IpAddr,
    ) -> Result<Result<(), Failure>, HttpError> {
        let now = self.core.clock.now();
        let turn = self.assertions.turn(Caller::Unknown, peer).await;
        let turn = turn.map_err(|_| HttpError::TooManyRequests(Duration::from_secs(1)))?;
        let (core, jwt, owner) = (Arc::clone(&self.core), jwt.to_owned(), client.clone());
        // Signatures by several RSA keys take so long that other requests on this thread would wait.
        let verify = move || {
            let _turn = turn;
            let audience = Audience {
                issuer: &core.issuer,
                accepted: owner.metadata.assertion_audience,
            };
            let jwks = owner.metadata.jwks.as_ref();
            client_assertion::verify(&jwt, jwks, &owner.client_id, audience, now)
        };
        let claims = match heavy::run(Caller::Unknown, verify)
            .await
            .ok_or(OAuthError::ServerError)?
        {
            Ok(claims) => claims,
            Err(error) => return Ok(Err(error.into())),
        };
        let client_id = &client.client_id;
        // A replica whose clock is ahead removes what has expired there.
        let until = UnixTime::from_seconds(claims.exp + client_assertion::SKEW);
        let store = &self.core.store;
        let is_first = store
            .remember_assertion(client_id, &claims.jti, until, now)
            .await?;
        Ok(is_first.then_some(()).ok_or(Failure::AssertionReused))
    }
}

impl Credentials {
    /// The registered method that these credentials belong to.
    fn method(&self) -> TokenEndpointAuthMethod {
        match self {
            Self::Public { .. } => TokenEndpointAuthMethod::None,
            Self::Basic { .. } => TokenEndpointAuthMethod::ClientSecretBasic,
            Self::Post { .. } => TokenEndpointAuthMethod::ClientSecretPost,
            Self::Assertion { .. } => TokenEndpointAuthMethod::PrivateKeyJwt,
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use http::HeaderValue;
    use mcpauth_service::clock::Clock;
    use mcpauth_wire::Issuer;

    use super::*;
    use crate::keys::pepper::{Pepper, VERIFIED};
    use crate::oauth::client::{ClientMetadata, ClientOrigin};
    use crate::store::MemoryStore;

    const PEPPER: &str = "1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    const NOW: UnixTime = UnixTime::from_seconds(1_800_000_000);

    async fn with_clients() -> ClientAuthentication {
        let pepper = Pepper::parse(PEPPER).unwrap();
        let store = MemoryStore::default();
        for method in [
            TokenEndpointAuthMethod::None,
            TokenEndpointAuthMethod::ClientSecretBasic,
            TokenEndpointAuthMethod::ClientSecretPost,
        ] {
            let secret = method.has_secret();
            let client = Client {
                client_id: method.as_str().into(),
                origin: ClientOrigin::Declared,
                metadata: ClientMetadata {
                    token_endpoint_auth_method: method,
                    ..ClientMetadata::default()
                },
                secret_hash: secret.then(|| pepper.hash_client_secret("right")),
                registration_token: None,
            };
            crate::store::Store::upsert_client(&store, &client, NOW)
                .await
                .unwrap();
        }
        let core = Arc::new(Core {
            issuer: Issuer::parse("https://auth.example").unwrap(),
            store: Arc::new(store),
            pepper,
            clock: Clock::manual(NOW),
        });
        let guesses = Arc::new(Guesses::new(Arc::clone(&core), 60));
        ClientAuthentication::new(core, config::RateLimit::default(), guesses).unwrap()
    }

    /// The same work: a client that is unknown, one with another secret, and one with another method.
    #[tokio::test]
    async fn each_failure_verifies_one_secret() {
        let clients = with_clients().await;
        let known = ["client_secret_basic", "client_secret_post", "none"];
        for id in known.into_iter().chain(["nobody", "not/an/id"]) {
            let encoded = STANDARD.encode(format!("{id}:wrong"));
            let header = HeaderValue::from_str(&format!("Basic {encoded}")).unwrap();
            let headers = HeaderMap::from_iter([(http::header::AUTHORIZATION, header)]);
            let form = format!("client_id={id}&client_secret=wrong");
            for (headers, form) in [(headers, ""), (HeaderMap::new(), form.as_str())] {
                let params = Params::parse(form.as_bytes()).unwrap();
                let before = VERIFIED.get();
                let peer = "192.0.2.1".parse().unwrap();
                let refused = clients.authenticate(&headers, &params, peer).await;
                assert!(refused.is_err(), "{id}");
                assert_eq!(VERIFIED.get() - before, 1, "{id} {form}");
            }
        }
    }
}
