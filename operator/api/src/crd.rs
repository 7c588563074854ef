//! The CustomResourceDefinitions as they are installed.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;

use crate::{McpAuthServer, McpOAuthClient, ProtectedMcpServer};

/// The CustomResourceDefinitions of all kinds, as `crds/` has them.
///
/// # Errors
/// When a schema cannot be read back from JSON, which a test rules out.
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

/// Takes out of a schema what Rust's types put in and Kubernetes does not know: unsigned formats,
/// and `nullable` for what may be left out.
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
