//! Parses a file of manifests.

use std::collections::{BTreeMap, HashSet};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{error::ManifestError, objects::Manifests, unknown_fields::first_unknown};

/// Parses a YAML file with several documents.
///
/// # Errors
/// The first problem that is found.
pub fn parse(text: &str) -> Result<Manifests, ManifestError> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)
        .map_err(|error| ManifestError::Yaml(error.to_string()))?;
    let schemas = schemas()?;
    let mut names = HashSet::new();
    let (mut auth_servers, mut servers, mut clients, mut secrets) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (index, document) in documents
        .into_iter()
        .enumerate()
        .filter(|(_, d)| !d.is_null())
    {
        let part = |name: &str| document[name].as_str().unwrap_or_default().to_owned();
        let (version, kind) = (part("apiVersion"), part("kind"));
        let name = format!(
            "{kind} {}",
            document["metadata"]["name"].as_str().unwrap_or("(no name)")
        );
        if let Some(field) = schemas
            .get(&kind)
            .and_then(|schema| first_unknown(schema, &document))
        {
            return Err(ManifestError::UnknownField(name, field));
        }
        if kind != "Secret" && !names.insert(name.clone()) {
            return Err(ManifestError::Twice(name));
        }
        match (version.as_str(), kind.as_str()) {
            ("mcpauth.io/v1alpha1", "McpAuthServer") => auth_servers.push(typed(&name, document)?),
            ("mcpauth.io/v1alpha1", "ProtectedMcpServer") => servers.push(typed(&name, document)?),
            ("mcpauth.io/v1alpha1", "McpOAuthClient") => clients.push(typed(&name, document)?),
            ("v1", "Secret") => secrets.push(typed(&name, document)?),
            _ => return Err(ManifestError::Kind(index + 1, format!("{version} {kind}"))),
        }
    }
    let count = auth_servers.len();
    let (Some(auth_server), 1) = (auth_servers.pop(), count) else {
        return Err(ManifestError::AuthServers(count));
    };
    if servers.is_empty() {
        return Err(ManifestError::NoServer);
    }
    let manifests = Manifests {
        auth_server,
        servers,
        clients,
        secrets,
    };
    manifests.check_references()?;
    Ok(manifests)
}

fn typed<T: DeserializeOwned>(name: &str, document: Value) -> Result<T, ManifestError> {
    // The name becomes part of file names.
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
    let given = document["metadata"]["name"].as_str().unwrap_or_default();
    if given.is_empty() || !given.chars().all(fits) {
        let what =
            "metadata.name is required and may contain only lowercase letters, digits, '-' and '.'";
        return Err(ManifestError::Invalid(name.to_owned(), what.to_owned()));
    }
    serde_json::from_value(document)
        .map_err(|error| ManifestError::Invalid(name.to_owned(), error.to_string()))
}

/// The schemas of our kinds, by kind.
fn schemas() -> Result<BTreeMap<String, Value>, ManifestError> {
    let broken = |error: serde_json::Error| {
        ManifestError::Invalid("CustomResourceDefinition".to_owned(), error.to_string())
    };
    let mut schemas = BTreeMap::new();
    for crd in mcpauth_api::crds().map_err(broken)? {
        let schema = crd.spec.versions.into_iter().next().and_then(|v| v.schema);
        let mut value =
            serde_json::to_value(schema.and_then(|s| s.open_api_v3_schema)).map_err(broken)?;
        for field in ["apiVersion", "kind", "metadata"] {
            value["properties"][field] = Value::Object(serde_json::Map::new());
        }
        schemas.insert(crd.spec.names.kind, value);
    }
    Ok(schemas)
}

#[cfg(test)]
mod tests {
    use mcpauth_wire::client::ClientResource;

    use super::*;

    const NOTES: &str = include_str!("../../../examples/notes.yaml");

    #[test]
    fn the_example_is_understood() {
        let manifests = parse(NOTES).unwrap();
        assert_eq!(manifests.auth_server.spec.issuer, "http://localhost:9000");
        assert_eq!(
            manifests.servers[0].spec.resource,
            "http://localhost:9001/mcp"
        );
        let robot = &manifests.clients[0];
        assert_eq!(
            manifests.resources_of(robot).unwrap(),
            [ClientResource {
                uri: "http://localhost:9001/mcp".into(),
                scopes: vec!["notes:read".into()],
            }]
        );
    }

    #[test]
    fn an_unknown_kind_is_refused() {
        let text =
            format!("{NOTES}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: x}}\n");
        let error = parse(&text).unwrap_err().to_string();
        assert!(
            error.contains("unsupported kind apps/v1 Deployment"),
            "{error}"
        );
    }

    #[test]
    fn a_misspelt_field_is_refused() {
        let error = parse(&NOTES.replace("  issuer:", "  isuer:")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "McpAuthServer auth: unknown field \"spec.isuer\""
        );
    }

    #[test]
    fn a_reference_to_nothing_is_refused() {
        let error =
            parse(&NOTES.replace("    - name: notes\n", "    - name: other\n")).unwrap_err();
        assert!(matches!(error, ManifestError::Missing { .. }), "{error}");
    }

    #[test]
    fn two_of_the_same_name_are_refused_in_whatever_namespaces() {
        let twice = NOTES
            .split("---")
            .find(|d| d.contains("kind: ProtectedMcpServer"));
        let twice = twice
            .unwrap()
            .replace("metadata:\n", "metadata:\n  namespace: other\n");
        let error = parse(&format!("{NOTES}\n---\n{twice}")).unwrap_err();
        assert_eq!(
            error,
            ManifestError::Twice("ProtectedMcpServer notes".into())
        );
    }

    #[test]
    fn a_name_that_leads_out_of_the_folder_is_refused() {
        let error = parse(&NOTES.replace("  name: notes\n", "  name: ../notes\n")).unwrap_err();
        assert!(matches!(error, ManifestError::Invalid(..)), "{error}");
    }

    #[test]
    fn exactly_one_authorization_server_is_needed() {
        assert_eq!(parse("").unwrap_err(), ManifestError::AuthServers(0));
    }
}
