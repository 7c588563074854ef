//! Resources and clients as the admin API and the configuration file write them, and what is valid.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use crate::keys::pepper::Pepper;
use crate::oauth::client::{
    Client, ClientMetadata, ClientOrigin, GrantType, TokenEndpointAuthMethod, is_client_id,
};
use crate::oauth::redirect_uri::{self, PrivateSchemes};
use crate::oauth::resource::{Resource, ResourceScope};
use crate::oauth::scope::{Scopes, is_scope_name};

/// Scopes of the authorization server itself, known at every resource.
pub const OWN_SCOPES: [&str; 2] = ["openid", "offline_access"];
const MAX_LIST: usize = 256;
const MAX_TEXT: usize = 1024;

/// A field of a document and what would be right.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {text}")]
pub struct Invalid {
    /// The field, as `scopes[0].name`.
    pub field: String,
    /// What would be right.
    pub text: String,
}

fn invalid<T>(field: impl Into<String>, text: impl Into<String>) -> Result<T, Invalid> {
    Err(Invalid {
        field: field.into(),
        text: text.into(),
    })
}

/// A resource in JSON or YAML.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResourceDocument {
    /// Its id, in the configuration file; in the admin API it stands in the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The URI.
    pub resource: String,
    /// The display name.
    pub name: String,
    /// Its scopes.
    #[serde(default)]
    pub scopes: Vec<ScopeDocument>,
    /// Who may introspect.
    #[serde(default)]
    pub introspectors: Vec<String>,
}

/// A scope in JSON or YAML.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScopeDocument {
    /// The name.
    pub name: String,
    /// The description.
    #[serde(default)]
    pub description: String,
    /// The names of the implied scopes.
    #[serde(default)]
    pub implies: Vec<String>,
}

impl ResourceDocument {
    /// The resource with this id.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn into_resource(self, id: String) -> Result<Resource, Invalid> {
        if !is_client_id(&id) {
            return invalid("id", "expected 1–256 of A–Z a–z 0–9 . _ ~ -");
        }
        check_resource_uri(&self.resource)?;
        if self.name.is_empty() || self.name.len() > MAX_TEXT {
            return invalid("name", "expected 1–1024 bytes");
        }
        check_scopes(&self.scopes)?;
        bounded("introspectors", &self.introspectors)?;
        let scopes = self.scopes.into_iter().map(|scope| ResourceScope {
            name: scope.name,
            description: scope.description,
            implies: scope.implies,
        });
        Ok(Resource {
            id,
            resource: self.resource,
            name: self.name,
            scopes: scopes.collect(),
            introspectors: self.introspectors,
        })
    }
}

impl From<Resource> for ResourceDocument {
    fn from(resource: Resource) -> Self {
        let scopes = resource.scopes.into_iter().map(|scope| ScopeDocument {
            name: scope.name,
            description: scope.description,
            implies: scope.implies,
        });
        Self {
            id: None,
            resource: resource.resource,
            name: resource.name,
            scopes: scopes.collect(),
            introspectors: resource.introspectors,
        }
    }
}

fn check_resource_uri(uri: &str) -> Result<(), Invalid> {
    let expected = "expected an absolute http or https URL without user name, query and fragment";
    let Ok(url) = Url::parse(uri) else {
        return invalid("resource", expected);
    };
    let plain = uri.bytes().all(|byte| matches!(byte, 0x21..=0x7e)) && !uri.contains(['?', '#']);
    let web = matches!(url.scheme(), "http" | "https") && url.has_host();
    if !plain || !web || !url.username().is_empty() || url.password().is_some() {
        return invalid("resource", expected);
    }
    let normal = url.as_str();
    if uri != normal && uri != normal.trim_end_matches('/') {
        return invalid("resource", format!("expected the normal form: {normal}"));
    }
    Ok(())
}

fn check_scopes(scopes: &[ScopeDocument]) -> Result<(), Invalid> {
    if scopes.len() > MAX_LIST {
        return invalid("scopes", "expected at most 256");
    }
    for (index, scope) in scopes.iter().enumerate() {
        let field = |name: &str| format!("scopes[{index}].{name}");
        let name = &scope.name;
        if !is_scope_name(name) || name.len() > MAX_TEXT {
            let text = "expected printable ASCII without space, double quote and backslash";
            return invalid(field("name"), text);
        }
        if OWN_SCOPES.contains(&name.as_str()) {
            let text = format!("{name} belongs to the authorization server; choose another name");
            return invalid(field("name"), text);
        }
        if scopes[..index].iter().any(|other| other.name == *name) {
            return invalid(field("name"), format!("{name} is there twice"));
        }
        if scope.description.len() > MAX_TEXT {
            return invalid(field("description"), "expected at most 1024 bytes");
        }
        for implied in &scope.implies {
            if !scopes.iter().any(|other| other.name == *implied) {
                let text = format!("{implied:?} is not a scope of this resource");
                return invalid(field("implies"), text);
            }
        }
    }
    Ok(())
}

fn bounded(field: &str, list: &[String]) -> Result<(), Invalid> {
    let fits = |text: &String| !text.is_empty() && text.len() <= 2048;
    if list.len() <= MAX_LIST && list.iter().all(fits) {
        return Ok(());
    }
    invalid(field, "expected at most 256 entries of 1–2048 bytes")
}

