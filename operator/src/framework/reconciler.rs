//! What the three controllers have in common: finalizers, deadlines, status, events, waits.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::{DeserializeGuard, NamespaceResourceScope, PartialObjectMeta};
use kube::runtime::controller::{self, Action, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, Resource, ResourceExt};
use mcpauth_api::conditions::{reasons, types};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::desired::labels::{MANAGED_BY, Owner};
use crate::framework::apply::{Applier, Tie, is_code};
use crate::framework::context::Context;
use crate::framework::error::Error;
use crate::framework::references::{self, Key, References, Target};
use crate::framework::status::{self, Found};
use crate::problem::{Problem, Retry, soon};

/// An object that could be anything of kind `K`, also one that does not parse.
pub type Guarded<K> = DeserializeGuard<K>;

/// One of our kinds.
pub trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Serialize
    + Send
    + Sync
    + 'static
{
    /// As `kubectl` names it.
    const KIND: &'static str;
    /// The field manager of its controller.
    const MANAGER: &'static str;
    /// The finalizer of its controller.
    const FINALIZER: &'static str;

    /// The references of objects of this kind.
    fn references(ctx: &Context) -> &References;

    /// Watches what belongs to objects of this kind, or is referred to by them.
    fn watch(
        controller: Controller<Guarded<Self>>,
        ctx: &Arc<Context>,
    ) -> Controller<Guarded<Self>>;

    /// Makes the world what the spec says, and tells what it found.
    fn sync(&self, work: &Work<'_>) -> impl Future<Output = Result<Found, Error>> + Send;

    /// Adds to what was found what a problem kept [`Self::sync`] from looking at.
    fn complete(_: &Work<'_>, _: &mut Found) -> impl Future<Output = Result<(), Error>> + Send {
        async { Ok(()) }
    }

    /// Takes away what does not go by owner reference. `raw` is the object as it is stored: it need not
    /// parse. A [`Problem`] keeps it.
    fn cleanup(
        raw: &DynamicObject,
        work: &Work<'_>,
    ) -> impl Future<Output = Result<(), Error>> + Send;
}

/// One reconcile: whose it is, and what it works with.
pub struct Work<'a> {
    /// The program's.
    pub ctx: &'a Context,
    /// The object, as its children see it.
    pub owner: Owner,
    /// Writes children.
    pub applier: Applier<'a>,
    /// How children show whose they are.
    pub tie: Tie,
    /// What events are about.
    pub about: ObjectReference,
    references: &'a References,
}

impl<'a> Work<'a> {
    fn new<K: Kind>(object: &Guarded<K>, ctx: &'a Context) -> Option<Self> {
        let owner = Owner::of(object)?;
        Some(Self {
            ctx,
            applier: Applier {
                manager: K::MANAGER,
                written: &ctx.written,
                metrics: &ctx.metrics,
            },
            tie: Tie::Controller(owner.reference.clone()),
            owner,
            about: object.object_ref(&()),
            references: K::references(ctx),
        })
    }

    /// Children and what is referred to in the object's own namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.ctx.client.clone(), &self.owner.namespace)
    }

    /// Notes what the object refers to, before it is read.
    pub fn refers_to(&self, targets: impl IntoIterator<Item = Target>) {
        let key = (self.owner.namespace.clone(), self.owner.name.clone());
        self.references.set(&key, targets.into_iter().collect());
    }
}

/// What children are watched by.
pub fn children() -> watcher::Config {
    watcher::Config::default().labels(&format!("app.kubernetes.io/managed-by={MANAGED_BY}"))
}

/// Watches the metadata of what objects of kind `K` refer to.
pub fn watch_references<K, R>(
    controller: Controller<Guarded<K>>,
    api: Api<PartialObjectMeta<R>>,
    kind: references::Kind,
    ctx: &Arc<Context>,
) -> Controller<Guarded<K>>
where
    K: Kind,
    R: Resource<DynamicType = ()> + Clone + Debug + Send + 'static,
{
    let ctx = Arc::clone(ctx);
    controller.watches(api, watcher::Config::default(), move |target| {
        referrers::<K>(&ctx, kind, key_of(&target))
    })
}

/// The objects of kind `K` that refer to something.
pub fn referrers<K: Kind>(
    ctx: &Context,
    kind: references::Kind,
    key: Key,
) -> Vec<ObjectRef<Guarded<K>>> {
    let found = K::references(ctx).referrers(&(kind, key));
    let refer = |(namespace, name): Key| ObjectRef::new(&name).within(&namespace);
    found.into_iter().map(refer).collect()
}

