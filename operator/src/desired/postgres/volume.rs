//! The claim of the managed database's volume. It lives as long as the data, so it says which PostgreSQL wrote them.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use mcpauth_api::pod as api;
use serde_json::{Value, json};

use super::PREPARE_CONTAINER;
use super::major::{self, Running};
use crate::desired::labels::Owner;
use crate::desired::names;

/// Annotation of the claim with the major version of PostgreSQL that wrote the data.
pub const MAJOR: &str = "mcpauth.io/postgres-major";
/// Annotation of the claim with the image that ran last.
pub const IMAGE: &str = "mcpauth.io/postgres-image";

/// A claim.
#[derive(Clone, Copy, Debug)]
pub struct Volume<'a>(&'a PersistentVolumeClaim);

impl<'a> Volume<'a> {
    /// The volume of a claim.
    #[must_use]
    pub fn of(claim: &'a PersistentVolumeClaim) -> Self {
        Self(claim)
    }

    /// What ran on it, as its claim says.
    #[must_use]
    pub fn recorded(self) -> Option<Running> {
        let annotations = self.0.metadata.annotations.as_ref()?;
        Some(Running {
            image: annotations.get(IMAGE)?.clone(),
            major: annotations.get(MAJOR)?.parse().ok()?,
        })
    }

    fn size(self) -> Option<&'a str> {
        let resources = self.0.spec.as_ref()?.resources.as_ref()?;
        Some(resources.requests.as_ref()?.get("storage")?.0.as_str())
    }

    /// Why the volume does not get the size `wanted`, if that is less than it has.
    #[must_use]
    pub fn cannot_shrink(self, wanted: &str) -> Option<String> {
        let size = self.size().filter(|size| is_less(wanted, size))?;
        Some(format!(
            "storage.postgres.managed.size: {wanted} is less than the volume has, and a volume cannot shrink: set it to \
             {size} or more"
        ))
    }

    /// The fields of the claim to write for the size `wanted` and what ran on it, if they differ. All are written
    /// together: what is not written again is taken away.
    #[must_use]
    pub fn changes(self, wanted: &str, ran: Option<Running>) -> Option<Value> {
        let size = self.size()?;
        let grows = is_less(size, wanted);
        let recorded = self.recorded();
        if !grows && (ran.is_none() || ran == recorded) {
            return None;
        }
        let mut fields = json!({ "metadata": {}, "spec": { "resources": { "requests": {} } } });
        let size = if grows { wanted } else { size };
        fields["spec"]["resources"]["requests"]["storage"] = size.into();
        if let Some(Running { image, major }) = ran.or(recorded) {
            let annotations = json!({ IMAGE: image, MAJOR: major.to_string() });
            fields["metadata"]["annotations"] = annotations;
        }
        Some(fields)
    }
}

fn is_less(one: &str, other: &str) -> bool {
    let value = |text: &str| api::Quantity(text.to_owned()).value();
    value(one) < value(other)
}

/// What runs or ran on the volume: as the claim says, or else as the StatefulSet's image does. Without a volume, what
/// the StatefulSet runs does not matter.
#[must_use]
pub fn running(
    claim: Option<&PersistentVolumeClaim>,
    set: Option<&StatefulSet>,
) -> Option<Running> {
    let recorded = Volume::of(claim?).recorded();
    let live = set.and_then(image).and_then(|image| {
        let major = major::of_image(&image)?;
        Some(Running { image, major })
    });
    match (recorded, live) {
        // It may be newer than what is recorded, and going back to that would be a change for nothing.
        (Some(recorded), Some(live)) if live.major == recorded.major => Some(live),
        (Some(recorded), _) => Some(recorded),
        (None, live) => live,
    }
}

/// What a pod says that it runs: its first container ends with the major version.
#[must_use]
pub fn ran_in(pod: &Pod) -> Option<Running> {
    let statuses = pod.status.as_ref()?.init_container_statuses.as_ref()?;
    let mut statuses = statuses.iter();
    let status = statuses.find(|status| status.name == PREPARE_CONTAINER)?;
    let ended = status.state.as_ref()?.terminated.as_ref()?;
    let containers = pod.spec.as_ref()?.init_containers.as_ref()?;
    let mut containers = containers.iter();
    let container = containers.find(|container| container.name == PREPARE_CONTAINER)?;
    Some(Running {
        image: container.image.clone()?,
        major: ended.message.as_ref()?.trim().parse().ok()?,
    })
}

/// The image of a StatefulSet.
#[must_use]
pub fn image(set: &StatefulSet) -> Option<String> {
    let pod = set.spec.as_ref()?.template.spec.as_ref()?;
    pod.containers.first()?.image.clone()
}