/// A client in JSON or YAML. `Debug` hides the secret.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClientDocument {
    /// Its id, in the configuration file; in the admin API it stands in the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The display name.
    #[serde(default)]
    pub client_name: String,
    /// The home page.
    #[serde(default)]
    pub client_uri: Option<String>,
    /// The logo.
    #[serde(default)]
    pub logo_uri: Option<String>,
    /// How it authenticates.
    pub token_endpoint_auth_method: TokenEndpointAuthMethod,
    /// Its secret; never in an answer.
    #[serde(default, skip_serializing)]
    pub client_secret: Option<String>,
    /// Its public keys.
    #[serde(default)]
    pub jwks: Option<Value>,
    /// Its redirect URIs.
    #[serde(default)]
    pub redirect_uris: Vec<String>,
    /// Its grants.
    pub grant_types: Vec<GrantType>,
    /// Its scopes; empty: any.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Its resources by URI; empty: any.
    #[serde(default)]
    pub resources: Vec<String>,
}

impl std::fmt::Debug for ClientDocument {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientDocument")
            .field("client_id", &self.client_id)
            .field("client_name", &self.client_name)
            .finish_non_exhaustive()
    }
}

impl ClientDocument {
    /// Whether this is a valid client with this id.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn check(&self, client_id: &str) -> Result<(), Invalid> {
        if !is_client_id(client_id) {
            return invalid("clientId", "expected 1–256 of A–Z a–z 0–9 . _ ~ -");
        }
        if self.client_name.len() > MAX_TEXT {
            return invalid("clientName", "expected at most 1024 bytes");
        }
        check_web("clientUri", self.client_uri.as_deref())?;
        check_web("logoUri", self.logo_uri.as_deref())?;
        self.check_credentials()?;
        self.check_grants()?;
        bounded("redirectUris", &self.redirect_uris)?;
        for (index, uri) in self.redirect_uris.iter().enumerate() {
            redirect_uri::check(uri, PrivateSchemes::Any)
                .or_else(|error| invalid(format!("redirectUris[{index}]"), error.to_string()))?;
        }
        if !self.scopes.iter().all(|name| is_scope_name(name)) {
            return invalid("scopes", "expected scope names, each an entry of its own");
        }
        bounded("scopes", &self.scopes)?;
        bounded("resources", &self.resources)
    }

    fn check_credentials(&self) -> Result<(), Invalid> {
        use TokenEndpointAuthMethod::{
            ClientSecretBasic, ClientSecretPost, None as Public, PrivateKeyJwt,
        };
        let secret = self.client_secret.as_deref();
        match (self.token_endpoint_auth_method, secret, &self.jwks) {
            (ClientSecretBasic | ClientSecretPost, Some(secret), None)
                if (1..=512).contains(&secret.len()) =>
            {
                Ok(())
            }
            (ClientSecretBasic | ClientSecretPost, _, None) => invalid(
                "clientSecret",
                "expected 1–512 bytes, because tokenEndpointAuthMethod needs a secret",
            ),
            (Public | PrivateKeyJwt, Some(_), _) => invalid(
                "clientSecret",
                "expected none with this tokenEndpointAuthMethod",
            ),
            (PrivateKeyJwt, None, Some(jwks)) => crate::oauth::client_assertion::check_jwks(jwks)
                .or_else(|text| invalid("jwks", text)),
            (PrivateKeyJwt, None, None) => {
                invalid("jwks", "expected a JWK set, because of private_key_jwt")
            }
            (_, _, Some(_)) => invalid("jwks", "expected none without private_key_jwt"),
            (Public, None, None) => Ok(()),
        }
    }

    fn check_grants(&self) -> Result<(), Invalid> {
        let has = |grant| self.grant_types.contains(&grant);
        if self.grant_types.is_empty() {
            return invalid("grantTypes", "expected at least one");
        }
        if has(GrantType::AuthorizationCode) && self.redirect_uris.is_empty() {
            return invalid(
                "redirectUris",
                "expected at least one for authorization_code",
            );
        }
        let public = self.token_endpoint_auth_method == TokenEndpointAuthMethod::None;
        if has(GrantType::ClientCredentials) && public {
            let text = "client_credentials needs a client that authenticates, not `none`";
            return invalid("grantTypes", text);
        }
        Ok(())
    }

    /// The client to store. Call [`ClientDocument::check`] first.
    pub fn into_client(self, client_id: String, origin: ClientOrigin, pepper: &Pepper) -> Client {
        let secret = self.client_secret.as_deref();
        Client {
            client_id,
            origin,
            secret_hash: secret.map(|secret| pepper.hash_client_secret(secret)),
            metadata: ClientMetadata {
                client_name: self.client_name,
                client_uri: self.client_uri,
                logo_uri: self.logo_uri,
                token_endpoint_auth_method: self.token_endpoint_auth_method,
                jwks: self.jwks,
                redirect_uris: self.redirect_uris,
                grant_types: self.grant_types,
                scopes: self.scopes.into_iter().collect(),
                resources: self.resources,
            },
        }
    }
}

impl From<Client> for ClientDocument {
    fn from(client: Client) -> Self {
        let metadata = client.metadata;
        let scopes: &Scopes = &metadata.scopes;
        Self {
            client_id: None,
            scopes: scopes.iter().map(str::to_owned).collect(),
            client_name: metadata.client_name,
            client_uri: metadata.client_uri,
            logo_uri: metadata.logo_uri,
            token_endpoint_auth_method: metadata.token_endpoint_auth_method,
            client_secret: None,
            jwks: metadata.jwks,
            redirect_uris: metadata.redirect_uris,
            grant_types: metadata.grant_types,
            resources: metadata.resources,
        }
    }
}

/// A page of the client's: shown as text, never fetched.
fn check_web(field: &str, uri: Option<&str>) -> Result<(), Invalid> {
    let web = |uri: &str| {
        uri.len() <= 2048
            && Url::parse(uri).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
    };
    match uri {
        Some(uri) if !web(uri) => invalid(field, "expected an http or https URL"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
