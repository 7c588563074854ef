//! Whether pods change because of the operator alone: a new version of it, with other default images, or other flags.
//! Pure.
//!
//! Each workload carries two marks: a hash of what people change about its pods, and one of its template without the
//! images that are defaults. If the first stays and the second or an image changes, the operator is the cause.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Container, PodTemplateSpec};
use kube::ResourceExt as _;

use crate::desired::hash;
use crate::framework::apply::Object;
use crate::pods::{Rollout, is_settled};

/// The annotation with the hash of what people changed, when the template last changed: the spec, the values of Secrets and
/// ConfigMaps.
pub const CAUSE: &str = "mcpauth.io/cause-hash";
/// The annotation with the hash of the template without default images.
pub const TEMPLATE: &str = "mcpauth.io/template-hash";

/// A kind that has pods.
pub trait Workload: Object {
    /// The template of its pods.
    fn template(&self) -> Option<&PodTemplateSpec>;
    /// The same, to change it.
    fn template_mut(&mut self) -> Option<&mut PodTemplateSpec>;
    /// Whether no rollout is under way: the last one is complete, or has taken too long.
    fn is_settled(&self) -> bool;
}

impl Workload for Deployment {
    fn template(&self) -> Option<&PodTemplateSpec> {
        Some(&self.spec.as_ref()?.template)
    }

    fn template_mut(&mut self) -> Option<&mut PodTemplateSpec> {
        Some(&mut self.spec.as_mut()?.template)
    }

    fn is_settled(&self) -> bool {
        is_settled(self)
    }
}

impl Workload for StatefulSet {
    fn template(&self) -> Option<&PodTemplateSpec> {
        Some(&self.spec.as_ref()?.template)
    }

    fn template_mut(&mut self) -> Option<&mut PodTemplateSpec> {
        Some(&mut self.spec.as_mut()?.template)
    }

    fn is_settled(&self) -> bool {
        Rollout::of_stateful_set(self).is_complete()
    }
}

/// Puts the marks on a workload that was built. `cause` is the hash of what people change, `defaults` are the default
/// images.
pub fn mark(workload: &mut impl Workload, cause: String, defaults: &[&str]) {
    let mut template = workload.template().cloned().unwrap_or_default();
    for container in default_containers(&mut template, defaults) {
        container.image = None;
    }
    let text = serde_json::to_vec(&template).unwrap_or_default();
    let marks = [(CAUSE, cause), (TEMPLATE, hash([text.as_slice()]))];
    for (key, value) in marks {
        workload.annotations_mut().insert(key.to_owned(), value);
    }
}

/// Keeps the mark of the cause where the template stays: every changed annotation of a Deployment begins a generation, and
/// its pods would not be ready until the Deployment controller has seen it.
pub fn keep_cause<W: Workload>(live: &W, desired: &mut W) {
    let before = live.annotations();
    if before.get(TEMPLATE) != desired.annotations().get(TEMPLATE) {
        return;
    }
    if let Some(cause) = before.get(CAUSE) {
        let cause = cause.clone();
        desired.annotations_mut().insert(CAUSE.to_owned(), cause);
    }
}

/// What is applied while an upgrade waits.
#[derive(Clone, Debug, PartialEq)]
pub enum Instead<W> {
    /// What is desired, with the default images that run.
    RunningImages(Box<W>),
    /// Nothing: what is there.
    AsItIs(Box<W>),
}

/// What to apply instead of `desired` for as long as the upgrade waits; `None` when `live` has nothing to wait for,
/// because people changed it, or nothing changed. Both are marked, unless `live` is of a version that did not mark.
pub fn instead<W: Workload>(live: &W, desired: &W, defaults: &[&str]) -> Option<Instead<W>> {
    let same = |key: &str| live.annotations().get(key) == desired.annotations().get(key);
    if !live.annotations().contains_key(TEMPLATE) {
        return None;
    }
    if !same(TEMPLATE) {
        return same(CAUSE).then(|| Instead::AsItIs(Box::new(live.clone())));
    }
    let mut waiting = desired.clone();
    let template = waiting.template_mut()?;
    let mut differs = false;
    for container in default_containers(template, defaults) {
        let running = image_of(live.template()?, &container.name)?;
        differs |= container.image.as_deref() != Some(running);
        container.image = Some(running.to_owned());
    }
    differs.then(|| Instead::RunningImages(Box::new(waiting)))
}

