//! Finds unknown fields, like `kubectl` does, so that a misspelled field is not ignored.

use serde_json::Value;

/// The path of the first field of `value` that is not in `schema` (a structural OpenAPI schema).
pub fn first_unknown(schema: &Value, value: &Value) -> Option<String> {
    match value {
        Value::Object(map) => {
            let properties = schema.get("properties").and_then(Value::as_object);
            let values = schema.get("additionalProperties").filter(|s| s.is_object());
            map.iter().find_map(|(key, member)| {
                match properties.and_then(|p| p.get(key)).or(values) {
                    Some(schema) => prefix(key, first_unknown(schema, member)),
                    // A schema without properties, such as that of `metadata`, allows all fields.
                    None => properties.map(|_| key.clone()),
                }
            })
        }
        Value::Array(items) => {
            let schema = schema.get("items")?;
            items
                .iter()
                .enumerate()
                .find_map(|(index, item)| prefix(&index.to_string(), first_unknown(schema, item)))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

fn prefix(key: &str, rest: Option<String>) -> Option<String> {
    rest.map(|rest| format!("{key}.{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_misspelt_field_is_named_with_its_path() {
        let schema = json!({ "properties": {
            "list": { "items": { "properties": { "name": {} } } },
            "map": { "additionalProperties": { "type": "string" } },
            "metadata": { "type": "object" },
        }});
        let fine = json!({ "list": [{ "name": 1 }], "map": { "x": "y" }, "metadata": { "z": 1 } });
        assert_eq!(first_unknown(&schema, &fine), None);
        let misspelt = json!({ "list": [{ "name": 1 }, { "nmae": 1 }] });
        assert_eq!(
            first_unknown(&schema, &misspelt).as_deref(),
            Some("list.1.nmae")
        );
    }
}
