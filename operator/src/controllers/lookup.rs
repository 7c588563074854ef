//! Finding the McpAuthServer that an object refers to.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::controller::Controller;
use kube::runtime::watcher;
use kube::{Api, Resource, ResourceExt};
use mcpauth_api::McpAuthServer;
use mcpauth_api::conditions::reasons;
use mcpauth_api::refs::{AuthServerRef, NamespaceSelector};

use crate::authserver::Server;
use crate::framework::context::Context;
use crate::framework::error::Error;
use crate::framework::reconciler::{
    Guarded, Reconcile, ReconcileContext, deleted_at, key_of, referrers,
};
use crate::framework::references::{self, Target};
use crate::problem::Problem;

/// The McpAuthServer that `reference` names, seen from `namespace`.
pub fn server(reference: &AuthServerRef, namespace: &str) -> Server {
    Server {
        namespace: reference.namespace_or(namespace).to_owned(),
        name: reference.name.clone(),
    }
}

/// What a reference to a McpAuthServer depends on.
pub fn targets(server: &Server, namespace: &str) -> Vec<Target> {
    let key = (server.namespace.clone(), server.name.clone());
    let mut targets = vec![(references::Kind::AuthServer, key)];
    if server.namespace != namespace {
        targets.push((
            references::Kind::Namespace,
            (String::new(), namespace.to_owned()),
        ));
    }
    targets
}

/// Watches what references to McpAuthServers depend on.
pub fn watch_auth_servers<K: Reconcile>(
    controller: Controller<Guarded<K>>,
    ctx: &Arc<Context>,
) -> Controller<Guarded<K>> {
    let seen = Mutex::new(HashMap::new());
    let context = Arc::clone(ctx);
    let servers = ctx.watched::<Guarded<McpAuthServer>>();
    let controller = controller.watches(servers, watcher::Config::default(), move |server| {
        let (key, now) = (key_of(&server), concern(&server));
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        if server.finalizers().is_empty() {
            // It begins, or ends.
            seen.remove(&key);
        } else if seen.insert(key.clone(), now.clone()) == Some(now) {
            return Vec::new();
        }
        referrers::<K>(&context, references::Kind::AuthServer, key)
    });
    if ctx.config.watch_namespace.is_some() {
        // Nothing in another namespace can be referred to, so no namespace's labels matter.
        return controller;
    }
    let namespaces: Api<PartialObjectMeta<Namespace>> = Api::all(ctx.client.clone());
    let context = Arc::clone(ctx);
    controller.watches(namespaces, watcher::Config::default(), move |namespace| {
        let key = key_of(&namespace);
        let mut affected = referrers::<K>(&context, references::Kind::Namespace, key);
        let (kind, key) = any_namespace();
        affected.extend(referrers::<K>(&context, kind, key));
        affected
    })
}

/// What the selection of namespaces by their labels depends on.
pub fn any_namespace() -> Target {
    (references::Kind::Namespace, (String::new(), String::new()))
}

/// The namespaces that a selector matches.
pub async fn namespaces(
    context: &ReconcileContext<'_>,
    selector: &NamespaceSelector,
) -> Result<Vec<String>, Error> {
    let api: Api<Namespace> = Api::all(context.program.client.clone());
    let all = api.list_metadata(&ListParams::default()).await?;
    let matching = all.iter().filter(|n| selector.matches(n.labels()));
    Ok(matching.map(ResourceExt::name_any).collect())
}

/// What of a McpAuthServer concerns those who refer to it: its spec, its end, and when it came and went, since
/// what it lost then is put there again. There can be thousands of them, and messages change often.
fn concern(server: &Guarded<McpAuthServer>) -> impl PartialEq + Clone + Send + use<> {
    let conditions = server.0.as_ref().ok().and_then(|s| s.status.clone());
    let conditions = conditions.unwrap_or_default().conditions.into_iter();
    let meta = server.meta();
    (
        meta.uid.clone(),
        meta.generation,
        meta.deletion_timestamp.clone(),
        conditions
            .map(|c| (c.type_, c.status, c.last_transition_time))
            .collect::<Vec<_>>(),
    )
}

