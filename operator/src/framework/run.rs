//! Runs a controller: reconciles with a timeout, and decides when to reconcile an object again.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use futures::StreamExt;
use kube::Resource;
use kube::runtime::controller::{self, Action, Controller};
use kube::runtime::watcher;
use mcpauth_api::conditions::reasons;
use tokio_util::sync::CancellationToken;

use crate::framework::apply::is_code;
use crate::framework::claim::claim;
use crate::framework::context::{Context, Scope};
use crate::framework::error::Error;
use crate::framework::finalizer::{finalize, has_finalizer, withdraw};
use crate::framework::guarded::Guarded;
use crate::framework::installation::{CLAIM, Installation};
use crate::framework::newcomers::{ARRIVING, Fingerprint};
use crate::framework::paused;
use crate::framework::reconciler::{Reconcile, ReconcileContext, deleted_at, key_of};
use crate::framework::report::{next_action, report};
use crate::framework::status::Observed;
use crate::problem::Problem;

/// Runs the controller of `K` in `scope` until `stop`, then finishes the running reconciles.
pub async fn run<K: Reconcile>(scope: Scope, stop: CancellationToken) {
    let ctx = Arc::clone(&scope.program);
    let config = controller::Config::default().concurrency(ctx.config.concurrency);
    let controller = Controller::new(scope.api::<Guarded<K>>(), watcher::Config::default());
    K::watch(controller, &scope)
        .with_config(config)
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(reconcile::<K>, retry::<K>, Arc::clone(&ctx))
        .for_each(|result| async {
            match result {
                // Reconciles log their own failures.
                Ok(_) | Err(controller::Error::ReconcilerFailed(..)) => {}
                Err(controller::Error::ObjectNotFound(gone)) => {
                    let key = (gone.namespace.unwrap_or_default(), gone.name);
                    ctx.forget(K::KIND, &key.0, &key.1);
                    K::references(&ctx).set(&key, HashSet::new());
                    if let Some(uid) = &gone.extra.uid {
                        ctx.written.forget(uid);
                    }
                    ctx.note_claim(K::KIND, key.clone(), None);
                    ctx.newcomers.forget(&(K::KIND, key.clone()));
                    ctx.backoff.succeeded(&(K::KIND, key));
                }
                Err(error) => {
                    tracing::warn!(kind = K::KIND, %error, "watch failed; restarting it");
                }
            }
        })
        .await;
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that kube asks for"
)]
fn retry<K: Reconcile>(object: Arc<Guarded<K>>, error: &Error, ctx: Arc<Context>) -> Action {
    let (namespace, name) = key_of(&*object);
    let wait = ctx.backoff.failed(
        (K::KIND, (namespace.clone(), name.clone())),
        crate::random::jitter(),
    );
    // With jitter, so that objects that wait for the same server are not tried at the same time.
    let least = error.shortest_wait().mul_f64(1.0 + crate::random::jitter());
    let wait = wait.max(least);
    let wait = error.longest_wait().map_or(wait, |most| wait.min(most));
    tracing::warn!(
        kind = K::KIND,
        namespace,
        name,
        reason = error.reason(),
        %error,
        retry_seconds = wait.as_secs(),
        "reconcile failed; retrying"
    );
    Action::requeue(wait)
}

/// One reconcile, counted and with a timeout. [`retry`] logs why it failed.
#[tracing::instrument(skip_all, fields(
    kind = K::KIND,
    namespace = object.meta().namespace.as_deref(),
    name = object.meta().name.as_deref(),
    outcome = tracing::field::Empty,
))]
async fn reconcile<K: Reconcile>(
    object: Arc<Guarded<K>>,
    ctx: Arc<Context>,
) -> Result<Action, Error> {
    let started = tokio::time::Instant::now();
    let key = (K::KIND, key_of(&*object));
    let seen = fingerprint(&object, &ctx.installation());
    let _turn = match ctx.newcomers.turn(&key, seen, started) {
        Ok(turn) => turn,
        // With jitter, so that not all wake up at once.
        Err(wait) => {
            return Ok(Action::requeue(wait.mul_f64(1.0 + crate::random::jitter())));
        }
    };
    let is_new = !has_finalizer(&object) && !ctx.newcomers.knows(&key);
    let _arriving = is_new.then(|| ctx.newcomers.arriving());
    let deadline = ctx.config.reconcile_timeout();
    let result = tokio::time::timeout(deadline, step(&object, is_new, &ctx))
        .await
        .unwrap_or(Err(Error::Timeout(deadline)));
    let label = if result.is_ok() { "ok" } else { "error" };
    let outcome = result.as_ref().err().map_or("ok", Error::reason);
    tracing::Span::current().record("outcome", outcome);
    ctx.metrics.reconciled(K::KIND, label, started.elapsed());
    if matches!(result, Ok(_) | Err(Error::Problem(_))) {
        ctx.newcomers.reconciled(key.clone(), seen);
    }
    if result.is_ok() {
        ctx.backoff.succeeded(&key);
    }
    result
}

