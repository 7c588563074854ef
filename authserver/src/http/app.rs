//! Assembles the server.

use std::sync::Arc;

use mcpauth_service::audit::Audit;
use mcpauth_service::clock::Clock;

use crate::config::Config;
use crate::documents;
use crate::http::client_auth::ClientAuthentication;
use crate::http::client_auth::guesses::Guesses;
use crate::http::core::Core;
use crate::http::internal::InternalState;
use crate::http::internal::authentication::InternalAuthentication;
use crate::http::internal::token_verifier::TokenVerifier;
use crate::http::public::{self, PublicState};
use crate::login::Login;
use crate::metrics::Metrics;
use crate::oauth::client::ClientOrigin;
use crate::pepper_use::{self, PepperUseError};
use crate::random::RandomError;
use crate::signing::{Signing, SigningError};
use crate::store::{Store, StoreError};

/// The server's parts.
#[derive(Debug)]
pub struct App {
    /// Shared by both ports.
    pub core: Arc<Core>,
    /// The keys that sign ID tokens.
    pub signing: Arc<Signing>,
    /// The state of the public port's endpoints.
    pub public: PublicState,
    /// The state of the internal port's endpoints.
    pub internal: InternalState,
    /// Verifies the ServiceAccount tokens of the internal port's callers, if they are accepted.
    pub service_accounts: Option<Arc<TokenVerifier>>,
}

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keys file lacks a version of the pepper that is needed.
    #[error(transparent)]
    Pepper(#[from] PepperUseError),
    /// The signing keys cannot be decrypted or created.
    #[error(transparent)]
    Signing(#[from] SigningError),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// No client for the Kubernetes API, though `internal.serviceAccountTokens` is configured.
    #[error(
        "internal.serviceAccountTokens requires the Kubernetes API, but there is no usable configuration for it: {0}; \
         run in a pod with a ServiceAccount, or remove internal.serviceAccountTokens"
    )]
    Kubernetes(#[source] Box<kube::Error>),
}

impl App {
    /// Assembles the server and upserts the resources and clients in the configuration.
    ///
    /// # Errors
    /// When the store is unavailable, or the signing key cannot be read or created.
    pub async fn new(
        config: Config,
        store: Arc<dyn Store>,
        clock: Clock,
        metrics: Arc<Metrics>,
        audit: Audit,
    ) -> Result<Self, StartError> {
        let core = Arc::new(Core {
            issuer: config.issuer,
            store,
            pepper: config.pepper,
            clock,
        });
        for resource in &config.resources {
            core.store.upsert_resource(resource).await?;
        }
        for (client_id, document) in config.clients {
            let client = documents::client(document, client_id, ClientOrigin::Config, &core.pepper);
            core.store.upsert_client(&client, core.clock.now()).await?;
        }
        // After the clients of the configuration, whose secrets need no pepper of old.
        pepper_use::check(core.store.as_ref(), &core.pepper, core.clock.now()).await?;
        let signing = Arc::new(Signing::new(config.signing_keys));
        let (store, now) = (core.store.as_ref(), core.clock.now());
        signing.tend(store, &core.pepper, now).await?;
        let authentication = InternalAuthentication::new(
            config.internal,
            config.introspection.clone(),
            core.clock.clone(),
        );
        let authentication = authentication
            .await
            .map_err(|error| StartError::Kubernetes(Box::new(error)))?;
        let failures = config.rate_limit.address_failures_per_minute;
        let guesses = Arc::new(Guesses::new(Arc::clone(&core), failures));
        let public = PublicState::new(public::Dependencies {
            clients: ClientAuthentication::new(
                Arc::clone(&core),
                config.rate_limit.clone(),
                Arc::clone(&guesses),
            )?,
            guesses,
            login: Login::new(config.login),
            rate_limit: config.rate_limit,
            trusted_proxies: config.trusted_proxies.map(Arc::new),
            signing: Arc::clone(&signing),
            registration: config.registration,
            introspection: config.introspection,
            tokens: config.tokens,
            metrics: Arc::clone(&metrics),
            audit: audit.clone(),
            core: Arc::clone(&core),
        });
        Ok(Self {
            public,
            service_accounts: authentication.service_accounts(),
            internal: InternalState::new(
                Arc::clone(&core),
                authentication,
                Arc::clone(&signing),
                metrics,
                audit,
            ),
            signing,
            core,
        })
    }
}
