//! Reports what a reconcile observed: the status, an event when Ready changes, and the time of the next reconcile.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use mcpauth_api::conditions::types;
use serde_json::{Value, json};

use crate::framework::apply::is_gone_or_replaced;
use crate::framework::context::Context;
use crate::framework::error::Error;
use crate::framework::reconciler::{Reconcile, key_of, stored};
use crate::framework::status::{self, Observed};
use crate::problem::{Problem, Retry, soon};

/// When to look again at what is expected to answer.
const RECHECK: Duration = Duration::from_secs(2);

/// Writes the status that follows from what was observed, if it differs, and publishes an event when Ready changes.
/// Returns the time since which Ready has had its status.
pub async fn report<K: Reconcile>(
    ctx: &Context,
    object: &impl Resource<DynamicType = ()>,
    observed: &Observed,
) -> Result<Option<Timestamp>, Error> {
    let (namespace, name) = key_of(object);
    let api = stored::<K>(ctx, &namespace);
    let mut before = Value::Null;
    // Before its finalizer was written, nobody wrote a status. Later, the cache may lag behind the last write, and the
    // times must not change twice.
    let finalizers = object.meta().finalizers.iter().flatten();
    if finalizers.into_iter().any(|f| f == K::FINALIZER) {
        let Some(live) = api.get_opt(&name).await? else {
            return Ok(None);
        };
        if live.metadata.uid != object.meta().uid {
            return Ok(None);
        }
        before = live.data.get("status").cloned().unwrap_or_default();
    }
    ctx.metrics.object(
        K::KIND,
        format!("{namespace}/{name}"),
        Some(observed.problems.is_empty()),
    );
    // The observations are about the spec that was read, not about a newer one.
    let generation = object.meta().generation;
    let Some(next) = status::next(&before, observed, generation, ctx.now()) else {
        return Ok(since(&before));
    };
    if !write_status::<K>(ctx, object, &next).await? {
        return Ok(None);
    }
    announce(ctx, &object.object_ref(&()), &before, &next, observed).await;
    Ok(since(&next))
}

/// Writes the status of an object. Returns whether the object still exists.
///
/// # Errors
/// The API server rejects the request, or does not respond.
pub async fn write_status<K: Reconcile>(
    ctx: &Context,
    object: &impl Resource<DynamicType = ()>,
    status: &Value,
) -> Result<bool, Error> {
    let (namespace, name) = key_of(object);
    let patch = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": { "name": name, "namespace": namespace, "uid": object.meta().uid },
        "status": status,
    });
    ctx.metrics.write(K::MANAGER, "status");
    let params = PatchParams::apply(K::MANAGER).force();
    match stored::<K>(ctx, &namespace)
        .patch_status(&name, &params, &Patch::Apply(patch))
        .await
    {
        Err(error) if is_gone_or_replaced(&error) => Ok(false),
        written => {
            written?;
            Ok(true)
        }
    }
}

fn since(status: &Value) -> Option<Timestamp> {
    let ready = status::conditions(status)
        .into_iter()
        .find(|c| c.type_ == types::READY)?;
    Some(ready.last_transition_time.0)
}

/// Publishes an event when the status or reason of Ready has changed.
async fn announce(
    ctx: &Context,
    about: &ObjectReference,
    before: &Value,
    after: &Value,
    observed: &Observed,
) {
    let ready = |status: &Value| {
        let conditions = status::conditions(status);
        conditions
            .into_iter()
            .find(|c| c.type_ == types::READY)
            .map(|c| (c.status, c.reason, c.message))
    };
    let Some((status, reason, message)) = ready(after) else {
        return;
    };
    if ready(before).is_some_and(|(s, r, _)| (s, r) == (status, reason.clone())) {
        return;
    }
    match observed.problems.first() {
        Some(problem) if problem.degraded || is_failure(problem) => {
            ctx.events.warning(about, &reason, &message);
        }
        _ => ctx.events.normal(about, &reason, &message),
    }
}

/// Whether the reconcile failed, rather than being at a stage.
fn is_failure(problem: &Problem) -> bool {
    matches!(problem.retry, Retry::Backoff | Retry::Probe)
}

/// When to reconcile an object again that has been in its state since `since`.
pub fn next_action(
    ctx: &Context,
    observed: &Observed,
    since: Option<Timestamp>,
) -> Result<Action, Error> {
    if let Some(failed) = observed.problems.iter().find(|p| is_failure(p)) {
        return Err(failed.clone().into());
    }
    if observed.recheck {
        return Ok(Action::requeue(RECHECK));
    }
    if observed.problems.iter().all(|p| p.retry == Retry::Change) {
        if let Some(waiting) = &observed.waiting {
            let spread = 0.9 + 0.2 * crate::random::jitter();
            return Ok(Action::requeue(waiting.again.mul_f64(spread)));
        }
        // Jitter, so that objects that became ready together are not reconciled together.
        let spread = 0.9 + 0.2 * crate::random::jitter();
        let resync = ctx.config.resync(observed.forgotten);
        return Ok(Action::requeue(resync.mul_f64(spread)));
    }
    let now = ctx.now();
    Ok(Action::requeue(soon(
        since.map_or(SignedDuration::ZERO, |since| now.duration_since(since)),
    )))
}