/// The containers whose image is a default.
fn default_containers<'a>(
    template: &'a mut PodTemplateSpec,
    defaults: &[&str],
) -> impl Iterator<Item = &'a mut Container> {
    let pod = template.spec.iter_mut();
    let containers = pod.flat_map(|pod| {
        let init = pod.init_containers.iter_mut().flatten();
        init.chain(&mut pod.containers)
    });
    containers.filter(move |container| {
        let image = container.image.as_deref();
        image.is_some_and(|image| defaults.contains(&image))
    })
}

fn image_of<'a>(template: &'a PodTemplateSpec, container: &str) -> Option<&'a str> {
    let pod = template.spec.as_ref()?;
    let init = pod.init_containers.iter().flatten();
    let mut containers = init.chain(&pod.containers);
    let found = containers.find(|found| found.name == container)?;
    found.image.as_deref()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(proxy: &str, server: &str, argument: &str) -> Deployment {
        serde_json::from_value(json!({
            "metadata": { "name": "d" },
            "spec": { "replicas": 1, "selector": {}, "template": { "spec": {
                "initContainers": [{ "name": "proxy", "image": proxy, "args": [argument] }],
                "containers": [{ "name": "server", "image": server }],
            }}},
        }))
        .unwrap()
    }

    fn marked(mut deployment: Deployment, cause: &str, default: &str) -> Deployment {
        mark(&mut deployment, cause.to_owned(), &[default]);
        deployment
    }

    #[test]
    fn a_new_default_image_waits_with_the_one_that_runs() {
        let live = marked(deployment("proxy:1", "notes:1", "a"), "1", "proxy:1");
        let mut scaled = deployment("proxy:2", "notes:1", "a");
        scaled.spec.as_mut().unwrap().replicas = Some(7);
        let desired = marked(scaled, "2", "proxy:2");
        let Some(Instead::RunningImages(waiting)) = instead(&live, &desired, &["proxy:2"]) else {
            panic!("does not wait");
        };
        assert_eq!(
            image_of(waiting.template().unwrap(), "proxy"),
            Some("proxy:1")
        );
        assert_eq!(
            waiting.spec.unwrap().replicas,
            Some(7),
            "what else changed is applied"
        );
    }

    #[test]
    fn a_change_that_does_not_reach_the_pods_leaves_the_marks_alone() {
        let live = marked(deployment("proxy:1", "notes:1", "a"), "1", "proxy:1");
        let mut same = marked(deployment("proxy:1", "notes:1", "a"), "2", "proxy:1");
        keep_cause(&live, &mut same);
        assert_eq!(same, live);
        let mut other = marked(deployment("proxy:1", "notes:1", "b"), "2", "proxy:1");
        keep_cause(&live, &mut other);
        assert_eq!(other.annotations()[CAUSE], "2");
    }

    #[test]
    fn another_rendering_for_the_same_spec_waits_as_it_is() {
        let live = marked(deployment("proxy:1", "notes:1", "a"), "1", "proxy:1");
        let desired = marked(deployment("proxy:2", "notes:1", "b"), "1", "proxy:2");
        let expected = Instead::AsItIs(Box::new(live.clone()));
        assert_eq!(instead(&live, &desired, &["proxy:2"]), Some(expected));
    }

    #[test]
    fn what_people_change_never_waits() {
        let live = marked(deployment("proxy:1", "notes:1", "a"), "1", "proxy:1");
        for (desired, what) in [
            (deployment("proxy:1", "notes:1", "a"), "nothing changed"),
            (deployment("proxy:2", "notes:2", "a"), "the server's image"),
            (
                deployment("pinned:7", "notes:1", "a"),
                "an image of the spec",
            ),
            (
                deployment("proxy:2", "notes:1", "b"),
                "a field that reaches the pods",
            ),
        ] {
            let desired = marked(desired, "2", "proxy:2");
            let live = match what {
                "nothing changed" => &desired,
                _ => &live,
            };
            assert_eq!(instead(live, &desired, &["proxy:2"]), None, "{what}");
        }
        let unmarked = deployment("proxy:1", "notes:1", "a");
        let desired = marked(deployment("proxy:2", "notes:1", "a"), "1", "proxy:2");
        assert_eq!(instead(&unmarked, &desired, &["proxy:2"]), None);
    }
}