/// What others can change of an object: all but its status, and the claim of this installation.
fn fingerprint<K: Reconcile>(object: &Guarded<K>, own: &Installation) -> Fingerprint {
    let meta = object.meta();
    let own = own.to_string();
    let annotations = meta.annotations.iter().flatten();
    let annotations = annotations.filter(|(name, value)| name.as_str() != CLAIM || **value != own);
    let mut hasher = DefaultHasher::new();
    (&meta.uid, meta.generation).hash(&mut hasher);
    annotations.for_each(|annotation| annotation.hash(&mut hasher));
    meta.deletion_timestamp.is_some().hash(&mut hasher);
    hasher.finish()
}

async fn step<K: Reconcile>(
    guarded: &Guarded<K>,
    is_new: bool,
    ctx: &Context,
) -> Result<Action, Error> {
    let Some(mut context) = ReconcileContext::new(guarded, is_new, ctx) else {
        return Ok(Action::await_change());
    };
    context.pods_first = is_new && has_pods(guarded) && ctx.newcomers.is_one_of_many();
    let instead = match claim(guarded, &context).await {
        // Whose it is stays open, so nothing but an event is written.
        Err(Error::Problem(problem)) => {
            let (reason, message) = (problem.reason, &problem.message);
            ctx.events.warning(&context.about, reason, message);
            return Err(problem.into());
        }
        instead => instead?,
    };
    if let Some(instead) = instead {
        return Ok(instead);
    }
    if guarded.meta().deletion_timestamp.is_some() {
        return finalize(guarded, &context).await;
    }
    if paused::is_paused(guarded) {
        return leave_paused(guarded, &context).await;
    }
    let object = match &guarded.0 {
        Ok(object) => object,
        Err(invalid) => return unparsable(guarded, &invalid.error, &context).await,
    };
    let mut observed = match object.sync(&context).await {
        Ok(observed) => observed,
        Err(Error::Problem(problem)) => Observed::problem(problem),
        Err(other) => return Err(other),
    };
    if observed.is_partial || context.pods_first {
        // Its turn comes when no new object arrives any more.
        return Ok(Action::requeue(ARRIVING));
    }
    match object.complete(&context, &mut observed).await {
        // Told like the others, instead of hiding them.
        Err(Error::Problem(problem)) if !observed.problems.contains(&problem) => {
            observed.problems.push(problem);
        }
        Err(Error::Problem(_)) => {}
        completed => completed?,
    }
    let since = report::<K>(ctx, object, &observed).await?;
    next_action(ctx, &observed, since)
}

/// Whether pods are to be made for an object.
fn has_pods<K: Reconcile>(object: &Guarded<K>) -> bool {
    let stays = deleted_at(object).is_none() && !paused::is_paused(object);
    stays && object.0.as_ref().is_ok_and(K::has_pods)
}

/// Leaves an object unchanged that is paused. A withdrawn admission still ends its tokens.
async fn leave_paused<K: Reconcile>(
    guarded: &Guarded<K>,
    context: &ReconcileContext<'_>,
) -> Result<Action, Error> {
    paused::report::<K>(context.program, guarded).await?;
    withdraw(guarded, context).await?;
    Ok(Action::requeue(context.program.config.resync(false)))
}

/// Handles an object that this version cannot parse: an event and a condition. Its children are left unchanged until the
/// object is changed. It is still reconciled from time to time, so that its metrics are removed when it is deleted.
async fn unparsable<K: Reconcile>(
    guarded: &Guarded<K>,
    why: &str,
    context: &ReconcileContext<'_>,
) -> Result<Action, Error> {
    let ctx = context.program;
    let message = format!(
        "this version of the operator cannot read the object: {why}; correct it with kubectl edit"
    );
    let observed = Observed::problem(Problem::person(reasons::INVALID_SPEC, message));
    match report::<K>(ctx, guarded, &observed).await {
        // An object that does not parse may fail validation, too.
        Err(Error::Api(error)) if is_code(&error, 422) => {
            ctx.events.warning(
                &guarded.object_ref(&()),
                reasons::INVALID_SPEC,
                &observed.problems[0].message,
            );
        }
        other => drop(other?),
    }
    withdraw(guarded, context).await?;
    Ok(Action::requeue(ctx.config.resync(false)))
}

#[cfg(test)]
mod tests {
    use mcpauth_api::ProtectedMcpServer;
    use serde_json::json;

    use super::*;

    /// An object waits only while it is as it was reconciled: its own claim must not count as a change.
    #[test]
    fn a_claim_of_this_installation_is_no_change() {
        let own = Installation {
            namespace: "system".into(),
            lease: "operator".into(),
        };
        let fingerprint = |annotations: serde_json::Value| {
            let object: ProtectedMcpServer = serde_json::from_value(json!({
                "apiVersion": "mcpauth.io/v1alpha1", "kind": "ProtectedMcpServer",
                "metadata": { "name": "notes", "uid": "1", "generation": 1, "annotations": annotations },
                "spec": {
                    "authServerRef": { "name": "auth" }, "resource": "https://notes.example/mcp",
                    "server": { "external": {} }, "scopes": [], "access": {},
                },
            }))
            .unwrap();
            super::fingerprint(&Guarded(Ok(object)), &own)
        };
        let unclaimed = fingerprint(json!({}));
        assert_eq!(fingerprint(json!({ CLAIM: "system/operator" })), unclaimed);
        assert_ne!(fingerprint(json!({ CLAIM: "other/operator" })), unclaimed);
        assert_ne!(fingerprint(json!({ "a": "b" })), unclaimed);
    }
}
