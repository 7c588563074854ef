//! An object of one of our kinds as it is stored, which may not parse.

use std::borrow::Cow;
use std::fmt::Debug;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::error_boundary::InvalidObject;
use serde::de::{DeserializeOwned, Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// An object of kind `K`, or why it does not parse. Its managed fields are left out: nobody here reads them, and as values
/// they take more memory than all the rest of the object.
#[derive(Clone, Debug)]
pub struct Guarded<K>(pub Result<K, InvalidObject>);

#[derive(Deserialize)]
struct Stored {
    metadata: Metadata,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default, rename = "managedFields")]
    _managed_fields: IgnoredAny,
    #[serde(flatten)]
    others: Map<String, Value>,
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Guarded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Stored { metadata, others } = Stored::deserialize(deserializer)?;
        let mut fields = others;
        fields.insert("metadata".to_owned(), Value::Object(metadata.others));
        let object = Value::Object(fields);
        let error = match serde_path_to_error::deserialize(&object) {
            Ok(parsed) => return Ok(Self(Ok(parsed))),
            Err(error) => error.to_string(),
        };
        let metadata = ObjectMeta::deserialize(&object["metadata"]).map_err(D::Error::custom)?;
        Ok(Self(Err(InvalidObject { error, metadata })))
    }
}

impl<K: Resource> Resource for Guarded<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(kind: &K::DynamicType) -> Cow<'_, str> {
        K::kind(kind)
    }

    fn group(kind: &K::DynamicType) -> Cow<'_, str> {
        K::group(kind)
    }

    fn version(kind: &K::DynamicType) -> Cow<'_, str> {
        K::version(kind)
    }

    fn plural(kind: &K::DynamicType) -> Cow<'_, str> {
        K::plural(kind)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0
            .as_ref()
            .map_or_else(|invalid| &invalid.metadata, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0
            .as_mut()
            .map_or_else(|invalid| &mut invalid.metadata, K::meta_mut)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Service;
    use kube::ResourceExt as _;
    use serde_json::json;

    use super::*;

    fn parsed(ports: &Value) -> Guarded<Service> {
        let object = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "name": "a", "annotations": { "b": "c" },
                "managedFields": [{ "manager": "kubectl", "fieldsV1": { "f:spec": {} } }],
            },
            "spec": { "ports": ports },
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn it_is_the_object_without_managed_fields() {
        let object = parsed(&json!([{ "port": 80 }]));
        assert!(object.managed_fields().is_empty());
        assert_eq!(object.annotations()["b"], "c");
        let ports = object.0.unwrap().spec.unwrap().ports.unwrap();
        assert_eq!(ports[0].port, 80);
    }

    #[test]
    fn what_does_not_parse_names_the_field_and_keeps_its_metadata() {
        let object = parsed(&json!([{ "port": "http" }]));
        assert!(object.managed_fields().is_empty());
        assert_eq!(object.name_any(), "a");
        let error = object.0.unwrap_err().error;
        assert!(error.starts_with("spec.ports[0].port: "), "{error}");
    }
}
