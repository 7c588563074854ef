//! The rules of `proxy.yaml` that its shape does not say.

use std::collections::HashSet;

use url::Url;

use super::{Config, ConfigError, Introspection};
use crate::auth::scopes::is_scope_token;
use crate::resource::Resource;

impl Config {
    /// Checks every value.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        Resource::parse(&self.resource).map_err(|problem| value("resource", problem))?;
        self.check_authorization_servers()?;
        http_url("upstream.url", &self.upstream.url)?;
        within(
            "upstream.responseHeaderSeconds",
            self.upstream.response_header_seconds,
            1..=3600,
        )?;
        self.introspection.check()?;
        self.check_scopes()?;
        self.check_tools()?;
        if let Some(friction) = &self.friction {
            friction
                .validate()
                .map_err(|error| value(error.key, error.problem))?;
        }
        within("limits.bodyBytes", self.limits.body_bytes, 1..=268_435_456)?;
        for (index, origin) in self.allowed_origins.iter().enumerate() {
            if !is_origin(origin) {
                let problem =
                    "is not an origin; give scheme://host or scheme://host:port, nothing behind it";
                return Err(value(format!("allowedOrigins[{index}]"), problem));
            }
        }
        Ok(())
    }

    fn check_authorization_servers(&self) -> Result<(), ConfigError> {
        if self.authorization_servers.is_empty() {
            return Err(value(
                "authorizationServers",
                "is empty; give the issuer of the authorization server",
            ));
        }
        for (index, issuer) in self.authorization_servers.iter().enumerate() {
            let key = format!("authorizationServers[{index}]");
            let url = Url::parse(issuer).map_err(|error| value(&key, error.to_string()))?;
            if !matches!(url.scheme(), "http" | "https") {
                return Err(value(key, "is neither http nor https"));
            }
            if url.query().is_some() || url.fragment().is_some() {
                return Err(value(
                    key,
                    "carries a query or a fragment; an issuer has neither",
                ));
            }
        }
        Ok(())
    }

    fn check_scopes(&self) -> Result<(), ConfigError> {
        let mut names = HashSet::new();
        for (index, scope) in self.scopes.iter().enumerate() {
            let key = format!("scopes[{index}].name");
            if !is_scope_token(&scope.name) {
                let problem =
                    "is not a scope; give printable ASCII without space, quote and backslash";
                return Err(value(key, problem));
            }
            if !names.insert(scope.name.as_str()) {
                return Err(value(key, format!("{:?} is there twice", scope.name)));
            }
        }
        for (index, scope) in self.scopes.iter().enumerate() {
            self.check_known(&format!("scopes[{index}].implies"), &scope.implies)?;
        }
        Ok(())
    }

    fn check_tools(&self) -> Result<(), ConfigError> {
        for (index, tool) in self.tools.iter().enumerate() {
            if tool.name.is_empty() {
                let problem = "is empty; give a tool's name, `*` matches any run of characters";
                return Err(value(format!("tools[{index}].name"), problem));
            }
            self.check_known(&format!("tools[{index}].scopes"), &tool.scopes)?;
        }
        match &self.unlisted_tools {
            Some(unlisted) => self.check_known("unlistedTools.scopes", &unlisted.scopes),
            None => Ok(()),
        }
    }

    fn check_known(&self, key: &str, names: &[String]) -> Result<(), ConfigError> {
        for (index, name) in names.iter().enumerate() {
            if !self.scopes.iter().any(|scope| scope.name == *name) {
                let problem =
                    format!("{name:?} is not in `scopes`; add it there, or take it out here");
                return Err(value(format!("{key}[{index}]"), problem));
            }
        }
        Ok(())
    }
}

impl Introspection {
    fn check(&self) -> Result<(), ConfigError> {
        http_url("introspection.endpoint", &self.endpoint)?;
        match (&self.token_file, &self.basic) {
            (Some(_), Some(_)) => {
                return Err(value(
                    "introspection",
                    "has tokenFile and basic; give one of them",
                ));
            }
            (None, None) => {
                return Err(value(
                    "introspection",
                    "has no credential; give tokenFile, or basic with id and secretFile",
                ));
            }
            (Some(_), None) => {}
            (None, Some(basic)) if basic.id.is_empty() => {
                return Err(value("introspection.basic.id", "is empty"));
            }
            (None, Some(_)) => {}
        }
        within(
            "introspection.cacheMilliseconds",
            self.cache_milliseconds,
            0..=60_000,
        )?;
        within(
            "introspection.cacheEntries",
            self.cache_entries,
            1..=1_000_000,
        )?;
        within(
            "introspection.timeoutMilliseconds",
            self.timeout_milliseconds,
            1..=60_000,
        )
    }
}

/// A URL that the proxy itself calls. It has no TLS: the server is on loopback, the authorization
/// server's internal port in the cluster.
fn http_url(key: &str, text: &str) -> Result<(), ConfigError> {
    let url = Url::parse(text).map_err(|error| {
        value(
            key,
            format!("{error}; give a URL, as http://127.0.0.1:8000/mcp"),
        )
    })?;
    if url.scheme() != "http" || !url.has_host() {
        return Err(value(
            key,
            "is not an http:// URL, the only kind that the proxy calls",
        ));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(value(key, "carries a user or a password; leave it out"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(value(key, "carries a query or a fragment; leave it out"));
    }
    Ok(())
}

/// Whether this is what a browser sends as `Origin`, `null` excepted. Not only http: an editor's
/// webview has a scheme of its own.
fn is_origin(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, host)| {
        !scheme.is_empty()
            && !host.is_empty()
            && text
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase())
            && !host.contains(['/', '?', '#', '@', '*'])
    })
}

fn within(
    key: &str,
    number: u32,
    bounds: std::ops::RangeInclusive<u32>,
) -> Result<(), ConfigError> {
    if bounds.contains(&number) {
        return Ok(());
    }
    let (least, most) = bounds.into_inner();
    Err(value(
        key,
        format!("{number} is out of bounds; give {least} to {most}"),
    ))
}

fn value(key: impl Into<String>, problem: impl Into<String>) -> ConfigError {
    ConfigError::Value {
        key: key.into(),
        problem: problem.into(),
    }
}
