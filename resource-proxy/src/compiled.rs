//! A configuration, ready for use.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use mcpauth_wire::scope::Hierarchy;

use crate::auth::introspection::{HttpClient, Introspector};
use crate::auth::policy::ToolPolicy;
use crate::auth::verify::Verifier;
use crate::clock::Clock;
use crate::config::{Config, ConfigError};
use crate::http::metadata;
use crate::http::refusal::Challenge;
use crate::http::upstream::Upstream;
use crate::limits::capacity::Room;
use crate::metrics::Metrics;
use crate::resource::{Resource, authorization_server_metadata_url};

/// Everything that a version of the configuration decides.
#[derive(Debug)]
pub struct Settings {
    /// As it was read.
    pub config: Config,
    /// The protected resource.
    pub resource: Resource,
    /// Its metadata document (RFC 9728 section 2).
    pub metadata: Bytes,
    /// Where the authorization server's metadata is.
    pub authorization_server_metadata: HeaderValue,
    /// What clients without a good token are told.
    pub challenge: Challenge,
    /// Which scopes imply which.
    pub hierarchy: Hierarchy,
    /// Which tools need which scopes.
    pub policy: ToolPolicy,
    /// The MCP server.
    pub upstream: Upstream,
    /// Who checks tokens.
    pub verifier: Arc<Verifier>,
    /// The bound on what requests hold.
    pub room: Arc<Room>,
}

/// What outlives a version of the configuration.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Time.
    pub clock: Clock,
    /// Connections.
    pub client: HttpClient,
    /// Counters.
    pub metrics: Metrics,
}

impl Settings {
    /// Prepares a checked configuration. What is known about tokens is kept from `previous` as long
    /// as it was learned under the same rules.
    ///
    /// # Errors
    /// A value that cannot be used after all.
    pub fn new(
        config: Config,
        parts: &Parts,
        previous: Option<&Self>,
    ) -> Result<Self, ConfigError> {
        let resource = Resource::parse(&config.resource)
            .map_err(|problem| ConfigError::new("resource", problem))?;
        let kept = previous.filter(|previous| {
            previous.config.resource == config.resource
                && previous.config.introspection == config.introspection
        });
        let verifier = match kept {
            Some(previous) => Arc::clone(&previous.verifier),
            None => verifier(&config, &resource, parts)?,
        };
        let limits = &config.limits;
        let room = match previous.filter(|previous| previous.config.limits == *limits) {
            Some(previous) => Arc::clone(&previous.room),
            None => Arc::new(Room::new(limits.body_bytes)),
        };
        let scope = metadata::advertised_scopes(&config).join(" ");
        let issuer = config.authorization_servers.first();
        let location = issuer.and_then(|issuer| authorization_server_metadata_url(issuer));
        let location = location.and_then(|url| HeaderValue::try_from(url).ok());
        Ok(Self {
            metadata: metadata::document(&config),
            authorization_server_metadata: location
                .ok_or_else(|| ConfigError::new("authorizationServers[0]", "is not a URL"))?,
            challenge: Challenge {
                resource_metadata: resource.metadata_url().to_owned(),
                scope,
            },
            hierarchy: config.scopes.iter().collect(),
            policy: ToolPolicy::new(&config),
            upstream: Upstream::new(&config.upstream)
                .map_err(|problem| ConfigError::new("", problem))?,
            verifier,
            room,
            resource,
            config,
        })
    }
}

fn verifier(
    config: &Config,
    resource: &Resource,
    parts: &Parts,
) -> Result<Arc<Verifier>, ConfigError> {
    let introspector = Introspector::new(parts.client.clone(), &config.introspection);
    Ok(Arc::new(Verifier::new(
        introspector.map_err(|problem| ConfigError::new("", problem))?,
        &config.introspection,
        resource.clone(),
        parts.clock.clone(),
        parts.metrics.clone(),
    )))
}
