//! McpOAuthClient: a client's credentials and its registration.

use k8s_openapi::api::core::v1::Secret;
use kube::api::DynamicObject;
use kube::runtime::controller::Controller;
use kube::{Api, ResourceExt as _};
use mcpauth_api::auth_server::Storage;
use mcpauth_api::conditions::reasons;
use mcpauth_api::oauth_client::{DeletionPolicy, ResourceRef};
use mcpauth_api::refs::AuthServerRef;
use mcpauth_api::{McpOAuthClient, ProtectedMcpServer};
use mcpauth_wire::client::ClientResource;

use super::lookup;
use super::registration::{Entry, unregister, withdraw_if_not_permitted};
use crate::authserver::{Collection, Server};
use crate::desired::labels::Component;
use crate::desired::oauth_client::{self as build, CLIENT_SECRET, ISSUED};
use crate::desired::{names, registration};
use crate::framework::context::{Context, Scope};
use crate::framework::error::Error;
use crate::framework::guarded::Guarded;
use crate::framework::reconciler::{Reconcile, ReconcileContext, watch_kept, watch_references};
use crate::framework::references::{self, References};
use crate::framework::status::Observed;
use crate::framework::watched::Watched;
use crate::problem::Problem;

const COLLECTION: Collection = Collection::Clients;

impl Reconcile for McpOAuthClient {
    const KIND: &'static str = "McpOAuthClient";
    const MANAGER: &'static str = "mcpauth.io/oauth-client";
    const FINALIZER: &'static str = "mcpauth.io/client-registration";

    fn references(ctx: &Context) -> &References {
        &ctx.references.oauth_clients
    }

    fn auth_server(&self) -> Option<&AuthServerRef> {
        Some(&self.spec.auth_server_ref)
    }

    fn watch(controller: Controller<Guarded<Self>>, scope: &Scope) -> Controller<Guarded<Self>> {
        let secrets = scope.api::<Watched<Secret>>();
        let controller = watch_kept(controller, secrets, Component::OAuthClient);
        // One of another namespace can be named as well.
        let everywhere = scope.program.scopes().into_iter();
        let controller = everywhere.fold(controller, |controller, servers| {
            let servers = servers.api::<Watched<ProtectedMcpServer>>();
            watch_references(
                controller,
                servers,
                references::Kind::ProtectedServer,
                scope,
            )
        });
        lookup::watch_auth_servers(controller, scope)
    }

    async fn sync(&self, context: &ReconcileContext<'_>) -> Result<Observed, Error> {
        let entry = Entry::new(COLLECTION, &self.spec.auth_server_ref, &context.owner);
        let server = &entry.server;
        let (namespace, name) = (&context.owner.namespace, &context.owner.name);
        let named = self.spec.resources.iter().filter_map(|resource| {
            let (namespace, name) = named(resource, namespace)?;
            let key = (namespace.to_owned(), name.to_owned());
            Some((references::Kind::ProtectedServer, key))
        });
        let own = (
            references::Kind::Namespace,
            (String::new(), namespace.clone()),
        );
        let targets = lookup::targets(server, namespace).into_iter().chain([own]);
        context.refers_to(targets.chain(named));
        let auth_server = match lookup::auth_server(context, server).await {
            Ok(auth_server) => auth_server,
            Err(Error::Problem(problem)) => {
                return Ok(entry.without_server(context, problem).await);
            }
            Err(other) => return Err(other),
        };
        let resources = resources(self, context, server).await?;

        let secret = credentials(self, context, &auth_server.spec.issuer).await?;
        let client =
            registration::client(namespace, name, &self.spec, resources, secret.as_deref());
        let mut observed = Observed {
            ready: format!(
                "registered with {} as {}",
                auth_server.spec.issuer, entry.id
            ),
            forgotten: matches!(auth_server.spec.storage, Storage::Memory(_)),
            ..Observed::default()
        };
        entry.put(context, &client, &mut observed).await;
        let issuer = auth_server.spec.issuer;
        let secret_name = build::secret_name(name, &self.spec);
        observed.fields.extend([
            ("clientId".to_owned(), entry.id.into()),
            ("tokenEndpoint".to_owned(), format!("{issuer}/token").into()),
            ("issuer".to_owned(), issuer.into()),
            ("secretName".to_owned(), secret_name.into()),
        ]);
        Ok(observed)
    }

    async fn withdraw(raw: &DynamicObject, context: &ReconcileContext<'_>) -> Result<(), Error> {
        withdraw_if_not_permitted(COLLECTION, raw, context).await
    }

