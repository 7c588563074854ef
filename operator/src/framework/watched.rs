//! An object as a watch needs it: which one it is, and whose.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::marker::PhantomData;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use serde::{Deserialize, Deserializer};

/// An object of kind `K` without its content. Parsing the whole of it, its managed fields above all, would cost several times
/// as much, and there is an event for every write.
#[derive(Clone, Debug)]
pub struct Watched<K> {
    metadata: ObjectMeta,
    kind: PhantomData<K>,
}

#[derive(Deserialize)]
struct Envelope {
    metadata: Identity,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Identity {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<OwnerReference>>,
}

impl<'de, K> Deserialize<'de> for Watched<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Envelope { metadata } = Envelope::deserialize(deserializer)?;
        Ok(Self {
            metadata: ObjectMeta {
                name: metadata.name,
                namespace: metadata.namespace,
                uid: metadata.uid,
                resource_version: metadata.resource_version,
                labels: metadata.labels,
                owner_references: metadata.owner_references,
                ..ObjectMeta::default()
            },
            kind: PhantomData,
        })
    }
}

impl<K: Resource<DynamicType = ()>> Resource for Watched<K> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        K::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        K::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        K::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::ResourceExt as _;
    use serde_json::json;

    use super::*;

    #[test]
    fn it_is_told_apart_and_has_its_owner() {
        let object: Watched<ConfigMap> = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {
                "name": "a", "namespace": "b", "uid": "1", "resourceVersion": "7", "labels": { "c": "d" },
                "managedFields": [{ "manager": "kubectl", "fieldsV1": { "f:data": {} } }],
                "ownerReferences": [{ "apiVersion": "v1", "kind": "Pod", "name": "e", "uid": "2", "controller": true }],
            },
            "data": { "large": "x" },
        }))
        .unwrap();
        assert_eq!(
            (object.name_any(), object.namespace()),
            ("a".into(), Some("b".into()))
        );
        assert_eq!(object.labels()["c"], "d");
        assert_eq!(object.owner_references()[0].name, "e");
        assert_eq!(object.resource_version().as_deref(), Some("7"));
        assert!(object.managed_fields().is_empty());
        assert_eq!(
            <Watched<ConfigMap>>::url_path(&(), Some("b")),
            "/api/v1/namespaces/b/configmaps"
        );
    }
}
