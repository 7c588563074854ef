//! Looks up the McpAuthServer that an object references.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, PoisonError};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::core::PartialObjectMeta;
use kube::runtime::controller::Controller;
use kube::runtime::watcher;
use kube::{Api, Resource, ResourceExt};
use mcpauth_api::McpAuthServer;
use mcpauth_api::conditions::reasons;
use mcpauth_api::refs::{AuthServerRef, NamespaceSelector, NamespacesFrom};

use crate::authserver::{Internal, Server};
use crate::framework::context::{Context, Scope};
use crate::framework::error::Error;
use crate::framework::guarded::Guarded;
use crate::framework::installation::CLAIM;
use crate::framework::reconciler::{Reconcile, ReconcileContext, deleted_at, key_of, referrers};
use crate::framework::references::{self, Target};
use crate::framework::watched::Watched;
use crate::problem::Problem;
use crate::text::is_label;

/// The McpAuthServer that `reference` names, for an object in `namespace`.
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

/// Reconciles objects when an authorization server responds again: all, because kube's trigger for certain ones is unstable.
/// It is once for each outage.
pub fn watch_responding<K: Reconcile>(
    controller: Controller<Guarded<K>>,
    scope: &Scope,
) -> Controller<Guarded<K>> {
    controller.reconcile_all_on(scope.program.auth_servers.responding().map(drop))
}

/// Watches what references to McpAuthServers depend on.
pub fn watch_auth_servers<K: Reconcile>(
    controller: Controller<Guarded<K>>,
    scope: &Scope,
) -> Controller<Guarded<K>> {
    let controller = watch_responding(controller, scope);
    // References to other namespaces are possible, too.
    let everywhere = scope.program.scopes().into_iter();
    let controller = everywhere.fold(controller, |controller, servers| {
        watch_servers(controller, &servers, scope.clone())
    });
    if is_bounded(&scope.program) {
        return controller;
    }
    let namespaces: Api<Watched<Namespace>> = Api::all(scope.program.client.clone());
    let scope = scope.clone();
    controller.watches(namespaces, watcher::Config::default(), move |namespace| {
        let key = key_of(&namespace);
        let mut affected = referrers::<K>(&scope, references::Kind::Namespace, key);
        let (kind, key) = any_namespace();
        affected.extend(referrers::<K>(&scope, kind, key));
        affected
    })
}

/// The target that stands for all namespaces, because any of them can start or stop to match a selector.
pub fn any_namespace() -> Target {
    (references::Kind::Namespace, (String::new(), String::new()))
}

/// The namespaces that a selector matches.
///
/// # Errors
/// A problem when the operator may not read Namespaces; `field` is the selector's field.
pub async fn namespaces(
    context: &ReconcileContext<'_>,
    field: &str,
    selector: &NamespaceSelector,
) -> Result<Vec<String>, Error> {
    if is_bounded(context.program) {
        let message = format!(
            "{field}: this operator watches only {} and cannot read the labels of namespaces: list them in names \
             instead",
            served(context.program)
        );
        return Err(Problem::person(reasons::INVALID_SPEC, message).into());
    }
    let api: Api<Namespace> = Api::all(context.program.client.clone());
    let all = api.list_metadata(&ListParams::default()).await?;
    let matching = all.iter().filter(|n| selector.matches(n.labels()));
    Ok(matching.map(ResourceExt::name_any).collect())
}

fn watch_servers<K: Reconcile>(
    controller: Controller<Guarded<K>>,
    servers: &Scope,
    scope: Scope,
) -> Controller<Guarded<K>> {
    let seen = Mutex::new(HashMap::new());
    let servers = servers.api::<Guarded<McpAuthServer>>();
    controller.watches(servers, watcher::Config::default(), move |server| {
        let (key, now) = (key_of(&server), concern(&server));
        scope.program.recent_auth_servers.changed(&key);
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        if server.finalizers().is_empty() {
            // It was just created, or is being deleted.
            seen.remove(&key);
        } else if seen.insert(key.clone(), now) == Some(now) {
            return Vec::new();
        }
        referrers::<K>(&scope, references::Kind::AuthServer, key)
    })
}

/// Whether the operator watches only certain namespaces; it then has no cluster-wide permissions, such as reading
/// Namespaces.
fn is_bounded(program: &Context) -> bool {
    !program.config.watch_namespaces.is_empty()
}

/// A hash of the parts of a McpAuthServer that matter to the objects that reference it: its spec, its deletion, its CA, and the
/// times of condition changes, because registrations that it lost have to be restored. Other changes, such as messages,
/// are frequent, and there can be thousands of referencing objects.
fn concern(server: &Guarded<McpAuthServer>) -> u64 {
    let mut hasher = DefaultHasher::new();
    let meta = server.meta();
    (&meta.uid, meta.generation, deleted_at(server)).hash(&mut hasher);
    if let Some(status) = server.0.as_ref().ok().and_then(|s| s.status.as_ref()) {
        status.internal_ca.hash(&mut hasher);
        for condition in &status.conditions {
            let since = condition.last_transition_time.0;
            (&condition.type_, &condition.status, since).hash(&mut hasher);
        }
    }
    hasher.finish()
}

