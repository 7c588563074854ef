//! The CustomResourceDefinitions as they are installed.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;

use crate::{McpAuthServer, McpOAuthClient, ProtectedMcpServer};

/// The CustomResourceDefinitions of all kinds, as in `crds/`.
///
/// # Errors
/// When a schema cannot be parsed from JSON, which a test rules out.
pub fn crds() -> Result<Vec<CustomResourceDefinition>, serde_json::Error> {
    [
        McpAuthServer::crd(),
        ProtectedMcpServer::crd(),
        McpOAuthClient::crd(),
    ]
    .into_iter()
    .map(|crd| {
        let mut value = serde_json::to_value(crd)?;
        tidy(&mut value);
        serde_json::from_value(value)
    })
    .collect()
}

/// Removes from a schema what the Rust types add and Kubernetes does not support: unsigned formats,
/// and `nullable` on optional fields.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(format)) = map.get("format")
                && format.starts_with("uint")
            {
                map.insert("format".to_owned(), "int32".into());
            }
            if map.get("nullable") == Some(&Value::Bool(true)) {
                map.remove("nullable");
            }
            map.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schemas() -> Vec<(String, Value)> {
        crds()
            .unwrap()
            .into_iter()
            .map(|crd| {
                let schema = crd.spec.versions[0].schema.clone().unwrap();
                (
                    crd.spec.names.kind,
                    serde_json::to_value(schema.open_api_v3_schema).unwrap(),
                )
            })
            .collect()
    }

    /// Calls `check` with every property below spec and status, and its path.
    fn walk(path: &str, schema: &Value, check: &mut impl FnMut(&str, &Value)) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            check(&path, property);
            walk(&path, property, check);
        }
        for member in ["items", "additionalProperties"] {
            if schema[member].is_object() {
                walk(&format!("{path}[]"), &schema[member], check);
            }
        }
    }

    /// Where Kubernetes' own types begin.
    const EMBEDDED: [&str; 6] = [
        "conditions[]",
        ".env[]",
        ".envFrom[]",
        ".volumes[]",
        ".volumeMounts[]",
        "Probe.",
    ];

    fn is_embedded(path: &str) -> bool {
        EMBEDDED.iter().any(|part| path.contains(part))
    }

    fn is_ours(path: &str) -> bool {
        (path.contains(".spec") || path.contains(".status")) && !is_embedded(path)
    }

    #[test]
    fn a_file_is_taken_by_client_side_apply() {
        let root =
            std::path::PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../..");
        for folder in ["crds", "charts/mcp-auth-operator/templates/crds"] {
            for file in std::fs::read_dir(root.join(folder)).unwrap() {
                let file = file.unwrap();
                let bytes = file.metadata().unwrap().len();
                assert!(bytes < 200 * 1024, "{:?} has {bytes} bytes", file.path());
            }
        }
    }

    #[test]
    fn kubernetes_types_are_whole_and_without_descriptions() {
        let (_, schema) = schemas().remove(1);
        let template = "/properties/spec/properties/server/properties/template/properties";
        let template = schema.pointer(template).unwrap();
        for field in [
            "/env/items/properties/valueFrom/properties/fieldRef/properties/fieldPath",
            "/envFrom/items/properties/configMapRef/properties/optional",
            "/volumes/items/properties/persistentVolumeClaim/properties/claimName",
            "/volumeMounts/items/properties/subPathExpr",
            "/readinessProbe/properties/exec/properties/command",
        ] {
            assert!(template.pointer(field).is_some(), "{field} is missing");
        }
        for (kind, schema) in schemas() {
            walk(&kind, &schema, &mut |path, property| {
                let described = property["description"].is_string();
                let inside = is_embedded(path) && !path.contains("conditions[]");
                assert!(!(inside && described), "{path} has a description");
            });
        }
    }

    #[test]
    fn every_field_has_a_description() {
        for (kind, schema) in schemas() {
            walk(&kind, &schema, &mut |path, property| {
                assert!(
                    !is_ours(path) || property["description"].is_string(),
                    "{path} has no description"
                );
            });
        }
    }

    #[test]
    fn every_string_list_and_map_is_bounded() {
        for (kind, schema) in schemas() {
            walk(&kind, &schema, &mut |path, property| {
                if !is_ours(path) {
                    return;
                }
                let bounded = match property["type"].as_str() {
                    Some("string") => property["maxLength"].is_u64() || property["enum"].is_array(),
                    Some("array") => {
                        let items = &property["items"];
                        property["maxItems"].is_u64()
                            && (items["type"] != "string"
                                || items["maxLength"].is_u64()
                                || items["enum"].is_array())
                    }
                    Some("object") if property["additionalProperties"].is_object() => {
                        let values = &property["additionalProperties"];
                        property["maxProperties"].is_u64() && values["maxLength"].is_u64()
                    }
                    Some("integer") if path.contains(".spec") => {
                        property["minimum"].is_number() && property["maximum"].is_number()
                    }
                    _ => true,
                };
                assert!(bounded, "{path} has no bound: {property}");
            });
        }
    }

    #[test]
    fn every_rule_has_a_message() {
        fn rules(value: &Value, found: &mut usize) {
            for rule in value["x-kubernetes-validations"]
                .as_array()
                .into_iter()
                .flatten()
            {
                assert!(rule["message"].is_string(), "{rule} has no message");
                *found += 1;
            }
            match value {
                Value::Object(map) => map.values().for_each(|v| rules(v, found)),
                Value::Array(items) => items.iter().for_each(|v| rules(v, found)),
                _ => {}
            }
        }
        for (kind, schema) in schemas() {
            let mut found = 0;
            rules(&schema, &mut found);
            assert!(found > 4, "{kind} has only {found} rules");
        }
    }

    #[test]
    fn conditions_are_a_map_by_type() {
        for (kind, schema) in schemas() {
            let conditions = &schema["properties"]["status"]["properties"]["conditions"];
            assert_eq!(conditions["x-kubernetes-list-type"], "map", "{kind}");
            assert_eq!(
                conditions["x-kubernetes-list-map-keys"][0], "type",
                "{kind}"
            );
        }
    }

    #[test]
    fn the_schema_gives_defaults() {
        let (_, schema) = schemas().remove(0);
        let spec = &schema["properties"]["spec"]["properties"];
        assert_eq!(spec["tokens"]["default"]["accessTokenSeconds"], 900);
        assert_eq!(spec["replicas"]["default"], 1);
        assert_eq!(spec["service"]["default"]["type"], "ClusterIP");
    }
}
