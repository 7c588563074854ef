//! A configuration, ready for use.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use serde_json::json;

use crate::clock::Clock;
use crate::config::{Config, ConfigError};
use crate::forward::Upstream;
use crate::introspect::{HttpClient, Introspector};
use crate::metrics::Metrics;
use crate::policy::ToolPolicy;
use crate::refusal::Challenge;
use crate::resource::{Resource, authorization_server_metadata_url};
use crate::scopes::Hierarchy;
use crate::verify::Verifier;

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
    /// Prepares a checked configuration. What is known about tokens is kept from `previous` as long as it was
    /// learned under the same rules.
    ///
    /// # Errors
    /// A value that cannot be used after all.
    pub fn new(
        config: Config,
        parts: &Parts,
        previous: Option<&Self>,
    ) -> Result<Self, ConfigError> {
        let resource = Resource::parse(&config.resource).map_err(|problem| ConfigError::Value {
            key: "resource".into(),
            problem,
        })?;
        let kept = previous.filter(|previous| {
            previous.resource == resource && previous.config.introspection == config.introspection
        });
        let verifier = match kept {
            Some(previous) => Arc::clone(&previous.verifier),
            None => verifier(&config, &resource, parts)?,
        };
        let scope = advertised_scopes(&config).join(" ");
        let issuer = config.authorization_servers.first();
        let location = issuer.and_then(|issuer| authorization_server_metadata_url(issuer));
        let location = location.and_then(|url| HeaderValue::try_from(url).ok());
        Ok(Self {
            metadata: metadata(&config),
            authorization_server_metadata: location.ok_or_else(|| ConfigError::Value {
                key: "authorizationServers[0]".into(),
                problem: "is not a URL".into(),
            })?,
            challenge: Challenge {
                resource_metadata: resource.metadata_url().to_owned(),
                scope,
            },
            hierarchy: Hierarchy::new(&config.scopes),
            policy: ToolPolicy::new(&config),
            upstream: Upstream::new(&config.upstream).map_err(ConfigError::Shape)?,
            verifier,
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
        introspector.map_err(ConfigError::Shape)?,
        &config.introspection,
        resource.clone(),
        parts.clock.clone(),
        parts.metrics.clone(),
    )))
}

/// The scopes that clients are told of. `offline_access` is between them and the authorization server.
fn advertised_scopes(config: &Config) -> Vec<&str> {
    let names = config.scopes.iter().map(|scope| scope.name.as_str());
    names.filter(|name| *name != "offline_access").collect()
}

fn metadata(config: &Config) -> Bytes {
    let mut document = json!({
        "resource": config.resource,
        "authorization_servers": config.authorization_servers,
        "scopes_supported": advertised_scopes(config),
        "bearer_methods_supported": ["header"],
    });
    if let Some(name) = &config.resource_name {
        document["resource_name"] = json!(name);
    }
    Bytes::from(document.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::config::tests::example;

    #[test]
    fn the_metadata_is_that_of_rfc_9728_and_keeps_the_configured_strings() {
        let text = example("resourceName: notes").replace(
            "[http://localhost:9000]",
            "['http://localhost:9000', 'https://b/']",
        );
        let document: Value =
            serde_json::from_slice(&metadata(&Config::parse(&text).unwrap())).unwrap();
        assert_eq!(
            document,
            json!({
                "resource": "http://localhost:9001/mcp",
                "authorization_servers": ["http://localhost:9000", "https://b/"],
                "scopes_supported": ["notes:read", "notes:write"],
                "bearer_methods_supported": ["header"],
                "resource_name": "notes",
            })
        );
    }

    #[test]
    fn offline_access_is_not_advertised() {
        let text = example("").replace(
            "{ name: notes:read }",
            "{ name: notes:read }, { name: offline_access }",
        );
        let config = Config::parse(&text).unwrap();
        assert_eq!(advertised_scopes(&config), ["notes:read", "notes:write"]);
    }
}
