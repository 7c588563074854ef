//! Runs a controller: reconciles with a timeout, and decides when to reconcile an object again.

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
use crate::framework::finalizer::{finalize, withdraw};
use crate::framework::reconciler::{Guarded, Reconcile, ReconcileContext, key_of};
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
                    ctx.note_claim(K::KIND, key.clone(), None);
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
    let deadline = ctx.config.reconcile_timeout();
    let result = tokio::time::timeout(deadline, step(&object, &ctx))
        .await
        .unwrap_or(Err(Error::Timeout(deadline)));
    let label = if result.is_ok() { "ok" } else { "error" };
    let outcome = result.as_ref().err().map_or("ok", Error::reason);
    tracing::Span::current().record("outcome", outcome);
    ctx.metrics.reconciled(K::KIND, label, started.elapsed());
    if result.is_ok() {
        ctx.backoff.succeeded(&(K::KIND, key_of(&*object)));
    }
    result
}

async fn step<K: Reconcile>(guarded: &Guarded<K>, ctx: &Context) -> Result<Action, Error> {
    let Some(context) = ReconcileContext::new(guarded, ctx) else {
        return Ok(Action::await_change());
    };
    let instead = match claim(guarded, &context).await {
        // Whose it is stays open, so nothing but an event is written.
        Err(Error::Problem(problem)) => {
            let (reason, message) = (problem.reason, &problem.message);
            ctx.events.warning(&context.about, reason, message).await;
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
    let object = match &guarded.0 {
        Ok(object) => object,
        Err(invalid) => return unparsable(guarded, &invalid.error, &context).await,
    };
    let mut observed = match object.sync(&context).await {
        Ok(observed) => observed,
        Err(Error::Problem(problem)) => Observed::problem(problem),
        Err(other) => return Err(other),
    };
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
            ctx.events
                .warning(
                    &guarded.object_ref(&()),
                    reasons::INVALID_SPEC,
                    &observed.problems[0].message,
                )
                .await;
        }
        other => drop(other?),
    }
    withdraw(guarded, context).await?;
    Ok(Action::requeue(ctx.config.resync(false)))
}