    async fn cleanup(raw: &DynamicObject, context: &ReconcileContext<'_>) -> Result<(), Error> {
        let policy = serde_json::from_value(raw.data["spec"]["deletionPolicy"].clone());
        // An unreadable policy must not leave a client behind that can get tokens.
        if policy.is_ok_and(|policy: DeletionPolicy| policy == DeletionPolicy::Orphan) {
            return Ok(());
        }
        unregister(COLLECTION, raw, context).await?;
        delete_secret(raw, context).await
    }
}

/// Deletes the Secret of a client, which may not parse: the one that was written last.
async fn delete_secret(raw: &DynamicObject, context: &ReconcileContext<'_>) -> Result<(), Error> {
    let written = raw.data["status"]["secretName"].as_str();
    let asked_for = raw.data["spec"]["secret"]["name"].as_str();
    let default = names::client_secret(&context.owner.name);
    let name = written.or(asked_for).unwrap_or(&default);
    let ownership = context.kept(Component::OAuthClient);
    let api = context.api::<Secret>();
    Ok(context.applier.delete(&api, &ownership, name).await?)
}

/// The namespace and name of the ProtectedMcpServer that a client in the namespace `own` refers to.
fn named<'a>(resource: &'a ResourceRef, own: &'a str) -> Option<(&'a str, &'a str)> {
    let namespace = resource.namespace.as_deref().unwrap_or(own);
    Some((namespace, resource.name.as_deref()?))
}

/// What the client may request, with names resolved to resource identifiers.
async fn resources(
    object: &McpOAuthClient,
    context: &ReconcileContext<'_>,
    server: &Server,
) -> Result<Vec<ClientResource>, Error> {
    let mut resources = Vec::new();
    for resource in &object.spec.resources {
        let uri = match named(resource, &context.owner.namespace) {
            Some((namespace, name)) => resource_of(namespace, name, context, server).await?,
            None => resource.uri.clone().unwrap_or_default(),
        };
        resources.push(ClientResource {
            uri,
            scopes: resource.scopes.clone(),
        });
    }
    Ok(resources)
}

/// The resource identifier of a ProtectedMcpServer that the client may reference.
async fn resource_of(
    namespace: &str,
    name: &str,
    context: &ReconcileContext<'_>,
    server: &Server,
) -> Result<String, Error> {
    let own = &context.owner.namespace;
    let found = match context.program.config.serves(namespace) {
        true => {
            let client = context.program.client.clone();
            let api: Api<Guarded<ProtectedMcpServer>> = Api::namespaced(client, namespace);
            api.get_opt(name).await?
        }
        false => None,
    };
    let Some(found) = found else {
        return Err(not_found(namespace, name, own).into());
    };
    let found = match found.0 {
        Ok(found) => found,
        // Do not reveal details about the server to other namespaces.
        Err(invalid) if namespace == own => {
            let message =
                format!("spec.resources: ProtectedMcpServer {name} has an invalid spec: {invalid}");
            return Err(Problem::outage(reasons::INVALID_SPEC, message).into());
        }
        Err(_) => return Err(not_found(namespace, name, own).into()),
    };
    let labels = lookup::namespace_labels(context, namespace).await?;
    let allowed = &found.spec.allowed_clients.namespaces;
    if !allowed.admits(namespace, own, &labels) {
        return Err(not_found(namespace, name, own).into());
    }
    let its_server = lookup::server(&found.spec.auth_server_ref, namespace);
    if its_server != *server {
        return Err(Problem::outage(
            reasons::INVALID_SPEC,
            format!(
                "spec.resources: ProtectedMcpServer {name} uses McpAuthServer {its_server}, but this client \
                 is registered with {server}: list only servers that use the same McpAuthServer"
            ),
        )
        .into());
    }
    Ok(found.spec.resource)
}

/// The same message whether it does not exist or does not allow the client, to reveal nothing about other namespaces.
fn not_found(namespace: &str, name: &str, own: &str) -> Problem {
    let message = match namespace == own {
        true => format!(
            "spec.resources: ProtectedMcpServer {name} does not exist in this namespace: create it, or correct the name"
        ),
        false => format!(
            "spec.resources: there is no ProtectedMcpServer {name} in namespace {namespace} that allows clients from \
             namespace {own}: correct the reference, or ask the server's owner to add {own} to \
             spec.allowedClients.namespaces"
        ),
    };
    Problem::outage(reasons::RESOURCE_NOT_FOUND, message)
}

