//! The objects in a file, and the references between them.

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use mcpauth_api::{
    McpAuthServer, McpOAuthClient, ProtectedMcpServer, oauth_client::ResourceRef,
    refs::AuthServerRef,
};
use mcpauth_wire::client::ClientResource;

use super::error::ManifestError;

/// The contents of a file.
#[derive(Clone, Debug)]
pub struct Manifests {
    /// The authorization server.
    pub auth_server: McpAuthServer,
    /// The protected servers; at least one.
    pub servers: Vec<ProtectedMcpServer>,
    /// The clients that are registered from the start.
    pub clients: Vec<McpOAuthClient>,
    /// The Secrets that the other objects reference.
    pub(super) secrets: Vec<Secret>,
}

/// The namespace of an object; `default` if it has none.
pub fn namespace_of(object: &impl ResourceExt) -> String {
    object.namespace().unwrap_or_else(|| "default".to_owned())
}

impl Manifests {
    /// Checks that every reference can be resolved in the file.
    ///
    /// # Errors
    /// [`ManifestError::Missing`] for the first that cannot.
    pub(super) fn check_references(&self) -> Result<(), ManifestError> {
        for server in &self.servers {
            self.check_auth_server(server, &server.spec.auth_server_ref)?;
        }
        for client in &self.clients {
            self.check_auth_server(client, &client.spec.auth_server_ref)?;
            self.resources_of(client)?;
        }
        Ok(())
    }

    fn check_auth_server<K: ResourceExt + kube::Resource<DynamicType = ()>>(
        &self,
        from: &K,
        to: &AuthServerRef,
    ) -> Result<(), ManifestError> {
        let own = namespace_of(from);
        let namespace = to.namespace_or(&own);
        if to.name == self.auth_server.name_any() && namespace == namespace_of(&self.auth_server) {
            return Ok(());
        }
        Err(ManifestError::Missing {
            from: format!("{} {}", K::kind(&()), from.name_any()),
            to: format!("McpAuthServer {} in namespace {namespace}", to.name),
        })
    }

    /// What a client may ask for, names resolved to resource identifiers.
    ///
    /// # Errors
    /// When there is no server of that name and namespace in the file.
    pub fn resources_of(
        &self,
        client: &McpOAuthClient,
    ) -> Result<Vec<ClientResource>, ManifestError> {
        let own = namespace_of(client);
        client
            .spec
            .resources
            .iter()
            .map(|resource| {
                Ok(ClientResource {
                    uri: self.uri_of(resource, &own, client)?,
                    scopes: resource.scopes.clone(),
                })
            })
            .collect()
    }

    fn uri_of(
        &self,
        resource: &ResourceRef,
        own: &str,
        client: &McpOAuthClient,
    ) -> Result<String, ManifestError> {
        let Some(name) = &resource.name else {
            return Ok(resource.uri.clone().unwrap_or_default());
        };
        let namespace = resource.namespace.as_deref().unwrap_or(own);
        let mut servers = self.servers.iter();
        servers
            .find(|s| s.name_any() == *name && namespace_of(*s) == namespace)
            .map(|s| s.spec.resource.clone())
            .ok_or_else(|| ManifestError::Missing {
                from: format!("McpOAuthClient {}", client.name_any()),
                to: format!("ProtectedMcpServer {name} in namespace {namespace}"),
            })
    }

    /// The value of a key of a Secret that `from` references.
    ///
    /// # Errors
    /// When the Secret is not in the file, or has no UTF-8 value for the key.
    pub fn secret(
        &self,
        from: &str,
        namespace: &str,
        name: &str,
        key: &str,
    ) -> Result<String, ManifestError> {
        let value = |secret: &Secret| {
            let plain = secret
                .string_data
                .as_ref()
                .and_then(|data| data.get(key))
                .cloned();
            let encoded = || secret.data.as_ref().and_then(|data| data.get(key)).cloned();
            plain.or_else(|| encoded().and_then(|bytes| String::from_utf8(bytes.0).ok()))
        };
        self.secrets
            .iter()
            .find(|secret| secret.name_any() == name && namespace_of(*secret) == namespace)
            .and_then(value)
            .ok_or_else(|| ManifestError::Missing {
                from: from.to_owned(),
                to: format!("key {key} of Secret {name}"),
            })
    }
}
