//! Which installation of the operator manages an object: the first that writes its name into the object.
//!
//! The claim is the annotation [`CLAIM`], written with the resource version that was read, so of two installations that
//! see an object without one only one succeeds. Among many new objects, that of a McpAuthServer counts until then. An object that another installation claims is left alone: nothing is
//! written to it or to its children.

use std::time::Duration;

use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};

use crate::framework::apply::is_code;
use crate::framework::error::Error;
use crate::framework::finalizer::{has_finalizer, withdraw, write_claim};
use crate::framework::guarded::Guarded;
use crate::framework::installation::{CLAIM, Holder, Installation};
use crate::framework::leader::LEASE_DURATION;
use crate::framework::reconciler::{Reconcile, ReconcileContext};

/// The reason of the event about an object that is left alone.
const CLAIMED: &str = "ClaimedByAnother";
/// The reason of the event about a claim that lapsed.
const TAKEN_OVER: &str = "TakenOver";
/// How often a claim of an installation that is there is looked at again. A changed claim is noticed at once.
const AGAIN: Duration = Duration::from_secs(60);

/// Claims an object for this installation, and adds the finalizer if there is going to be something to clean up.
/// Returns what to do instead of the reconcile when the object is gone, or another installation's.
///
/// # Errors
/// The API server rejects a request, also because the object has changed meanwhile.
pub async fn claim<K: Reconcile>(
    object: &Guarded<K>,
    context: &ReconcileContext<'_>,
) -> Result<Option<Action>, Error> {
    let deleted = object.meta().deletion_timestamp.is_some();
    if deleted && !has_finalizer(object) {
        return Ok(None);
    }
    let own = context.program.installation().to_string();
    let carried = object.annotations().get(CLAIM);
    let claim = match carried {
        Some(claim) => Some(claim.clone()),
        None => claim_of_auth_server(object, context).await?,
    };
    let follows_ours = carried.is_none() && claim.as_ref() == Some(&own);
    let other = claim.filter(|claim| *claim != own);
    if let Some(other) = &other {
        let holder = holder(other, context).await?;
        if holder != Holder::Lapsed {
            let again = leave::<K>(other, &holder, context).await;
            withdraw(object, context).await?;
            return Ok(Some(again));
        }
    }
    left_alone::<K>(context, None);
    if context.pods_first && follows_ours {
        // No other installation claims it as long as the McpAuthServer is ours. What is made before the finalizer is
        // garbage-collected.
        return Ok(None);
    }
    let claim = (carried != Some(&own)).then_some(own.as_str());
    // What does not parse has no children, or its finalizer already.
    let finalizer = object.0.is_ok() && !deleted;
    if !write_claim(object, context, claim, finalizer).await? {
        return Ok(Some(Action::await_change()));
    }
    if let (Some(other), Some(_)) = (other, carried) {
        announce_take_over::<K>(&other, context).await;
    }
    // The finalizer is removed from the version that this write made.
    Ok((deleted && claim.is_some()).then(Action::await_change))
}

/// An object without a claim follows the McpAuthServer that it refers to: no other installation may register it there.
async fn claim_of_auth_server<K: Reconcile>(
    object: &Guarded<K>,
    context: &ReconcileContext<'_>,
) -> Result<Option<String>, Error> {
    let Some(reference) = object.0.as_ref().ok().and_then(K::auth_server) else {
        return Ok(None);
    };
    let namespace = reference.namespace_or(&context.owner.namespace);
    let found = match context.read_auth_server(namespace, &reference.name).await {
        // In a namespace that is not ours.
        Err(error) if is_code(&error, 403) => None,
        found => found?,
    };
    Ok(found.and_then(|server| server.annotations().get(CLAIM).cloned()))
}

async fn holder(claim: &str, context: &ReconcileContext<'_>) -> Result<Holder, Error> {
    let Some(other) = Installation::parse(claim) else {
        let why = format!("{CLAIM} is {claim:?} instead of NAMESPACE/LEASE");
        return Ok(Holder::Unknown(why));
    };
    let program = context.program;
    let look = program.holders.look(&program.client, &other, program.now());
    Ok(look.await?)
}

async fn announce_take_over<K: Reconcile>(other: &str, context: &ReconcileContext<'_>) {
    let note = format!(
        "managed by the operator of Lease {} from now on: the Lease {other} of the operator that managed it before was deleted, \
         or was not renewed for five minutes",
        context.program.installation()
    );
    tracing::info!(kind = K::KIND, object = ?context.owner.name, other, "taking over a claim that lapsed");
    let events = &context.program.events;
    events.normal(&context.about, TAKEN_OVER, &note);
}

/// Forgets an object that another installation manages. The first time, an event says so.
async fn leave<K: Reconcile>(
    other: &str,
    holder: &Holder,
    context: &ReconcileContext<'_>,
) -> Action {
    let program = context.program;
    let (namespace, name) = (&context.owner.namespace, &context.owner.name);
    context.refers_to([]);
    program.written.forget(&context.owner.reference.uid);
    program.forget(K::KIND, namespace, name);
    if left_alone::<K>(context, Some(other)) {
        let note = note::<K>(other, holder, context);
        tracing::info!(kind = K::KIND, namespace, name, other, "{note}");
        program.events.warning(&context.about, CLAIMED, &note);
    }
    match holder {
        Holder::Silent => Action::requeue(LEASE_DURATION + Duration::from_secs(1)),
        _ => Action::requeue(AGAIN.mul_f64(0.9 + 0.2 * crate::random::jitter())),
    }
}

fn note<K: Reconcile>(other: &str, holder: &Holder, context: &ReconcileContext<'_>) -> String {
    let own = context.program.installation();
    let why = match holder {
        Holder::Unknown(why) => format!(
            "whether that operator still runs cannot be seen ({why}), so this does not change by itself"
        ),
        _ => "it takes over once that Lease is deleted or was not renewed for five minutes"
            .to_owned(),
    };
    format!(
        "left unchanged by the operator of Lease {own}, because the operator of Lease {other} manages it; {why}. To move it \
         at once: kubectl annotate --overwrite {} {} -n {} {CLAIM}={own}",
        K::KIND.to_lowercase(),
        context.owner.name,
        context.owner.namespace,
    )
}

/// Records the claim of another installation, or that there is none. Returns whether that is news.
fn left_alone<K: Reconcile>(context: &ReconcileContext<'_>, other: Option<&str>) -> bool {
    let key = (context.owner.namespace.clone(), context.owner.name.clone());
    context.program.note_claim(K::KIND, key, other)
}
