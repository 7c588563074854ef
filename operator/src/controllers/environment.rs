//! Replacing the pods whose environment comes from Secrets and ConfigMaps when these change.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::controller::Controller;

use crate::desired::environment::{self, SourceKind};
use crate::desired::hash;
use crate::framework::context::Scope;
use crate::framework::error::Error;
use crate::framework::guarded::Guarded;
use crate::framework::reconciler::{Reconcile, ReconcileContext, watch_references};
use crate::framework::references;
use crate::framework::watched::Watched;

/// Watches the Secrets and ConfigMaps that objects of kind `K` refer to.
pub fn watch<K: Reconcile>(
    controller: Controller<Guarded<K>>,
    scope: &Scope,
) -> Controller<Guarded<K>> {
    let secrets = scope.api::<Watched<Secret>>();
    let controller = watch_references(controller, secrets, references::Kind::Secret, scope);
    let config_maps = scope.api::<Watched<ConfigMap>>();
    watch_references(controller, config_maps, references::Kind::ConfigMap, scope)
}

/// Annotates the pods of a Deployment with a hash of the values in their environment, if there are any. A missing object
/// is left to the kubelet, which reports it, unless it is optional.
///
/// # Errors
/// The API server does not respond.
pub async fn note(
    context: &ReconcileContext<'_>,
    deployment: &mut Deployment,
) -> Result<(), Error> {
    let sources = environment::sources(deployment);
    if sources.is_empty() {
        return Ok(());
    }
    let namespace = &context.owner.namespace;
    context.refers_also_to(sources.keys().map(|(kind, name)| {
        let kind = match kind {
            SourceKind::ConfigMap => references::Kind::ConfigMap,
            SourceKind::Secret => references::Kind::Secret,
        };
        (kind, (namespace.clone(), name.clone()))
    }));
    let mut parts = Vec::new();
    for ((kind, name), keys) in &sources {
        if let Some(source) = read(context, *kind, name).await? {
            source.add_to(&mut parts, keys.as_ref());
        }
    }
    environment::put_hash(deployment, hash(parts.iter().map(Vec::as_slice)));
    Ok(())
}

/// Objects that contain values.
struct Source {
    meta: ObjectMeta,
    values: BTreeMap<String, Vec<u8>>,
}

async fn read(
    context: &ReconcileContext<'_>,
    kind: SourceKind,
    name: &str,
) -> Result<Option<Source>, Error> {
    let source = match kind {
        SourceKind::Secret => {
            let secret = context.api::<Secret>().get_opt(name).await?;
            secret.map(|secret| Source {
                meta: secret.metadata,
                values: bytes(secret.data.unwrap_or_default(), |value| value.0),
            })
        }
        SourceKind::ConfigMap => {
            let config = context.api::<ConfigMap>().get_opt(name).await?;
            config.map(|config| Source {
                meta: config.metadata,
                values: bytes(config.data.unwrap_or_default(), String::into_bytes),
            })
        }
    };
    Ok(source)
}

fn bytes<V>(
    values: BTreeMap<String, V>,
    bytes: impl Fn(V) -> Vec<u8>,
) -> BTreeMap<String, Vec<u8>> {
    let entries = values.into_iter();
    entries.map(|(key, value)| (key, bytes(value))).collect()
}

impl Source {
    /// Adds the values that are used to the hash. The UID comes first, so that someone who can read the hash on a pod, but not
    /// the Secret, cannot guess a weak password.
    fn add_to(self, parts: &mut Vec<Vec<u8>>, keys: Option<&BTreeSet<String>>) {
        parts.push(self.meta.uid.unwrap_or_default().into_bytes());
        for (key, value) in self.values {
            if keys.is_none_or(|keys| keys.contains(&key)) {
                parts.push(key.into_bytes());
                parts.push(value);
            }
        }
    }
}
