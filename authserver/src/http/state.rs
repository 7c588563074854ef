//! What every request handler works with.

use std::sync::Arc;

use mcpauth_wire::Issuer;

use crate::config::{Config, RateLimit, Registration, Tokens};
use crate::http::cookies::Cookies;
use crate::http::internal::authentication::Callers;
use crate::issue::Minter;
use crate::keys::pepper::{KeyedHash, Pepper};
use crate::keys::signing_key::{SigningKey, SigningKeyError};
use crate::login::Login;
use crate::metrics::Metrics;
use crate::oauth::grant::GrantId;
use crate::oauth::token::{Token, TokenKind};
use crate::random::{self, RandomError};
use crate::registration as documents;
use crate::store::{Store, StoreError};
use mcpauth_service::clock::Clock;

/// What handlers take as their state.
pub type Shared = Arc<App>;

/// The server's parts, shared by all requests.
#[derive(Debug)]
pub struct App {
    /// The issuer.
    pub issuer: Issuer,
    /// Clients, resources, grants.
    pub store: Arc<dyn Store>,
    /// Keys for hashes and signatures.
    pub pepper: Pepper,
    /// The time.
    pub clock: Clock,
    /// Signs ID tokens.
    pub signing_key: SigningKey,
    /// Compared with when a client is unknown, for the same work.
    pub decoy_secret: KeyedHash,
    /// Users.
    pub login: Login,
    /// Names and attributes of the browser's cookies.
    pub cookies: Cookies,
    /// Dynamic registration.
    pub registration: Registration,
    /// Lifetimes.
    pub tokens: Tokens,
    /// Limits.
    pub rate_limit: RateLimit,
    /// Who may use the internal port.
    pub callers: Callers,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The signing key does not open.
    #[error(transparent)]
    SigningKey(#[from] SigningKeyError),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// No client for the Kubernetes API, though `internal.tokenReview` is configured.
    #[error("internal.tokenReview needs the Kubernetes API, and there is no way to it: {0}")]
    Kubernetes(#[source] Box<kube::Error>),
}

impl App {
    /// Puts the parts together and upserts what the configuration declares.
    ///
    /// # Errors
    /// When the store is away, or the signing key cannot be had.
    pub async fn new(
        config: Config,
        store: Arc<dyn Store>,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StartError> {
        let Config {
            issuer,
            pepper,
            login,
            registration,
            tokens,
            rate_limit,
            internal,
            resources,
            clients,
            ..
        } = config;
        for resource in &resources {
            store.upsert_resource(resource).await?;
        }
        for (client_id, document) in clients {
            let origin = crate::oauth::client::ClientOrigin::Config;
            let client = documents::client(document, client_id, origin, &pepper);
            store.upsert_client(&client, clock.now()).await?;
        }
        let sealed = SigningKey::generate()?.seal(&pepper, random::bytes()?)?;
        let sealed = store.signing_key_or(sealed).await?;
        let decoy = Token::generate(TokenKind::Access, random::bytes()?);
        Ok(Self {
            signing_key: SigningKey::open(&pepper, &sealed)?,
            decoy_secret: pepper.hash_client_secret(decoy.reveal()),
            cookies: Cookies::new(&issuer),
            login: Login::new(login),
            callers: Callers::new(internal)
                .await
                .map_err(|error| StartError::Kubernetes(Box::new(error)))?,
            metrics,
            issuer,
            store,
            pepper,
            clock,
            registration,
            tokens,
            rate_limit,
        })
    }

    /// Makes the tokens of a grant.
    pub fn minter(&self, may_refresh: bool) -> Minter<'_> {
        Minter {
            pepper: &self.pepper,
            random: &random::bytes,
            access: self.tokens.access(),
            refresh: may_refresh.then(|| self.tokens.refresh()),
        }
    }

    /// A fresh grant identifier.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn new_grant_id(&self) -> Result<GrantId, RandomError> {
        random::bytes().map(GrantId::from_bytes)
    }
}