/// Runs the controller of `K` until `stop`; what is being worked on then is finished.
pub async fn run<K: Kind>(ctx: Arc<Context>, stop: CancellationToken) {
    let config = controller::Config::default().concurrency(ctx.config.concurrency);
    let controller = Controller::new(ctx.watched::<Guarded<K>>(), watcher::Config::default());
    K::watch(controller, &ctx)
        .with_config(config)
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(reconcile::<K>, retry::<K>, Arc::clone(&ctx))
        .for_each(|result| async {
            match result {
                // Reconciles log their own failures.
                Ok(_) | Err(controller::Error::ReconcilerFailed(..)) => {}
                Err(controller::Error::ObjectNotFound(gone)) => {
                    let key = (gone.namespace.unwrap_or_default(), gone.name);
                    ctx.metrics
                        .object(K::KIND, key.0.clone() + "/" + &key.1, None);
                    ctx.backoff.succeeded(&(K::KIND, key));
                }
                Err(error) => {
                    tracing::warn!(kind = K::KIND, %error, "watch failed; it is started again");
                }
            }
        })
        .await;
}

/// The namespace and name of an object.
pub fn key_of(object: &impl Resource) -> Key {
    let meta = object.meta();
    (
        meta.namespace.clone().unwrap_or_default(),
        meta.name.clone().unwrap_or_default(),
    )
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that kube asks for"
)]
fn retry<K: Kind>(object: Arc<Guarded<K>>, error: &Error, ctx: Arc<Context>) -> Action {
    let (namespace, name) = key_of(&*object);
    let wait = ctx.backoff.failed(
        (K::KIND, (namespace.clone(), name.clone())),
        crate::random::jitter(),
    );
    tracing::warn!(
        kind = K::KIND,
        namespace,
        name,
        reason = error.reason(),
        %error,
        retry_seconds = wait.as_secs(),
        "the reconcile failed; it is tried again"
    );
    Action::requeue(wait)
}

/// One reconcile, counted and under its deadline. [`retry`] logs why it failed.
#[tracing::instrument(skip_all, fields(
    kind = K::KIND,
    namespace = object.meta().namespace.as_deref(),
    name = object.meta().name.as_deref(),
    outcome = tracing::field::Empty,
))]
async fn reconcile<K: Kind>(object: Arc<Guarded<K>>, ctx: Arc<Context>) -> Result<Action, Error> {
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

async fn step<K: Kind>(guarded: &Guarded<K>, ctx: &Context) -> Result<Action, Error> {
    let Some(work) = Work::new(guarded, ctx) else {
        return Ok(Action::await_change());
    };
    if guarded.meta().deletion_timestamp.is_some() {
        return finalize(guarded, &work).await;
    }
    let object = match &guarded.0 {
        Ok(object) => object,
        Err(invalid) => return unparsable(guarded, &invalid.error, ctx).await,
    };
    if !add_finalizer(guarded, &work).await? {
        return Ok(Action::await_change());
    }
    let mut found = match object.sync(&work).await {
        Ok(found) => found,
        Err(Error::Problem(problem)) => Found::problem(problem),
        Err(other) => return Err(other),
    };
    K::complete(&work, &mut found).await?;
    let since = report::<K>(ctx, object, &found).await?;
    next_action(ctx, &found, since)
}

/// When to look at an object again, which is in its state since `since`.
fn next_action(ctx: &Context, found: &Found, since: Option<Timestamp>) -> Result<Action, Error> {
    if let Some(failed) = found.problems.iter().find(|p| p.retry == Retry::Backoff) {
        return Err(failed.clone().into());
    }
    if found.problems.is_empty() {
        // What became ready together does not come back together.
        let spread = 0.9 + 0.2 * crate::random::jitter();
        let resync = ctx.config.resync(found.forgotten);
        return Ok(Action::requeue(resync.mul_f64(spread)));
    }
    let now = ctx.now();
    Ok(Action::requeue(soon(
        since.map_or(SignedDuration::ZERO, |since| now.duration_since(since)),
    )))
}

/// An object of a shape that this version does not know: an event and a condition, and it waits for its
/// next change. It keeps what it has. It is looked at again so that its metrics go when it is gone.
async fn unparsable<K: Kind>(
    guarded: &Guarded<K>,
    why: &str,
    ctx: &Context,
) -> Result<Action, Error> {
    let message = format!(
        "this version of the operator cannot read the object: {why}; mend it with kubectl edit"
    );
    let found = Found::problem(Problem::person(reasons::INVALID_SPEC, message));
    match report::<K>(ctx, guarded, &found).await {
        // What does not parse may not pass validation either.
        Err(Error::Api(error)) if is_code(&error, 422) => {
            ctx.events
                .warning(
                    &guarded.object_ref(&()),
                    reasons::INVALID_SPEC,
                    &found.problems[0].message,
                )
                .await;
        }
        other => drop(other?),
    }
    Ok(Action::requeue(ctx.config.resync(false)))
}

/// The objects of `K` as they are stored, also those that do not parse.
fn stored<K: Kind>(ctx: &Context, namespace: &str) -> Api<DynamicObject> {
    let kind = ApiResource::erase::<K>(&());
    Api::namespaced_with(ctx.client.clone(), namespace, &kind)
}

/// Writes the status that follows from `found`, if it differs, and tells a change of Ready by an event.
/// Gives the time since which Ready is what it is.
async fn report<K: Kind>(
    ctx: &Context,
    object: &impl Resource<DynamicType = ()>,
    found: &Found,
) -> Result<Option<Timestamp>, Error> {
    let (namespace, name) = key_of(object);
    let api = stored::<K>(ctx, &namespace);
    // The cache may not have what was written last, and times must not move twice.
    let Some(live) = api.get_opt(&name).await? else {
        return Ok(None);
    };
    if live.metadata.uid != object.meta().uid {
        return Ok(None);
    }
    ctx.metrics.object(
        K::KIND,
        format!("{namespace}/{name}"),
        Some(found.problems.is_empty()),
    );
    let before = live.data.get("status").unwrap_or(&Value::Null);
    // What was found is about the spec that was read, not the one that may be there by now.
    let generation = object.meta().generation;
    let Some(next) = status::next(before, found, generation, ctx.now()) else {
        return Ok(since(before));
    };
    let patch = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": { "name": name, "namespace": namespace, "uid": live.metadata.uid },
        "status": next,
    });
    ctx.metrics.write(K::MANAGER, "status");
    api.patch_status(
        &name,
        &PatchParams::apply(K::MANAGER).force(),
        &Patch::Apply(patch),
    )
    .await?;
    announce(ctx, &object.object_ref(&()), before, &next, found).await;
    Ok(since(&next))
}

