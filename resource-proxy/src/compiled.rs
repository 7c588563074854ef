//! The compiled configuration: prepared once for each version of the file, so that requests do not have to.

use std::sync::Arc;

use mcpauth_service::audit::Audit;
use mcpauth_service::clock::Clock;
use mcpauth_wire::access::Lists;

use crate::auth::authorize::AccessRules;
use crate::auth::source::TokenSource;
use crate::auth::source::introspection::Introspector;
use crate::auth::verify::Verifier;
use crate::client::HttpClient;
use crate::config::{Config, ConfigError};
use crate::drain::Drain;
use crate::http::metadata::{self, Metadata};
use crate::http::refusal::Challenge;
use crate::http::upstream::Upstream;
use crate::limits::capacity::Capacity;
use crate::metrics::Metrics;
use crate::resource::Resource;
use crate::tool_label::ToolLabels;

/// Everything that a version of the configuration decides.
#[derive(Debug)]
pub struct Compiled {
    /// As it was read.
    pub config: Config,
    /// The protected resource.
    pub resource: Resource,
    /// What is answered without a token.
    pub metadata: Metadata,
    /// What clients without a valid token are told.
    pub challenge: Challenge,
    /// What callers may do.
    pub rules: Arc<AccessRules>,
    /// What metrics call tools.
    pub labels: ToolLabels,
    /// The MCP server.
    pub upstream: Upstream,
    /// Checks tokens.
    pub verifier: Arc<Verifier>,
    /// Limits the memory of requests in flight.
    pub capacity: Arc<Capacity>,
}

/// What outlives a version of the configuration.
#[derive(Clone, Debug)]
pub struct Runtime {
    /// Time.
    pub clock: Clock,
    /// Connections to the MCP server and the authorization server.
    pub client: HttpClient,
    /// Counters.
    pub metrics: Metrics,
    /// Who called what.
    pub audit: Audit,
    /// How far the end of this process has come.
    pub drain: Arc<Drain>,
}

impl Compiled {
    /// From a checked configuration. What is known about tokens is kept from `previous` if it was learned
    /// under the same rules.
    ///
    /// # Errors
    /// The first key whose value cannot be used.
    pub fn new(
        config: Config,
        runtime: &Runtime,
        previous: Option<&Self>,
    ) -> Result<Self, ConfigError> {
        let resource = Resource::parse(&config.resource)
            .map_err(|problem| ConfigError::new("resource", problem))?;
        let kept = previous.filter(|previous| {
            previous.config.resource == config.resource
                && previous.config.introspection == config.introspection
                && asks_grantable(&previous.config) == asks_grantable(&config)
        });
        let verifier = match kept {
            Some(previous) => Arc::clone(&previous.verifier),
            None => verifier(&config, &resource, runtime)?,
        };
        let limits = &config.limits;
        let capacity = match previous.filter(|previous| previous.config.limits == *limits) {
            Some(previous) => Arc::clone(&previous.capacity),
            None => Arc::new(Capacity::new(limits.body_bytes)),
        };
        Ok(Self {
            metadata: Metadata::new(&config)?,
            challenge: Challenge {
                resource_metadata: resource.metadata_url().to_owned(),
                scope: metadata::initial_scopes(&config).join(" "),
            },
            rules: Arc::new(AccessRules::new(&config)),
            labels: ToolLabels::new(&config),
            upstream: Upstream::new(&config.upstream)
                .map_err(|problem| ConfigError::new("", problem))?,
            verifier,
            capacity,
            resource,
            config,
        })
    }
}

/// Whether lists depend on what client and user may have. Otherwise the authorization server is not asked for it, which would
/// have it read more for each token.
fn asks_grantable(config: &Config) -> bool {
    config.access.lists == Lists::Grantable
}

fn verifier(
    config: &Config,
    resource: &Resource,
    runtime: &Runtime,
) -> Result<Arc<Verifier>, ConfigError> {
    let client = runtime.client.clone();
    let introspector = Introspector::new(client, &config.introspection, asks_grantable(config));
    let introspector = introspector.map_err(|problem| ConfigError::new("", problem))?;
    Ok(Arc::new(Verifier::new(
        TokenSource::Introspection(introspector),
        &config.introspection,
        resource.clone(),
        runtime.clock.clone(),
        runtime.metrics.clone(),
    )))
}
