//! The Secrets and ConfigMaps that a pod's containers get environment variables from. A running process never sees
//! a change, so the pods are replaced.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, PodTemplateSpec};

/// Annotation of pods with a hash over the values that their environment comes from.
pub const ENVIRONMENT_HASH: &str = "mcpauth.io/environment-hash";

/// The kind of an object that contains values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SourceKind {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
}

/// The keys that are used, by object; none when all of them are.
pub type Sources = BTreeMap<(SourceKind, String), Option<BTreeSet<String>>>;

/// Where the environment of a Deployment's pods comes from.
#[must_use]
pub fn sources(deployment: &Deployment) -> Sources {
    let pod = deployment
        .spec
        .as_ref()
        .and_then(|s| s.template.spec.as_ref());
    let mut sources = Sources::new();
    let containers = pod.into_iter().flat_map(|pod| {
        let init = pod.init_containers.iter().flatten();
        init.chain(&pod.containers)
    });
    for container in containers {
        single_keys(container, &mut sources);
        whole_objects(container, &mut sources);
    }
    sources
}

fn single_keys(container: &Container, sources: &mut Sources) {
    let variables = container.env.iter().flatten();
    for source in variables.filter_map(|variable| variable.value_from.as_ref()) {
        let secret = source.secret_key_ref.as_ref();
        let secret = secret.map(|s| (SourceKind::Secret, &s.name, &s.key));
        let config = source.config_map_key_ref.as_ref();
        let config = config.map(|c| (SourceKind::ConfigMap, &c.name, &c.key));
        for (kind, name, key) in secret.into_iter().chain(config) {
            let keys = sources
                .entry((kind, name.clone()))
                .or_insert_with(|| Some(BTreeSet::new()));
            if let Some(keys) = keys {
                keys.insert(key.clone());
            }
        }
    }
}

fn whole_objects(container: &Container, sources: &mut Sources) {
    for source in container.env_from.iter().flatten() {
        let secret = source
            .secret_ref
            .as_ref()
            .map(|s| (SourceKind::Secret, &s.name));
        let config = source.config_map_ref.as_ref();
        let config = config.map(|c| (SourceKind::ConfigMap, &c.name));
        for (kind, name) in secret.into_iter().chain(config) {
            sources.insert((kind, name.clone()), None);
        }
    }
}

/// Puts the hash on the pods of a Deployment.
pub fn put_hash(deployment: &mut Deployment, hash: String) {
    annotate(deployment, ENVIRONMENT_HASH, hash);
}

/// Annotates the pods of a Deployment, so that they are replaced when this hash changes.
pub fn annotate(deployment: &mut Deployment, annotation: &str, hash: String) {
    let PodTemplateSpec { metadata, .. } = &mut deployment.spec.get_or_insert_default().template;
    let annotations = &mut metadata.get_or_insert_default().annotations;
    annotations
        .get_or_insert_default()
        .insert(annotation.to_owned(), hash);
}

/// The hash on the pods of a Deployment.
#[must_use]
pub fn hash_of(deployment: &Deployment) -> Option<&str> {
    let metadata = deployment.spec.as_ref()?.template.metadata.as_ref()?;
    let annotations = metadata.annotations.as_ref()?;
    annotations.get(ENVIRONMENT_HASH).map(String::as_str)
}
