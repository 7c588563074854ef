//! Finding the McpAuthServer that an object refers to, and letting it go again.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Namespace;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::{Api, ResourceExt};
use mcpauth_api::McpAuthServer;
use mcpauth_api::conditions::reasons;
use mcpauth_api::refs::AuthServerRef;

use super::{Guarded, Work, deleted_at};
use crate::authserver_api::{Collection, Server};
use crate::error::{Error, Problem};
use crate::references::{Kind, Target};

/// How long a deletion waits for an authorization server that does not answer.
pub const PATIENCE: SignedDuration = SignedDuration::from_mins(2);

/// The reason of the event that tells of a registration which was left behind. No condition has it: the
/// recorder counts events of one reason together, and this one must be seen.
const GAVE_UP: &str = "GaveUpUnregistering";

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
    let mut targets = vec![(Kind::AuthServer, key)];
    if server.namespace != namespace {
        targets.push((Kind::Namespace, (String::new(), namespace.to_owned())));
    }
    targets
}

/// The McpAuthServer, if there is one and it admits references from the object's namespace.
pub async fn auth_server(work: &Work<'_>, server: &Server) -> Result<McpAuthServer, Error> {
    let found = read(work, server).await?.ok_or_else(|| {
        Problem::outage(
            reasons::AUTH_SERVER_NOT_FOUND,
            format!(
                "McpAuthServer {server} does not exist: create it, or correct spec.authServerRef"
            ),
        )
    })?;
    let labels = namespace_labels(work, server).await?;
    let own = &work.owner.namespace;
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
            "McpAuthServer {server} does not admit references from namespace {namespace}: \
             its spec.allowedNamespaces must name it"
        ),
    )
}

async fn read(work: &Work<'_>, server: &Server) -> Result<Option<McpAuthServer>, Error> {
    let watched = work.ctx.config.watch_namespace.as_ref();
    if let Some(only) = watched.filter(|only| **only != server.namespace) {
        return Err(Problem::person(
            reasons::REFERENCE_NOT_PERMITTED,
            format!("this operator serves namespace {only} only, and McpAuthServer {server} is elsewhere"),
        )
        .into());
    }
    let api: Api<Guarded<McpAuthServer>> =
        Api::namespaced(work.ctx.client.clone(), &server.namespace);
    match api.get_opt(&server.name).await? {
        None => Ok(None),
        Some(DeserializeGuard(Ok(found))) => Ok(Some(found)),
        Some(DeserializeGuard(Err(invalid))) => Err(Problem::person(
            reasons::INVALID_SPEC,
            format!("McpAuthServer {server} cannot be read: {invalid}"),
        )
        .into()),
    }
}

/// The labels of the object's namespace, where they can matter.
async fn namespace_labels(
    work: &Work<'_>,
    server: &Server,
) -> Result<BTreeMap<String, String>, Error> {
    if server.namespace == work.owner.namespace {
        return Ok(BTreeMap::new());
    }
    let api: Api<PartialObjectMeta<Namespace>> = Api::all(work.ctx.client.clone());
    let namespace = api.get_opt(&work.owner.namespace).await?;
    Ok(namespace.map(|n| n.labels().clone()).unwrap_or_default())
}

/// Removes a registration because `object` is being deleted. It ends in any case: at once when the
/// McpAuthServer is gone or going, and after [`PATIENCE`] when it does not answer.
pub async fn unregister(
    work: &Work<'_>,
    object: &impl ResourceExt,
    server: &Server,
    collection: Collection,
    id: &str,
) -> Result<(), Error> {
    match read(work, server).await {
        Ok(Some(found)) if deleted_at(&found).is_none() => {}
        Ok(_) | Err(Error::Problem(_)) => {
            work.ctx.auth_servers.forget(server).await;
            return Ok(());
        }
        Err(other) => return Err(other),
    }
    let Err(error) = work.ctx.auth_servers.delete(server, collection, id).await else {
        return Ok(());
    };
    if is_over(deleted_at(object), (work.ctx.clock)()) {
        let note = format!("gave up: {id} may still be registered. {error}");
        work.ctx.events.warning(&work.about, GAVE_UP, &note).await;
        return Ok(());
    }
    let message = format!("{error}, for at most {} s", PATIENCE.as_secs());
    Err(Problem::stage(reasons::DELETING, message).into())
}

/// Whether a deletion that began at `began` has waited long enough.
fn is_over(began: Option<Timestamp>, now: Timestamp) -> bool {
    began.is_none_or(|began| now.duration_since(began) >= PATIENCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deletion_while_the_authorization_server_is_gone_still_ends() {
        let began = Timestamp::UNIX_EPOCH;
        assert!(!is_over(Some(began), began));
        assert!(!is_over(
            Some(began),
            began + SignedDuration::from_secs(119)
        ));
        assert!(is_over(Some(began), began + SignedDuration::from_secs(120)));
    }
}
