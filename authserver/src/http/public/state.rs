//! The state of the public port's endpoints, and which part of it each of them can access.

use std::sync::Arc;

use axum::extract::FromRef;
use mcpauth_service::audit::Audit;
use mcpauth_wire::authserver_config::{Registration, Tokens};
use mcpauth_wire::client_address::TrustedProxies;

use super::discovery::Discovery;
use super::introspect::PublicIntrospection;
use super::jwks::KeySet;
use super::pages::Pages;
use super::register::DynamicRegistration;
use super::token::TokenEndpoint;
use crate::config::{self, Introspection};
use crate::http::client_auth::ClientAuthentication;
use crate::http::client_auth::guesses::Guesses;
use crate::http::cookies::Cookies;
use crate::http::core::Core;
use crate::http::introspection;
use crate::login::Login;
use crate::metrics::Metrics;
use crate::signing::Signing;

/// The dependencies of the port's endpoints.
#[derive(Debug)]
pub struct Dependencies {
    /// Shared by both ports.
    pub core: Arc<Core>,
    /// Authenticates clients.
    pub clients: ClientAuthentication,
    /// Stops guessing at secrets.
    pub guesses: Arc<Guesses>,
    /// Users.
    pub login: Login,
    /// Limits on their passwords.
    pub rate_limit: config::RateLimit,
    /// The proxies in front of the port.
    pub trusted_proxies: Option<Arc<TrustedProxies>>,
    /// The keys that sign ID tokens.
    pub signing: Arc<Signing>,
    /// Dynamic registration.
    pub registration: Registration,
    /// Resource servers that introspect with a secret.
    pub introspection: Introspection,
    /// Lifetimes.
    pub tokens: Tokens,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The audit.
    pub audit: Audit,
}

/// The state of the port's routes. No handler takes it as a whole.
#[derive(Clone, Debug)]
pub struct PublicState(Arc<Endpoints>);

#[derive(Debug)]
pub(super) struct Endpoints {
    pub(super) core: Arc<Core>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) audit: Audit,
    /// Whether clients may register themselves.
    pub(super) registration_open: bool,
    /// Whether resource servers may introspect here.
    pub(super) introspection_open: bool,
    /// The proxies in front of the port.
    pub(super) trusted_proxies: Option<Arc<TrustedProxies>>,
    clients: Arc<ClientAuthentication>,
    discovery: Arc<Discovery>,
    introspection: Arc<PublicIntrospection>,
    key_set: Arc<KeySet>,
    pages: Arc<Pages>,
    registration: Arc<DynamicRegistration>,
    token: Arc<TokenEndpoint>,
}

impl PublicState {
    /// Builds the endpoints.
    pub fn new(parts: Dependencies) -> Self {
        let core = parts.core;
        let dynamic = parts.registration.dynamic.clone().unwrap_or_default();
        let registered_grant_types = dynamic.grant_types;
        let (clients, login) = (Arc::new(parts.clients), Arc::new(parts.login));
        Self(Arc::new(Endpoints {
            discovery: Arc::new(Discovery {
                core: Arc::clone(&core),
                registration_open: parts.registration.dynamic.is_some(),
                introspection_open: parts.introspection.public,
                signing: Arc::clone(&parts.signing),
            }),
            introspection_open: parts.introspection.public,
            trusted_proxies: parts.trusted_proxies,
            introspection: Arc::new(PublicIntrospection {
                callers: parts.introspection.callers.into_iter().collect(),
                guesses: Arc::clone(&parts.guesses),
                introspection: introspection::Introspection::new(Arc::clone(&core), &parts.metrics),
            }),
            key_set: Arc::new(KeySet(Arc::clone(&parts.signing))),
            pages: Arc::new(Pages {
                core: Arc::clone(&core),
                login: Arc::clone(&login),
                signing: Arc::clone(&parts.signing),
                cookies: Cookies::new(&core.issuer),
                limits: parts.rate_limit,
                redirect_schemes: parts.registration.allowed_redirect_schemes.clone(),
                code_lifetime: parts.tokens.authorization_code(),
                metrics: Arc::clone(&parts.metrics),
            }),
            registration_open: parts.registration.dynamic.is_some(),
            registration: Arc::new(DynamicRegistration::new(
                Arc::clone(&core),
                parts.guesses,
                Arc::clone(&parts.signing),
                parts.registration,
            )),
            token: Arc::new(TokenEndpoint {
                core: Arc::clone(&core),
                clients: Arc::clone(&clients),
                login,
                signing: parts.signing,
                lifetimes: parts.tokens,
                registered_grant_types,
                metrics: Arc::clone(&parts.metrics),
            }),
            metrics: parts.metrics,
            audit: parts.audit,
            clients,
            core,
        }))
    }

    /// Sets the gauges of the queues.
    pub fn count_waiting(&self, metrics: &Metrics) {
        metrics.waiting("password", self.0.pages.login.waiting());
        metrics.waiting("assertion", self.0.clients.waiting());
        metrics.waiting("registration", self.0.registration.waiting());
    }

    pub(super) fn endpoints(&self) -> &Endpoints {
        &self.0
    }
}

macro_rules! parts {
    ($($field:ident: $part:ty),* $(,)?) => {
        $(impl FromRef<PublicState> for Arc<$part> {
            fn from_ref(state: &PublicState) -> Self {
                Arc::clone(&state.0.$field)
            }
        })*
    };
}

parts! {
    core: Core,
    clients: ClientAuthentication,
    discovery: Discovery,
    introspection: PublicIntrospection,
    key_set: KeySet,
    pages: Pages,
    registration: DynamicRegistration,
    token: TokenEndpoint,
}
