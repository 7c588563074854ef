//! Kubernetes' own types in our schemas: in their exact shape, but without descriptions. `kubectl apply` keeps a
//! copy of each CustomResourceDefinition in an annotation, and annotations end at 256 KiB.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// The most entries of a list.
const ENTRIES: u32 = 64;
/// The longest name of an entry.
const NAME: u32 = 512;

/// An object of type `T`.
pub(crate) fn object<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = T::json_schema(generator);
    if let Some(members) = schema.as_object_mut() {
        members.values_mut().for_each(without_descriptions);
        members.remove("description");
    }
    schema
}

/// A list that is replaced as a whole.
pub(crate) fn list<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": ENTRIES,
        "items": object::<T>(generator),
        "x-kubernetes-list-type": "atomic",
    })
}

/// A list whose entries are told apart by their `name`.
pub(crate) fn list_by_name<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    list_by::<T>("name", generator)
}

/// A list whose entries are told apart by their `mountPath`.
pub(crate) fn list_by_mount_path<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    list_by::<T>("mountPath", generator)
}

fn list_by<T: JsonSchema>(key: &str, generator: &mut SchemaGenerator) -> Schema {
    let mut schema = list::<T>(generator);
    schema.insert("x-kubernetes-list-type".to_owned(), "map".into());
    schema.insert("x-kubernetes-list-map-keys".to_owned(), json!([key]));
    // What rules of ours look at has to be bounded: the API server counts what a rule can cost.
    for member in [key, "name"] {
        if let Some(member) = schema.pointer_mut(&format!("/items/properties/{member}")) {
            member["maxLength"] = NAME.into();
        }
    }
    schema
}

/// An object that the operator decodes, since its schema would be too large.
pub(crate) fn decoded_by_the_operator(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

fn without_descriptions(value: &mut Value) {
    match value {
        Value::Object(map) => {
            // A property of that name would have an object.
            if map.get("description").is_some_and(Value::is_string) {
                map.remove("description");
            }
            map.values_mut().for_each(without_descriptions);
        }
        Value::Array(items) => items.iter_mut().for_each(without_descriptions),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