/// The client's secret, if its method has one: the one in its Secret, or a new one in a new Secret. The Secret is
/// written before the value is registered with the authorization server.
async fn credentials(
    object: &McpOAuthClient,
    context: &ReconcileContext<'_>,
    issuer: &str,
) -> Result<Option<String>, Error> {
    let api = context.api::<Secret>();
    let ownership = context.kept(Component::OAuthClient);
    let name = build::secret_name(&context.owner.name, &object.spec);
    let before = object.status.as_ref().and_then(|s| s.secret_name.clone());
    let moved = before.filter(|before| *before != name);

    let current = context.applier.find(&api, &ownership, &name).await?;
    let old = match (&current, &moved) {
        (None, Some(moved)) => context.applier.find(&api, &ownership, moved).await?,
        _ => None,
    };
    let value = match object.spec.token_endpoint_auth_method.has_secret() {
        true => Some(secret_value(
            object,
            current.as_ref().or(old.as_ref()),
            &name,
        )?),
        false => None,
    };
    let secret = build::secret(&context.owner, &object.spec, value.as_deref(), issuer);
    context.applier.apply(&api, &ownership, secret).await?;
    if let Some(moved) = moved {
        context.applier.delete(&api, &ownership, &moved).await?;
    }
    Ok(value)
}

/// The value in the Secret, or a new one if there was none before.
fn secret_value(
    object: &McpOAuthClient,
    secret: Option<&Secret>,
    name: &str,
) -> Result<String, Error> {
    let bytes = secret
        .and_then(|s| s.data.as_ref()?.get(CLIENT_SECRET))
        .filter(|v| !v.0.is_empty());
    if let Some(bytes) = bytes {
        return String::from_utf8(bytes.0.clone()).map_err(|_| lost(name).into());
    }
    let had_one = match secret {
        // A Secret without the annotation was written when the client was public.
        Some(secret) => secret.annotations().contains_key(ISSUED),
        // Without a status nothing was registered yet.
        None => object
            .status
            .as_ref()
            .is_some_and(|s| s.client_id.is_some()),
    };
    if had_one {
        return Err(lost(name).into());
    }
    crate::random::secret()
        .map_err(|e| Problem::outage(reasons::APPLY_FAILED, e.to_string()).into())
}

fn lost(name: &str) -> Problem {
    Problem::person(
        reasons::SECRET_LOST,
        format!(
            "Secret {name} or its key {CLIENT_SECRET} is missing, but the client is still registered: restore \
             it, or delete this McpOAuthClient and create it again to get a new secret"
        ),
    )
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use serde_json::json;

    use super::*;

    fn client(status: &serde_json::Value) -> McpOAuthClient {
        serde_json::from_value(json!({
            "apiVersion": "mcpauth.io/v1alpha1", "kind": "McpOAuthClient",
            "metadata": { "name": "c" },
            "spec": { "authServerRef": { "name": "auth" }, "clientName": "C" },
            "status": status,
        }))
        .unwrap()
    }

    /// A Secret that was written with a client secret, and now has `value`.
    fn secret(value: Option<&str>) -> Secret {
        let data = value.map(|v| (CLIENT_SECRET.to_owned(), ByteString(v.as_bytes().to_vec())));
        let mut secret = Secret {
            data: Some(data.into_iter().collect()),
            ..Secret::default()
        };
        secret
            .annotations_mut()
            .insert(ISSUED.to_owned(), "true".to_owned());
        secret
    }

    fn registered() -> serde_json::Value {
        json!({ "clientId": "n_c" })
    }

    #[test]
    fn a_live_secret_is_kept() {
        let kept = secret_value(&client(&registered()), Some(&secret(Some("s"))), "c").unwrap();
        assert_eq!(kept, "s");
    }

    #[test]
    fn a_secret_that_is_missing_is_never_regenerated_over_a_live_one() {
        for left in [None, Some(secret(None)), Some(secret(Some("")))] {
            let error = secret_value(&client(&registered()), left.as_ref(), "c").unwrap_err();
            assert!(matches!(error, Error::Problem(p) if p.reason == reasons::SECRET_LOST));
        }
    }

    #[test]
    fn a_new_client_and_one_that_turns_confidential_get_a_secret() {
        assert!(secret_value(&client(&json!({})), None, "c").is_ok());
        let of_a_public_client = Secret::default();
        assert!(secret_value(&client(&registered()), Some(&of_a_public_client), "c").is_ok());
    }
}