/// The McpAuthServer, if there is one and it admits references from the object's namespace.
pub async fn auth_server(
    context: &ReconcileContext<'_>,
    server: &Server,
) -> Result<McpAuthServer, Error> {
    let found = read(context, server).await?.ok_or_else(|| {
        Problem::outage(
            reasons::AUTH_SERVER_NOT_FOUND,
            format!(
                "McpAuthServer {server} does not exist: create it, or correct spec.authServerRef"
            ),
        )
    })?;
    let labels = namespace_labels(context, &server.namespace).await?;
    let own = &context.owner.namespace;
    if !found
        .spec
        .allowed_namespaces
        .admits(&server.namespace, own, &labels)
    {
        return Err(not_permitted(server, own).into());
    }
    Ok(found)
}

fn not_permitted(server: &Server, namespace: &str) -> Problem {
    Problem::person(
        reasons::REFERENCE_NOT_PERMITTED,
        format!(
            "McpAuthServer {server} does not allow references from namespace {namespace}: \
             ask its owner to add the namespace to spec.allowedNamespaces"
        ),
    )
}

/// Whether this operator serves the namespace of `server`.
pub fn is_served(context: &ReconcileContext<'_>, server: &Server) -> bool {
    let only = context.program.config.watch_namespace.as_ref();
    only.is_none_or(|only| *only == server.namespace)
}

/// Whether `text` can be the name of a McpAuthServer or a namespace. What has other characters, as `a/status`
/// or `a?x`, would be an alias of one in the URLs that it gets into, and lead anywhere.
fn is_label(text: &str) -> bool {
    let fits = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    !text.is_empty() && text.bytes().all(fits)
}

fn can_exist(server: &Server) -> bool {
    is_label(&server.namespace) && is_label(&server.name)
}

async fn read(
    context: &ReconcileContext<'_>,
    server: &Server,
) -> Result<Option<McpAuthServer>, Error> {
    if !is_served(context, server) {
        let only = context.program.config.watch_namespace.as_deref();
        return Err(Problem::person(
            reasons::REFERENCE_NOT_PERMITTED,
            format!(
                "this operator watches only namespace {}, so it cannot use McpAuthServer {server}",
                only.unwrap_or_default()
            ),
        )
        .into());
    }
    if !can_exist(server) {
        return Ok(None);
    }
    let api: Api<Guarded<McpAuthServer>> =
        Api::namespaced(context.program.client.clone(), &server.namespace);
    match api.get_opt(&server.name).await? {
        None => Ok(None),
        Some(DeserializeGuard(Ok(found))) => Ok(Some(found)),
        Some(DeserializeGuard(Err(invalid))) => Err(Problem::person(
            reasons::INVALID_SPEC,
            format!("McpAuthServer {server} has an invalid spec: {invalid}"),
        )
        .into()),
    }
}

/// Whether the McpAuthServer is there to be told that something goes. Its spec need not parse for that.
pub async fn is_there(context: &ReconcileContext<'_>, server: &Server) -> Result<bool, Error> {
    if !is_served(context, server) || !can_exist(server) {
        return Ok(false);
    }
    let api: Api<McpAuthServer> =
        Api::namespaced(context.program.client.clone(), &server.namespace);
    let found = api.get_metadata_opt(&server.name).await?;
    Ok(found.is_some_and(|found| deleted_at(&found).is_none()))
}

/// The labels of the object's namespace, where they can matter for a reference to the namespace `referred`.
pub async fn namespace_labels(
    context: &ReconcileContext<'_>,
    referred: &str,
) -> Result<BTreeMap<String, String>, Error> {
    if referred == context.owner.namespace || context.program.config.watch_namespace.is_some() {
        return Ok(BTreeMap::new());
    }
    let api: Api<PartialObjectMeta<Namespace>> = Api::all(context.program.client.clone());
    let namespace = api.get_opt(&context.owner.namespace).await?;
    Ok(namespace.map(|n| n.labels().clone()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_a_name_gets_into_urls() {
        for name in ["auth", "auth-2", "0a"] {
            assert!(is_label(name), "{name}");
        }
        let aliases = [
            "",
            "auth/status",
            "auth?x",
            "auth#x",
            "..",
            "a b",
            "a:1@b",
            "10.0.0.1",
        ];
        for name in aliases {
            assert!(!is_label(name), "{name}");
        }
    }
}
