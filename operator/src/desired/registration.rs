//! Converts the custom resources to the types of the authserver's admin API, which its configuration file uses, too.

use mcpauth_api::oauth_client::{
    AssertionAudience, Consent, GrantType, JsonWebKeySet, TokenEndpointAuthMethod,
};
use mcpauth_api::refs::{NamespacesFrom, TrustedFrom};
use mcpauth_api::{McpAuthServerSpec, McpOAuthClientSpec, ProtectedMcpServerSpec};
use mcpauth_wire::admin::{AllowedClients, Resource, WithoutConsent};
use mcpauth_wire::client::{self, Client, ClientResource};
use mcpauth_wire::{Secret, principal, scope::Scope};

/// The resource of a ProtectedMcpServer called `name`, introspected by `introspectors`, for the clients in
/// `allowed_clients`.
#[must_use]
pub fn resource(
    name: &str,
    spec: &ProtectedMcpServerSpec,
    introspectors: Vec<String>,
    allowed_clients: AllowedClients,
) -> Resource {
    Resource {
        id: None,
        resource: spec.resource.clone(),
        name: name.to_owned(),
        scopes: scopes(spec),
        introspectors,
        allowed_clients,
    }
}

/// The principals that introspect with a secret for the ProtectedMcpServer `name` in `namespace`, by the spec of its
/// McpAuthServer, which is in the namespace `at`.
#[must_use]
pub fn callers(
    auth_server: &McpAuthServerSpec,
    at: &str,
    namespace: &str,
    name: &str,
) -> Vec<String> {
    let callers = auth_server.introspection.callers.iter();
    let own = callers.filter(|caller| {
        caller.server.name == name && caller.server.namespace.as_deref().unwrap_or(at) == namespace
    });
    own.map(|caller| principal::credential(&caller.id))
        .collect()
}

/// The namespaces that the selectors of `spec.allowedClients` match.
#[derive(Clone, Debug, Default)]
pub struct Selected {
    /// Those that `namespaces.selector` matches.
    pub allowed: Vec<String>,
    /// Those that `withoutConsent.selector` matches.
    pub without_consent: Vec<String>,
}

/// The clients that a ProtectedMcpServer in the namespace `own` allows.
#[must_use]
pub fn allowed_clients(
    spec: &ProtectedMcpServerSpec,
    own: &str,
    selected: Selected,
) -> AllowedClients {
    let allowed = &spec.allowed_clients;
    let trusted = &allowed.without_consent;
    let trusted_own = matches!(trusted.from, TrustedFrom::Same).then_some(own);
    AllowedClients {
        all_namespaces: allowed.namespaces.from == NamespacesFrom::All,
        namespaces: namespaces(Some(own), &allowed.namespaces.names, selected.allowed),
        self_registered: allowed.self_registered,
        without_consent: WithoutConsent {
            all_namespaces: trusted.from == TrustedFrom::All,
            namespaces: namespaces(trusted_own, &trusted.names, selected.without_consent),
        },
    }
}

fn namespaces(own: Option<&str>, names: &[String], selected: Vec<String>) -> Vec<String> {
    let mut all: Vec<String> = own.map(str::to_owned).into_iter().collect();
    all.extend(names.iter().cloned());
    all.extend(selected);
    all.sort();
    all.dedup();
    all
}

/// The scopes of a ProtectedMcpServer.
#[must_use]
pub fn scopes(spec: &ProtectedMcpServerSpec) -> Vec<Scope> {
    spec.scopes
        .iter()
        .map(|scope| Scope {
            name: scope.name.clone(),
            description: scope.description.clone(),
            implies: scope.implies.clone(),
        })
        .collect()
}

/// The client that the McpOAuthClient `name` in `namespace` is. `resources` are its `spec.resources`, names
/// resolved to resource identifiers; `secret` is of use only to methods that have one.
#[must_use]
pub fn client(
    namespace: &str,
    name: &str,
    spec: &McpOAuthClientSpec,
    resources: Vec<ClientResource>,
    secret: Option<&str>,
) -> Client {
    let method = method(spec.token_endpoint_auth_method);
    Client {
        client_id: None,
        client_name: spec.client_name.clone().unwrap_or_else(|| name.to_owned()),
        client_uri: spec.client_uri.clone(),
        logo_uri: spec.logo_uri.clone(),
        token_endpoint_auth_method: method,
        client_secret: secret.filter(|_| method.has_secret()).map(Secret::new),
        jwks: spec.jwks.as_ref().map(jwks),
        assertion_audience: match spec.assertion_audience {
            AssertionAudience::Issuer => client::AssertionAudience::Issuer,
            AssertionAudience::TokenEndpoint => client::AssertionAudience::TokenEndpoint,
        },
        redirect_uris: spec.redirect_uris.clone(),
        grant_types: spec.grant_types.iter().copied().map(grant_type).collect(),
        namespace: Some(namespace.to_owned()),
        resources,
        consent: match spec.consent {
            Consent::Ask => client::Consent::Ask,
            Consent::Trusted => client::Consent::Trusted,
        },
    }
}

fn method(method: TokenEndpointAuthMethod) -> client::TokenEndpointAuthMethod {
    match method {
        TokenEndpointAuthMethod::None => client::TokenEndpointAuthMethod::None,
        TokenEndpointAuthMethod::ClientSecretBasic => {
            client::TokenEndpointAuthMethod::ClientSecretBasic
        }
        TokenEndpointAuthMethod::ClientSecretPost => {
            client::TokenEndpointAuthMethod::ClientSecretPost
        }
        TokenEndpointAuthMethod::PrivateKeyJwt => client::TokenEndpointAuthMethod::PrivateKeyJwt,
    }
}

fn grant_type(grant: GrantType) -> client::GrantType {
    match grant {
        GrantType::AuthorizationCode => client::GrantType::AuthorizationCode,
        GrantType::RefreshToken => client::GrantType::RefreshToken,
        GrantType::ClientCredentials => client::GrantType::ClientCredentials,
    }
}

/// Converts a JWK set, which may have members that our type does not name.
fn jwks(set: &JsonWebKeySet) -> serde_json::Value {
    // Maps of strings always serialize to JSON; if not, the authserver would reject the rest.
    serde_json::to_value(set).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn trusted(without_consent: &Value) -> WithoutConsent {
        let spec = serde_json::from_value(json!({
            "authServerRef": { "name": "auth" }, "resource": "https://notes.example/mcp",
            "server": { "external": {} },
            "allowedClients": { "namespaces": { "from": "All" }, "withoutConsent": without_consent },
        }))
        .unwrap();
        let selected = Selected {
            without_consent: vec!["selected".to_owned()],
            ..Selected::default()
        };
        allowed_clients(&spec, "team", selected).without_consent
    }

    #[test]
    fn who_is_allowed_is_not_trusted_for_that() {
        let of = |all_namespaces: bool, namespaces: &[&str]| WithoutConsent {
            all_namespaces,
            namespaces: namespaces.iter().map(ToString::to_string).collect(),
        };
        let selected = |others: &[&str]| of(false, &[others, &["selected"]].concat());
        assert_eq!(trusted(&json!({})), selected(&[]));
        assert_eq!(trusted(&json!({ "names": ["b"] })), selected(&["b"]));
        assert_eq!(
            trusted(&json!({ "from": "Same" })),
            of(false, &["selected", "team"])
        );
        assert_eq!(trusted(&json!({ "from": "All" })), of(true, &["selected"]));
    }
}
