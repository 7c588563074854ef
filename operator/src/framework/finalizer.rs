//! The finalizer of an object: added, together with the claim, before anything is made for it that is not garbage-collected
//! with it; removed once everything is cleaned up.

use kube::api::{DynamicObject, Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::{Api, Resource, ResourceExt};
use serde_json::{Value, json};

use crate::framework::apply::is_code;
use crate::framework::error::Error;
use crate::framework::guarded::Guarded;
use crate::framework::installation::CLAIM;
use crate::framework::reconciler::{Reconcile, ReconcileContext, deleted_at, key_of, stored};
use crate::framework::report::{next_action, report};
use crate::framework::status::Observed;

/// Whether the object has the finalizer of its controller.
pub fn has_finalizer<K: Reconcile>(object: &Guarded<K>) -> bool {
    object.finalizers().iter().any(|f| f == K::FINALIZER)
}

/// Writes the claim, if there is one to write, and adds the finalizer, if it is wanted and missing; nothing when that is
/// nothing. Returns whether the object still exists: if not, nothing may be created for it, because nothing would clean
/// it up.
///
/// # Errors
/// The API server rejects the request, also because the object was changed since it was read.
pub async fn write_claim<K: Reconcile>(
    object: &Guarded<K>,
    context: &ReconcileContext<'_>,
    claim: Option<&str>,
    finalizer: bool,
) -> Result<bool, Error> {
    let mut metadata = json!({});
    if let Some(claim) = claim {
        metadata["annotations"] = json!({ CLAIM: claim });
    }
    if finalizer && !has_finalizer(object) {
        let others = object.finalizers().iter().map(String::as_str);
        metadata["finalizers"] = others.chain([K::FINALIZER]).collect();
    }
    match metadata == json!({}) {
        true => Ok(true),
        false => write_metadata(object, context, metadata).await,
    }
}

/// Changes the metadata, if the object was not changed since it was read. Returns whether the object still exists.
async fn write_metadata<K: Reconcile>(
    object: &Guarded<K>,
    context: &ReconcileContext<'_>,
    mut metadata: Value,
) -> Result<bool, Error> {
    metadata["resourceVersion"] = object.resource_version().into();
    let patch = json!({ "metadata": metadata });
    context.program.metrics.write(K::MANAGER, "finalizer");
    let params = PatchParams {
        field_manager: Some(K::MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let api: Api<K> = context.api();
    match api
        .patch_metadata(&object.name_any(), &params, &Patch::Merge(patch))
        .await
    {
        Ok(_) => Ok(true),
        Err(error) if is_code(&error, 404) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Handles an object that is being deleted: cleans up what is not garbage-collected, then removes the finalizer. A
/// problem stops this, and is reported.
///
/// # Errors
/// The API server rejects a request, or does not respond.
pub async fn finalize<K: Reconcile>(
    object: &Guarded<K>,
    context: &ReconcileContext<'_>,
) -> Result<Action, Error> {
    let (namespace, name) = key_of(object);
    if has_finalizer(object) {
        if let Err(error) = cleanup(object, context).await {
            let Error::Problem(problem) = error else {
                return Err(error);
            };
            let observed = Observed::problem(problem);
            report::<K>(context.program, object, &observed).await?;
            return next_action(context.program, &observed, deleted_at(object));
        }
        let others: Vec<&str> = object
            .finalizers()
            .iter()
            .map(String::as_str)
            .filter(|f| *f != K::FINALIZER)
            .collect();
        write_metadata(object, context, json!({ "finalizers": others })).await?;
    }
    context.refers_to([]);
    context.program.written.forget(&context.owner.reference.uid);
    context.program.forget(K::KIND, &namespace, &name);
    Ok(Action::await_change())
}

async fn cleanup<K: Reconcile>(
    object: &Guarded<K>,
    context: &ReconcileContext<'_>,
) -> Result<(), Error> {
    match raw(object, context).await? {
        Some(raw) => K::cleanup(&raw, context).await,
        None => Ok(()),
    }
}

/// As [`Reconcile::withdraw`], for an object that is not reconciled any further.
///
/// # Errors
/// The API server rejects a request, or does not respond; or the authorization server.
pub async fn withdraw<K: Reconcile>(
    object: &Guarded<K>,
    context: &ReconcileContext<'_>,
) -> Result<(), Error> {
    match raw(object, context).await? {
        Some(raw) => K::withdraw(&raw, context).await,
        None => Ok(()),
    }
}

/// The object as it is stored, unless it is gone.
async fn raw<K: Reconcile>(
    object: &Guarded<K>,
    context: &ReconcileContext<'_>,
) -> Result<Option<DynamicObject>, Error> {
    let api = stored::<K>(context.program, &context.owner.namespace);
    let found = api.get_opt(&context.owner.name).await?;
    Ok(found.filter(|raw| raw.metadata.uid == object.meta().uid))
}