/// The size in the template of a StatefulSet's claims.
#[must_use]
pub fn template_size(set: &StatefulSet) -> Option<Quantity> {
    let claims = set.spec.as_ref()?.volume_claim_templates.as_ref()?;
    let resources = claims.first()?.spec.as_ref()?.resources.as_ref()?;
    resources.requests.as_ref()?.get("storage").cloned()
}

/// What stays when the spec no longer has a managed database.
#[must_use]
pub fn left_behind(owner: &Owner) -> String {
    let (set, claim) = (
        names::postgres(&owner.name),
        names::postgres_claim(&owner.name),
    );
    let namespace = &owner.namespace;
    format!(
        "spec.storage no longer uses the managed PostgreSQL. StatefulSet {set} and its volume {claim} are kept with all \
         clients and tokens; to use them again, set spec.storage.postgres.managed. To delete them for good: kubectl -n \
         {namespace} delete statefulset,service,networkpolicy,secret {set} --ignore-not-found; kubectl -n {namespace} \
         delete pvc {claim}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(size: &str, recorded: Option<(&str, &str)>) -> PersistentVolumeClaim {
        let annotations = recorded.map(|(image, major)| json!({ IMAGE: image, MAJOR: major }));
        serde_json::from_value(json!({
            "metadata": { "annotations": annotations },
            "spec": { "resources": { "requests": { "storage": size } } },
        }))
        .unwrap()
    }

    fn ran(image: &str) -> Option<Running> {
        let image = image.to_owned();
        Some(Running { image, major: 15 })
    }

    #[test]
    fn a_claim_is_written_only_when_something_changes_and_then_all_of_it() {
        let claim = claim("1Gi", Some(("postgres:15", "15")));
        let volume = Volume::of(&claim);
        assert_eq!(volume.changes("1Gi", None), None);
        assert_eq!(volume.changes("1024Mi", ran("postgres:15")), None);
        assert_eq!(volume.changes("1Mi", None), None);
        let body = |image: &str, size: &str| {
            json!({
                "metadata": { "annotations": { IMAGE: image, MAJOR: "15" } },
                "spec": { "resources": { "requests": { "storage": size } } },
            })
        };
        assert_eq!(
            volume.changes("2Gi", None),
            Some(body("postgres:15", "2Gi"))
        );
        let newer = ran("postgres:15.9");
        assert_eq!(
            volume.changes("1Gi", newer),
            Some(body("postgres:15.9", "1Gi"))
        );
    }

    #[test]
    fn a_volume_cannot_shrink() {
        let claim = claim("2Gi", None);
        let volume = Volume::of(&claim);
        assert_eq!(volume.cannot_shrink("2048Mi"), None);
        assert_eq!(volume.cannot_shrink("3Gi"), None);
        let text = volume.cannot_shrink("1Gi").unwrap();
        assert!(text.ends_with("set it to 2Gi or more"), "{text}");
    }

    #[test]
    fn the_claim_says_what_ran_before_the_stateful_set_does() {
        let set: StatefulSet = serde_json::from_value(json!({ "spec": {
            "selector": {}, "serviceName": "db",
            "template": { "spec": { "containers": [{ "name": "postgres", "image": "postgres:17" }] } },
        }}))
        .unwrap();
        let recorded = claim("1Gi", Some(("postgres:15", "15")));
        let unknown = claim("1Gi", None);
        let major = |claim, set| running(claim, set).map(|running| running.major);
        assert_eq!(major(Some(&recorded), Some(&set)), Some(15));
        assert_eq!(major(Some(&unknown), Some(&set)), Some(17));
        let newer = claim("1Gi", Some(("postgres:17.1", "17")));
        let kept = running(Some(&newer), Some(&set)).unwrap();
        assert_eq!(kept.image, "postgres:17");
        assert_eq!(major(Some(&unknown), None), None);
        assert_eq!(major(None, Some(&set)), None);
    }

    #[test]
    fn a_pod_says_what_it_runs_once_it_is_prepared() {
        let pod = |state: Value| -> Pod {
            let image = "postgres@sha256:0";
            serde_json::from_value(json!({
                "spec": {
                    "initContainers": [{ "name": "prepare", "image": image }],
                    "containers": [{ "name": "postgres", "image": image }],
                },
                "status": { "initContainerStatuses": [{
                    "name": "prepare", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": state,
                }] },
            }))
            .unwrap()
        };
        let done = json!({ "terminated": { "exitCode": 0, "message": "15\n" } });
        assert_eq!(ran_in(&pod(done)), ran("postgres@sha256:0"));
        let failed = json!({ "terminated": { "exitCode": 1, "message": "the volume holds" } });
        assert_eq!(ran_in(&pod(failed)), None);
        assert_eq!(ran_in(&pod(json!({ "running": {} }))), None);
    }
}
