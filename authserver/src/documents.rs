//! Converts between the documents of the admin API and the configuration file, and the stored types.

use mcpauth_wire::admin::{self, Resource as ResourceDocument};
use mcpauth_wire::client::{Client as ClientDocument, ClientResource};
use mcpauth_wire::scope::Scope;
use mcpauth_wire::{Invalid, Issuer};

use crate::keys::pepper::Pepper;
use crate::oauth::admission::{AllowedClients, Namespaces};
use crate::oauth::client::{AllowedResource, Client, ClientMetadata, ClientOrigin};
use crate::oauth::client_assertion;
use crate::oauth::resource::{Resource, ResourceScope};

/// Why a resource is not registered.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResourceError {
    /// A field is wrong.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// It is this server itself, so its tokens would be valid here.
    #[error("resource: {0} is this authorization server; choose another URL")]
    IsIssuer(String),
}

/// The resource with this id.
///
/// # Errors
/// The first field that is wrong.
pub fn resource(
    document: ResourceDocument,
    id: String,
    issuer: &Issuer,
) -> Result<Resource, ResourceError> {
    if document.check(&id)?.is_named_by(issuer.as_str()) {
        return Err(ResourceError::IsIssuer(document.resource));
    }
    let scopes = document.scopes.into_iter().map(|scope| ResourceScope {
        name: scope.name,
        description: scope.description,
        implies: scope.implies,
    });
    Ok(Resource {
        id,
        resource: document.resource,
        name: document.name,
        scopes: scopes.collect(),
        introspectors: document.introspectors,
        allowed_clients: AllowedClients {
            all_namespaces: document.allowed_clients.all_namespaces,
            namespaces: document.allowed_clients.namespaces,
            self_registered: document.allowed_clients.self_registered,
            without_consent: Namespaces {
                all: document.allowed_clients.without_consent.all_namespaces,
                names: document.allowed_clients.without_consent.namespaces,
            },
        },
    })
}

/// The document of a stored resource.
pub fn resource_document(resource: Resource) -> ResourceDocument {
    let scopes = resource.scopes.into_iter().map(|scope| Scope {
        name: scope.name,
        description: scope.description,
        implies: scope.implies,
    });
    ResourceDocument {
        id: None,
        resource: resource.resource,
        name: resource.name,
        scopes: scopes.collect(),
        introspectors: resource.introspectors,
        allowed_clients: admin::AllowedClients {
            all_namespaces: resource.allowed_clients.all_namespaces,
            namespaces: resource.allowed_clients.namespaces,
            self_registered: resource.allowed_clients.self_registered,
            without_consent: admin::WithoutConsent {
                all_namespaces: resource.allowed_clients.without_consent.all,
                namespaces: resource.allowed_clients.without_consent.names,
            },
        },
    }
}

/// Whether a client with this id can be registered: what the document alone says, and its keys.
///
/// # Errors
/// The first field that is wrong.
pub fn check_client(document: &ClientDocument, client_id: &str) -> Result<(), Invalid> {
    document.check(client_id)?;
    match &document.jwks {
        Some(jwks) => client_assertion::check_jwks(jwks).map_err(|text| Invalid::new("jwks", text)),
        None => Ok(()),
    }
}

/// The client to store. Call [`check_client`] first.
pub fn client(
    document: ClientDocument,
    client_id: String,
    origin: ClientOrigin,
    pepper: &Pepper,
) -> Client {
    let secret = document.client_secret.as_ref();
    Client {
        client_id,
        origin,
        secret_hash: secret.map(|secret| pepper.hash_client_secret(secret.reveal())),
        registration_token: None,
        metadata: ClientMetadata {
            client_name: document.client_name,
            client_uri: document.client_uri,
            logo_uri: document.logo_uri,
            token_endpoint_auth_method: document.token_endpoint_auth_method,
            jwks: document.jwks,
            assertion_audience: document.assertion_audience,
            redirect_uris: document.redirect_uris,
            grant_types: document.grant_types,
            namespace: document.namespace,
            consent: document.consent,
            // A client that is declared does not choose.
            id_token_signed_response_alg: None,
            allowed_resources: document
                .resources
                .into_iter()
                .map(|resource| AllowedResource {
                    uri: resource.uri,
                    scopes: resource.scopes.into_iter().collect(),
                })
                .collect(),
        },
    }
}

/// The document of a stored client, without its secret, of which only a hash is stored.
pub fn client_document(client: Client) -> ClientDocument {
    let metadata = client.metadata;
    ClientDocument {
        client_id: None,
        client_name: metadata.client_name,
        client_uri: metadata.client_uri,
        logo_uri: metadata.logo_uri,
        token_endpoint_auth_method: metadata.token_endpoint_auth_method,
        client_secret: None,
        jwks: metadata.jwks,
        assertion_audience: metadata.assertion_audience,
        redirect_uris: metadata.redirect_uris,
        grant_types: metadata.grant_types,
        namespace: metadata.namespace,
        consent: metadata.consent,
        resources: metadata
            .allowed_resources
            .into_iter()
            .map(|resource| ClientResource {
                uri: resource.uri,
                scopes: resource.scopes.iter().map(str::to_owned).collect(),
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document(jwks: &serde_json::Value) -> ClientDocument {
        serde_json::from_value(json!({
            "tokenEndpointAuthMethod": "private_key_jwt", "grantTypes": ["client_credentials"],
            "jwks": jwks,
        }))
        .unwrap()
    }

    #[test]
    fn keys_must_be_usable() {
        let key = crate::keys::signing_key::SigningKey::generate(
            mcpauth_wire::authserver_config::SigningAlgorithm::Es256,
        )
        .unwrap();
        let good = document(&json!({ "keys": [key.public_jwk()] }));
        assert_eq!(check_client(&good, "robot"), Ok(()));
        let mut private = key.public_jwk();
        private["d"] = "AQ".into();
        for bad in [private, json!({ "kty": "EC", "crv": "P-256" })] {
            let bad = document(&json!({ "keys": [bad] }));
            assert_eq!(check_client(&bad, "robot").unwrap_err().key, "jwks");
        }
    }

    #[test]
    fn a_secret_is_not_answered() {
        let document: ClientDocument = serde_json::from_value(json!({
            "tokenEndpointAuthMethod": "client_secret_basic", "clientSecret": "hunter2",
            "grantTypes": ["client_credentials"],
        }))
        .unwrap();
        let pepper = Pepper::parse("1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=").unwrap();
        let stored = client(document, "robot".into(), ClientOrigin::Declared, &pepper);
        let answer = serde_json::to_string(&client_document(stored)).unwrap();
        assert!(!answer.contains("hunter2") && !answer.contains("clientSecret"));
    }

    #[test]
    fn no_resource_is_the_issuer() {
        let issuer = Issuer::parse("https://auth.example").unwrap();
        let document: ResourceDocument =
            serde_json::from_value(json!({ "resource": "https://Auth.example:443/", "name": "a" }))
                .unwrap();
        let error = resource(document, "a".into(), &issuer).unwrap_err();
        assert!(matches!(error, ResourceError::IsIssuer(_)), "{error}");
    }
}
