//! Converts a ProtectedMcpServer to `proxy.yaml`.

use mcpauth_api::ProtectedMcpServerSpec;
use mcpauth_api::protected_server as api;
use mcpauth_wire::access::{Access, Lists, Rule, Unmatched};
use mcpauth_wire::friction::{Friction, Group, Per, Rate};
use mcpauth_wire::proxy_config::{
    self, BasicCredential, Identity, Introspection, Limits, Listen, ProxyConfig, Upstream,
};

use super::registration;
use super::telemetry::telemetry;

/// What the file contains besides the spec: the environment that the proxy runs in.
#[derive(Clone, Debug)]
pub struct ProxyPlace {
    /// The addresses to listen on.
    pub listen: Listen,
    /// Display name of the resource.
    pub resource_name: String,
    /// Issuer of the authorization server.
    pub issuer: String,
    /// URL of the MCP server.
    pub upstream_url: String,
    /// URL for introspection.
    pub introspection_endpoint: String,
    /// The CA of its certificate, in PEM, if it is an https URL.
    pub introspection_ca: Option<String>,
    /// How the proxy authenticates to the authserver.
    pub credential: ProxyCredential,
    /// The file with the headers for the OpenTelemetry collector, if the spec wants any.
    pub otlp_headers_file: String,
}

/// How the proxy authenticates to the authserver.
#[derive(Clone, Debug)]
pub enum ProxyCredential {
    /// With the ServiceAccount token in this file.
    TokenFile(String),
    /// With HTTP Basic.
    Basic(BasicCredential),
}

/// The configuration of a proxy with this spec in this environment.
#[must_use]
pub fn proxy_config(spec: &ProtectedMcpServerSpec, place: ProxyPlace) -> ProxyConfig {
    let (token_file, basic) = match place.credential {
        ProxyCredential::TokenFile(file) => (Some(file.into()), None),
        ProxyCredential::Basic(basic) => (None, Some(basic)),
    };
    ProxyConfig {
        listen: place.listen,
        resource: spec.resource.clone(),
        resource_name: Some(place.resource_name),
        authorization_servers: vec![place.issuer],
        authorization_extensions: vec![proxy_config::OAUTH_CLIENT_CREDENTIALS.to_owned()],
        upstream: Upstream {
            url: place.upstream_url,
            response_header_seconds: spec.limits.response_header_seconds,
        },
        introspection: Introspection {
            endpoint: place.introspection_endpoint,
            ca: place.introspection_ca,
            token_file,
            basic,
            cache_milliseconds: proxy_config::cache_milliseconds(),
            cache_entries: proxy_config::cache_entries(),
            timeout_milliseconds: proxy_config::timeout_milliseconds(),
        },
        scopes: registration::scopes(spec),
        access: access(&spec.access),
        friction: spec.friction.as_ref().map(friction),
        limits: Limits {
            body_bytes: spec.limits.body_bytes,
        },
        allowed_origins: spec.allowed_origins.clone(),
        identity: spec
            .identity
            .as_ref()
            .map(|api::Identity::Headers(_)| Identity::Headers {}),
        telemetry: telemetry(&spec.telemetry, place.otlp_headers_file),
    }
}

fn access(access: &api::Access) -> Access {
    Access {
        rules: access
            .rules
            .iter()
            .map(|rule| Rule {
                tools: rule.tools.clone(),
                resources: rule.resources.clone(),
                prompts: rule.prompts.clone(),
                methods: rule.methods.clone(),
                scopes: rule.scopes.clone(),
                any_token: rule.any_token,
            })
            .collect(),
        unmatched: match access.unmatched {
            api::Unmatched::RequireAllScopes => Unmatched::RequireAllScopes,
            api::Unmatched::Deny => Unmatched::Deny,
            api::Unmatched::AnyToken => Unmatched::AnyToken,
        },
        initial_scopes: access.initial_scopes.clone(),
        lists: match access.lists {
            api::Lists::Held => Lists::Held,
            api::Lists::Grantable => Lists::Grantable,
            api::Lists::All => Lists::All,
        },
    }
}

fn friction(friction: &api::Friction) -> Friction {
    Friction {
        per: match friction.per {
            api::Per::Subject => Per::Subject,
            api::Per::ClientAndSubject => Per::ClientAndSubject,
        },
        rate: rate(&friction.rate),
        share: friction.share,
        groups: friction
            .groups
            .iter()
            .map(|group| Group {
                name: group.name.clone(),
                tools: group.tools.clone(),
                rate: rate(&group.rate),
                share: group.share,
            })
            .collect(),
        subject_rate: friction.subject_rate.as_ref().map(rate),
        resource_rate: friction.resource_rate.as_ref().map(rate),
        half_life_seconds: friction.half_life_seconds,
        max_delay_milliseconds: friction.max_delay_milliseconds,
        warmup_calls: friction.warmup_calls,
        hard_limit: friction.hard_limit.as_ref().map(rate),
    }
}

fn rate(rate: &api::Rate) -> Rate {
    Rate {
        calls: rate.calls,
        period_seconds: rate.period_seconds,
    }
}
