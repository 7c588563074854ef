//! Objects that a person has paused: the annotation [`PAUSED`] stops everything but their deletion.

use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Resource, ResourceExt};
use mcpauth_api::conditions::{reasons, types};
use serde_json::{Value, json};

use crate::framework::context::Context;
use crate::framework::error::Error;
use crate::framework::reconciler::{Reconcile, key_of, stored};
use crate::framework::status::{Condition, conditions, with_condition};

/// The annotation of a paused object. Its value does not matter, unless it is `false`.
pub const PAUSED: &str = "mcpauth.io/paused";

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
    let Some(status) = paused(&before, object.meta().generation, ctx.now()) else {
        return Ok(());
    };
    let patch = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": { "name": name, "namespace": namespace, "uid": live.metadata.uid },
        "status": status,
    });
    ctx.metrics.write(K::MANAGER, "status");
    let params = PatchParams::apply(K::MANAGER).force();
    api.patch_status(&name, &params, &Patch::Apply(patch))
        .await?;
    let about = object.object_ref(&());
    ctx.events.normal(&about, reasons::PAUSED, &message()).await;
    Ok(())
}

fn message() -> String {
    format!(
        "the annotation {PAUSED} stops the operator from changing anything for this object; the other conditions are as they \
         were. Remove the annotation to continue"
    )
}

/// The status of a paused object; `None` when it says so already.
fn paused(before: &Value, generation: Option<i64>, now: Timestamp) -> Option<Value> {
    let condition = Condition::yes(types::PAUSED, reasons::PAUSED, message());
    with_condition(before, condition, generation, now)
}

/// That an object is no longer paused, if its status says that it is.
pub fn resumed(before: &Value) -> Option<Condition> {
    let stored = conditions(before).into_iter();
    let mut paused = stored.filter(|c| c.type_ == types::PAUSED && c.status == "True");
    paused.next().map(|_| Condition {
        type_: types::PAUSED,
        status: crate::framework::status::Status::False,
        reason: reasons::RESUMED,
        message: format!("the annotation {PAUSED} was removed"),
    })
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

    #[test]
    fn pausing_changes_nothing_else() {
        let now = Timestamp::UNIX_EPOCH;
        let ready = json!({ "observedGeneration": 1, "url": "http://a", "conditions": [{
            "type": "Ready", "status": "True", "reason": "Ready", "message": "", "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }] });
        let status = paused(&ready, Some(2), now).unwrap();
        assert_eq!(status["observedGeneration"], 1);
        assert_eq!(status["url"], "http://a");
        assert_eq!(status["conditions"][0], ready["conditions"][0]);
        assert_eq!(status["conditions"][1]["type"], "Paused");
        assert_eq!(paused(&status, Some(2), now), None);
        assert!(resumed(&status).is_some() && resumed(&ready).is_none());
    }
}
