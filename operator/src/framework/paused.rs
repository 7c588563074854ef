//! Objects that a person has paused: the annotation [`PAUSED`] stops everything but their deletion.

use kube::{Resource, ResourceExt};
use mcpauth_api::conditions::reasons;

use crate::framework::context::Context;
use crate::framework::error::Error;
use crate::framework::reconciler::{Reconcile, key_of, stored};
use crate::framework::report::write_status;
use crate::framework::status::{self, PAUSED};

/// Whether an object is paused.
pub fn is_paused(object: &impl ResourceExt) -> bool {
    let value = object.annotations().get(PAUSED);
    value.is_some_and(|value| value != "false")
}

/// Says in the status that an object is paused. Nothing else of the status changes, `observedGeneration` included.
///
/// # Errors
/// The API server rejects a request, or does not respond.
pub async fn report<K: Reconcile>(
    ctx: &Context,
    object: &impl Resource<DynamicType = ()>,
) -> Result<(), Error> {
    let (namespace, name) = key_of(object);
    let api = stored::<K>(ctx, &namespace);
    let Some(live) = api.get_opt(&name).await? else {
        return Ok(());
    };
    let before = live.data.get("status").cloned().unwrap_or_default();
    let Some(next) = status::paused(&before, object.meta().generation, ctx.now()) else {
        return Ok(());
    };
    if !write_status::<K>(ctx, object, &next).await? {
        return Ok(());
    }
    let about = object.object_ref(&());
    ctx.events
        .normal(&about, reasons::PAUSED, &status::paused_message());
    Ok(())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn annotated(value: Option<&str>) -> bool {
        let mut object = ConfigMap::default();
        if let Some(value) = value {
            object.annotations_mut().insert(PAUSED.into(), value.into());
        }
        is_paused(&object)
    }

    #[test]
    fn any_value_but_false_pauses() {
        assert!(annotated(Some("true")) && annotated(Some("")) && annotated(Some("until monday")));
        assert!(!annotated(Some("false")) && !annotated(None));
    }
}