fn since(status: &Value) -> Option<Timestamp> {
    let ready = status::conditions(status)
        .into_iter()
        .find(|c| c.type_ == types::READY)?;
    Some(ready.last_transition_time.0)
}

/// An event when Ready has another status or reason than before.
async fn announce(
    ctx: &Context,
    about: &ObjectReference,
    before: &Value,
    after: &Value,
    found: &Found,
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
    match found.problems.first() {
        Some(problem) if problem.retry == Retry::Backoff => {
            ctx.events.warning(about, &reason, &message).await;
        }
        _ => ctx.events.normal(about, &reason, &message).await,
    }
}

/// Gives whether the object is still there: else nothing may be made for it, since nothing would take it away
/// again.
async fn add_finalizer<K: Kind>(object: &Guarded<K>, work: &Work<'_>) -> Result<bool, Error> {
    if object.finalizers().iter().any(|f| f == K::FINALIZER) {
        return Ok(true);
    }
    let finalizers: Vec<&str> = object
        .finalizers()
        .iter()
        .map(String::as_str)
        .chain([K::FINALIZER])
        .collect();
    set_finalizers(object, work, &finalizers).await
}

/// The version guards the write: the list replaces the whole list. Gives whether the object is still there.
async fn set_finalizers<K: Kind>(
    object: &Guarded<K>,
    work: &Work<'_>,
    finalizers: &[&str],
) -> Result<bool, Error> {
    let patch = json!({ "metadata": {
        "finalizers": finalizers,
        "resourceVersion": object.resource_version(),
    }});
    work.ctx.metrics.write(K::MANAGER, "finalizer");
    let params = PatchParams {
        field_manager: Some(K::MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let api: Api<K> = work.api();
    match api
        .patch_metadata(&object.name_any(), &params, &Patch::Merge(patch))
        .await
    {
        Ok(_) => Ok(true),
        Err(error) if is_code(&error, 404) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn finalize<K: Kind>(object: &Guarded<K>, work: &Work<'_>) -> Result<Action, Error> {
    let (namespace, name) = key_of(object);
    if object.finalizers().iter().any(|f| f == K::FINALIZER) {
        if let Err(error) = cleanup(object, work).await {
            let Error::Problem(problem) = error else {
                return Err(error);
            };
            let found = Found::problem(problem);
            report::<K>(work.ctx, object, &found).await?;
            return next_action(work.ctx, &found, deleted_at(object));
        }
        let others: Vec<&str> = object
            .finalizers()
            .iter()
            .map(String::as_str)
            .filter(|f| *f != K::FINALIZER)
            .collect();
        set_finalizers(object, work, &others).await?;
    }
    work.refers_to([]);
    work.ctx.written.forget(&work.owner.reference.uid);
    work.ctx
        .metrics
        .object(K::KIND, format!("{namespace}/{name}"), None);
    Ok(Action::await_change())
}

async fn cleanup<K: Kind>(object: &Guarded<K>, work: &Work<'_>) -> Result<(), Error> {
    let api = stored::<K>(work.ctx, &work.owner.namespace);
    match api.get_opt(&work.owner.name).await? {
        Some(raw) if raw.metadata.uid == object.meta().uid => K::cleanup(&raw, work).await,
        _ => Ok(()),
    }
}

/// Since when an object is being deleted.
pub fn deleted_at(object: &impl ResourceExt) -> Option<Timestamp> {
    object.meta().deletion_timestamp.as_ref().map(|time| time.0)
}
