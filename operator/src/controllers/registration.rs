//! Registers an object with its authorization server, and unregisters it.

use jiff::Timestamp;
use kube::api::DynamicObject;
use mcpauth_api::conditions::{reasons, types};
use mcpauth_api::refs::AuthServerRef;
use serde::Serialize;

use super::lookup;
use crate::authserver::{CallError, Collection, Server};
use crate::desired::labels::Owner;
use crate::desired::names;
use crate::framework::error::Error;
use crate::framework::reconciler::{ReconcileContext, deleted_at};
use crate::framework::status::{Condition, Observed};
use crate::problem::Problem;

/// How long a deletion waits for an authorization server that does not respond.
pub const PATIENCE: jiff::SignedDuration = jiff::SignedDuration::from_mins(2);

/// The reason of the event about a registration that was left behind. Not shared with a condition, because the recorder
/// aggregates events of the same reason, and this one must stand out.
const GAVE_UP: &str = "GaveUpUnregistering";

/// One entry of the admin API.
pub struct Entry {
    /// The authorization server.
    pub server: Server,
    /// The collection, resources or clients.
    collection: Collection,
    /// The id in the collection.
    pub id: String,
}

impl Entry {
    /// The entry of `owner`, whose spec has `reference`.
    pub fn new(collection: Collection, reference: &AuthServerRef, owner: &Owner) -> Self {
        let (namespace, name) = (&owner.namespace, &owner.name);
        Self {
            server: lookup::server(reference, namespace),
            collection,
            id: match collection {
                Collection::Resources => names::resource_id(namespace, name),
                Collection::Clients => names::client_id(namespace, name),
            },
        }
    }

    /// The entry of a stored object, which does not have to parse; none when it has no reference.
    fn of_stored(collection: Collection, raw: &DynamicObject, owner: &Owner) -> Option<Self> {
        let reference = raw.data["spec"]["authServerRef"].clone();
        let reference: AuthServerRef = serde_json::from_value(reference).ok()?;
        Some(Self::new(collection, &reference, owner))
    }

    /// Registers it, and adds the outcome to `observed`.
    pub async fn put(
        &self,
        context: &ReconcileContext<'_>,
        body: &(impl Serialize + Sync),
        observed: &mut Observed,
    ) {
        let api = &context.program.auth_servers;
        let put = api.put(&self.server, self.collection, &self.id, body).await;
        observed.conditions.push(match put {
            Ok(_) => {
                let message = format!(
                    "registered with McpAuthServer {} as {}",
                    self.server, self.id
                );
                Condition::yes(types::REGISTERED, reasons::READY, message)
            }
            Err(error) => {
                let problem = Problem::from(error);
                let condition = Condition::no(types::REGISTERED, &problem);
                observed.problems.push(problem);
                condition
            }
        });
    }

    /// What is observed when `problem` keeps the McpAuthServer from being used. If it no longer allows references from
    /// this namespace, the entry is removed, and with it every token. This is repeated on every reconcile, because the
    /// status is no proof that it was done: others can write it, too.
    pub async fn without_server(
        &self,
        context: &ReconcileContext<'_>,
        problem: Problem,
    ) -> Observed {
        let gone = match problem.reason {
            reasons::AUTH_SERVER_NOT_FOUND => Ok(()),
            reasons::REFERENCE_NOT_PERMITTED if lookup::is_served(context, &self.server) => {
                self.delete(context).await
            }
            reasons::REFERENCE_NOT_PERMITTED => Ok(()),
            // It may still be registered.
            _ => return Observed::problem(problem),
        };
        let mut observed = Observed::problem(problem.clone());
        match gone {
            Ok(()) => observed
                .conditions
                .push(Condition::no(types::REGISTERED, &problem)),
            Err(error) => observed.problems.push(error.into()),
        }
        observed
    }

    async fn delete(&self, context: &ReconcileContext<'_>) -> Result<(), CallError> {
        let api = &context.program.auth_servers;
        api.delete(&self.server, self.collection, &self.id).await
    }
}

/// Unregisters a stored object that is being deleted. This always completes: at once when the McpAuthServer does not
/// exist or is being deleted, and after [`PATIENCE`] when it does not respond.
///
/// # Errors
/// A [`Problem`] while it waits.
pub async fn unregister(
    collection: Collection,
    raw: &DynamicObject,
    context: &ReconcileContext<'_>,
) -> Result<(), Error> {
    let Some(entry) = Entry::of_stored(collection, raw, &context.owner) else {
        return Ok(());
    };
    if !lookup::is_there(context, &entry.server).await? {
        context.program.auth_servers.forget(&entry.server).await;
        return Ok(());
    }
    let Err(error) = entry.delete(context).await else {
        return Ok(());
    };
    if is_over(deleted_at(raw), context.program.now()) {
        let note = format!(
            "gave up on unregistering {}: it may still be registered with the authorization server. {error}",
            entry.id
        );
        context
            .program
            .events
            .warning(&context.about, GAVE_UP, &note);
        return Ok(());
    }
    let message = format!(
        "{error}; after {} s the object is deleted even if this still fails",
        PATIENCE.as_secs()
    );
    Err(Problem::stage(reasons::DELETING, message).into())
}

/// Removes a stored object's entry, and with it every token, if the McpAuthServer is this installation's and does not allow
/// references from its namespace.
///
/// # Errors
/// The API server or the authorization server does not respond.
pub async fn withdraw_if_not_permitted(
    collection: Collection,
    raw: &DynamicObject,
    context: &ReconcileContext<'_>,
) -> Result<(), Error> {
    let Some(entry) = Entry::of_stored(collection, raw, &context.owner) else {
        return Ok(());
    };
    let (server, namespace) = (&entry.server, &context.owner.namespace);
    if server.namespace == *namespace || !lookup::is_ours(context, server).await? {
        return Ok(());
    }
    context.refers_to(lookup::targets(server, namespace));
    match lookup::auth_server(context, server).await {
        Err(Error::Problem(problem)) if problem.reason == reasons::REFERENCE_NOT_PERMITTED => {
            Ok(entry.delete(context).await.map_err(Problem::from)?)
        }
        Ok(_) | Err(Error::Problem(_)) => Ok(()),
        Err(other) => Err(other),
    }
}

/// Whether a deletion that started at `began` has waited long enough.
fn is_over(began: Option<Timestamp>, now: Timestamp) -> bool {
    began.is_none_or(|began| now.duration_since(began) >= PATIENCE)
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

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
