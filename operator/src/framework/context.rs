//! The context that all reconciles share.

use std::sync::Arc;

use jiff::Timestamp;
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use mcpauth_api::McpAuthServer;
use mcpauth_service::clock::Clock;

use crate::authserver::{AuthServers, Endpoint};
use crate::config::Config;
use crate::desired::Images;
use crate::framework::backoff::Backoff;
use crate::framework::events::Events;
use crate::framework::guarded::Guarded;
use crate::framework::installation::{Holders, Installation, LeftAlone};
use crate::framework::newcomers::Newcomers;
use crate::framework::pacing::Pacing;
use crate::framework::recent::Recent;
use crate::framework::references::{Key, References};
use crate::framework::written::Written;
use crate::metrics::Metrics;
use crate::pods::health::Health;
use crate::pods::policy::Policies;
use crate::time;

/// Shared by all controllers.
pub struct Context {
    /// The Kubernetes API.
    pub client: Client,
    /// Flags.
    pub config: Config,
    /// Default images.
    pub images: Images,
    /// Publishes events.
    pub events: Events,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    clock: Clock,
    /// Consecutive failures, by kind and object.
    pub backoff: Backoff<(&'static str, Key)>,
    /// The objects that were reconciled, which let new ones go first.
    pub newcomers: Newcomers<(&'static str, Key)>,
    /// Who is upgraded.
    pub pacing: Pacing,
    /// Fingerprints of the children that were written.
    pub written: Written,
    /// The admin API of authorization servers.
    pub auth_servers: AuthServers,
    /// Asks pods why they are not ready.
    pub health: Arc<Health>,
    /// The McpAuthServers that new objects refer to.
    pub recent_auth_servers: Recent<Key, Option<Guarded<McpAuthServer>>>,
    /// What proxies say about the policy that they run.
    pub policies: Policies,
    /// Other installations of the operator.
    pub holders: Holders,
    left_alone: LeftAlone,
    /// The references between objects.
    pub references: Referrers,
}

/// References, by the kind of the referrer.
#[derive(Debug, Default)]
pub struct Referrers {
    /// Of McpAuthServers.
    pub auth_servers: References,
    /// Of ProtectedMcpServers.
    pub protected_servers: References,
    /// Of McpOAuthClients.
    pub oauth_clients: References,
}

impl Context {
    /// `endpoint` returns the URL of an authorization server.
    pub fn new(
        client: Client,
        config: Config,
        metrics: Arc<Metrics>,
        clock: Clock,
        endpoint: Endpoint,
    ) -> Self {
        let health = Arc::new(Health::default());
        Self {
            events: Events::new(client.clone(), &config.identity),
            images: config.images(),
            backoff: Backoff::default(),
            newcomers: Newcomers::default(),
            pacing: Pacing::new(config.max_concurrent_upgrades),
            written: Written::default(),
            auth_servers: AuthServers::new(
                client.clone(),
                &config.namespace,
                &config.service_account,
                endpoint,
                clock.clone(),
            ),
            recent_auth_servers: Recent::default(),
            policies: Policies::new(Arc::clone(&health)),
            health,
            holders: Holders::default(),
            left_alone: LeftAlone::default(),
            references: Referrers::default(),
            client,
            config,
            metrics,
            clock,
        }
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        time::now(&self.clock)
    }

    /// Which installation of the operator this is.
    pub fn installation(&self) -> Installation {
        Installation {
            namespace: self.config.namespace.clone(),
            lease: self.config.lease_name.clone(),
        }
    }

    /// How [`Self::pacing`] names an object.
    pub fn paced(kind: &str, namespace: &str, name: &str) -> String {
        format!("{kind}/{namespace}/{name}")
    }

    /// Forgets an object that is gone, or another installation's: it counts in no metric and has no turn.
    pub fn forget(&self, kind: &'static str, namespace: &str, name: &str) {
        self.metrics
            .object(kind, format!("{namespace}/{name}"), None);
        self.pacing.end(&Self::paced(kind, namespace, name));
    }

    /// Records which other installation claims an object; `None` when none does, or the object is gone. Returns whether
    /// that is news.
    pub fn note_claim(&self, kind: &'static str, object: Key, claim: Option<&str>) -> bool {
        let news = self.left_alone.set(kind, object, claim);
        if news {
            self.metrics.left_alone(kind, self.left_alone.count(kind));
        }
        news
    }

    /// The scope of a watch: one namespace, or all. Each scope has separate controllers.
    pub fn scopes(self: &Arc<Self>) -> Vec<Scope> {
        let scope = |namespace| Scope {
            program: Arc::clone(self),
            namespace,
        };
        let mut namespaces = self.config.watch_namespaces.clone();
        namespaces.sort();
        namespaces.dedup();
        match namespaces.is_empty() {
            true => vec![scope(None)],
            false => namespaces.into_iter().map(Some).map(scope).collect(),
        }
    }
}

/// The objects of one namespace, or of all.
#[derive(Clone)]
pub struct Scope {
    /// The program's.
    pub program: Arc<Context>,
    namespace: Option<String>,
}

impl Scope {
    /// The objects in it.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        let client = self.program.client.clone();
        match &self.namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        }
    }

    /// Whether objects of this namespace are in it.
    pub fn covers(&self, namespace: &str) -> bool {
        self.namespace.as_deref().is_none_or(|own| own == namespace)
    }
}