/// The McpAuthServer, if it exists and allows references from the object's namespace.
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
    let own = &context.owner.namespace;
    let allowed = &found.spec.allowed_namespaces;
    let labels = namespace_labels(context, &server.namespace).await?;
    if allowed.admits(&server.namespace, own, &labels) {
        return match found.spec.internal_tls.is_some() && known_ca(&found).is_none() {
            true => Err(ca_unknown(server).into()),
            false => Ok(found),
        };
    }
    let problem = match allowed.from == NamespacesFrom::Selector && is_bounded(context.program) {
        true => labels_unknown(context, server),
        false => not_permitted(server, own),
    };
    Err(problem.into())
}

fn ca_unknown(server: &Server) -> Problem {
    Problem::outage(
        reasons::AUTH_SERVER_UNREACHABLE,
        format!(
            "McpAuthServer {server} has spec.internalTls, and the CA of its certificate is not known yet: see its \
             conditions"
        ),
    )
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

fn labels_unknown(context: &ReconcileContext<'_>, server: &Server) -> Problem {
    Problem::person(
        reasons::REFERENCE_NOT_PERMITTED,
        format!(
            "McpAuthServer {server} allows references by the labels of namespaces, which this operator may not \
             read because it watches only {}: list the namespaces in spec.allowedNamespaces.names of the McpAuthServer, \
             or let the operator watch all namespaces",
            served(context.program)
        ),
    )
}

/// Whether this operator watches the namespace of `server`.
pub fn is_served(context: &ReconcileContext<'_>, server: &Server) -> bool {
    context.program.config.serves(&server.namespace)
}

/// The watched namespaces, as text.
fn served(program: &Context) -> String {
    let only = &program.config.watch_namespaces;
    let noun = if only.len() == 1 {
        "namespace"
    } else {
        "namespaces"
    };
    format!("{noun} {}", only.join(", "))
}

/// Other characters than those of a name could change the meaning of the URLs that it is used in.
fn can_exist(server: &Server) -> bool {
    is_label(&server.namespace) && is_label(&server.name)
}

async fn read(
    context: &ReconcileContext<'_>,
    server: &Server,
) -> Result<Option<McpAuthServer>, Error> {
    if !is_served(context, server) {
        return Err(Problem::person(
            reasons::REFERENCE_NOT_PERMITTED,
            format!(
                "this operator watches only {}, so it cannot use McpAuthServer {server}",
                served(context.program)
            ),
        )
        .into());
    }
    if !can_exist(server) {
        return Ok(None);
    }
    let found = context.read_auth_server(&server.namespace, &server.name);
    match found.await? {
        None => Ok(None),
        Some(Guarded(Ok(found))) => {
            note_internal(context, server, found).await;
            Ok(Some(found.clone()))
        }
        Some(Guarded(Err(invalid))) => Err(Problem::person(
            reasons::INVALID_SPEC,
            format!("McpAuthServer {server} has an invalid spec: {invalid}"),
        )
        .into()),
    }
}

/// Whether the McpAuthServer exists, so that something can be unregistered from it. Its spec does not have to parse.
pub async fn is_there(context: &ReconcileContext<'_>, server: &Server) -> Result<bool, Error> {
    if !is_served(context, server) || !can_exist(server) {
        return Ok(false);
    }
    let found = context.read_auth_server(&server.namespace, &server.name);
    let Some(found) = found.await? else {
        return Ok(false);
    };
    if let Guarded(Ok(found)) = found {
        note_internal(context, server, found).await;
    }
    Ok(deleted_at(found).is_none())
}

/// Records how the McpAuthServer is called.
async fn note_internal(context: &ReconcileContext<'_>, server: &Server, found: &McpAuthServer) {
    let internal = Internal::new(found.spec.internal_tls.is_some(), known_ca(found));
    let auth_servers = &context.program.auth_servers;
    auth_servers.is_reached_by(server, internal).await;
}

/// The CA of the internal port's certificate, if it has one.
pub fn internal_ca(found: &McpAuthServer) -> Option<String> {
    found.spec.internal_tls.as_ref()?;
    known_ca(found).map(str::to_owned)
}

/// The CA that its controller has read last.
fn known_ca(found: &McpAuthServer) -> Option<&str> {
    let status = found.status.as_ref()?;
    status.internal_ca.as_deref()
}

/// Whether this installation manages the McpAuthServer.
pub async fn is_ours(context: &ReconcileContext<'_>, server: &Server) -> Result<bool, Error> {
    if !is_served(context, server) || !can_exist(server) {
        return Ok(false);
    }
    let found = context.read_auth_server(&server.namespace, &server.name);
    let found = found.await?;
    let own = context.program.installation().to_string();
    Ok(found.is_some_and(|found| found.annotations().get(CLAIM) == Some(&own)))
}

/// The labels of the object's namespace, if they are needed for a reference to the namespace `referred`. None
/// if the operator may not read them.
pub async fn namespace_labels(
    context: &ReconcileContext<'_>,
    referred: &str,
) -> Result<BTreeMap<String, String>, Error> {
    if referred == context.owner.namespace || is_bounded(context.program) {
        return Ok(BTreeMap::new());
    }
    let api: Api<PartialObjectMeta<Namespace>> = Api::all(context.program.client.clone());
    let namespace = api.get_opt(&context.owner.namespace).await?;
    Ok(namespace.map(|n| n.labels().clone()).unwrap_or_default())
}
