//! values.yaml, its schema and its table in the README: three that must say the same.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::render::{read, render, yaml};

fn values() -> Value {
    yaml(&read("charts/mcp-auth-operator/values.yaml"))
}

fn schema() -> Value {
    serde_json::from_str(&read("charts/mcp-auth-operator/values.schema.json")).unwrap()
}

/// Every path of the values, as `a.b.c`. What a user fills in freely begins empty, and so ends there.
fn paths(values: &Value, before: &str, found: &mut BTreeSet<String>) {
    for (key, value) in values.as_object().unwrap() {
        let path = format!("{before}{key}");
        if value.as_object().is_some_and(|object| !object.is_empty()) {
            paths(value, &format!("{path}."), found);
        }
        found.insert(path);
    }
}

fn values_paths() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    paths(&values(), "", &mut found);
    found
}

/// Every path that the schema names.
fn schema_paths(schema: &Value, node: &Value, before: &str, found: &mut BTreeSet<String>) {
    let node = match node["$ref"].as_str() {
        Some(name) => schema.pointer(name.trim_start_matches('#')).unwrap(),
        None => node,
    };
    let node = match node["anyOf"].as_array() {
        Some(any) => any
            .iter()
            .find(|one| one["properties"].is_object())
            .unwrap_or(node),
        None => node,
    };
    for (key, child) in node["properties"].as_object().into_iter().flatten() {
        let path = format!("{before}{key}");
        schema_paths(schema, child, &format!("{path}."), found);
        found.insert(path);
    }
    let is_open = before == "global.";
    let is_strict = node["additionalProperties"] == false;
    assert!(
        node["properties"].is_null() || is_strict || is_open,
        "{before} takes anything"
    );
}

/// Kubernetes' own types, whose fields are not ours to list.
fn is_kubernetes(path: &str) -> bool {
    let own = [
        "podSecurityContext.",
        "securityContext.",
        "resources.requests.",
        "resources.limits.",
        "metrics.grafanaDashboard.labels.",
    ];
    own.iter().any(|own| path.starts_with(own))
}

#[test]
fn the_schema_knows_every_value_and_no_other() {
    let mut known = BTreeSet::new();
    let schema = schema();
    schema_paths(&schema, &schema, "", &mut known);
    let there: BTreeSet<String> = values_paths()
        .into_iter()
        .filter(|path| !is_kubernetes(path))
        .collect();
    let missing: Vec<_> = there.symmetric_difference(&known).collect();
    assert!(missing.is_empty(), "in one of both only: {missing:?}");
}

/// The rows of the README's table: path and default.
fn rows() -> Vec<(String, String)> {
    let readme = read("charts/mcp-auth-operator/README.md");
    let rows = readme.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let path = cells.next()?.trim_end_matches('`').to_owned();
        let default = cells.next()?.trim_matches('`').to_owned();
        Some((path, default))
    });
    rows.collect()
}

#[test]
fn the_readme_has_every_value_with_its_default() {
    let values = values();
    let rows = rows();
    assert!(rows.len() > 50);
    for (path, default) in &rows {
        let pointer = format!("/{}", path.replace('.', "/"));
        let value = values.pointer(&pointer);
        let value = value.unwrap_or_else(|| panic!("README.md: {path} is no value"));
        let expected = match value {
            Value::String(text) if !text.is_empty() => text.clone(),
            other => other.to_string(),
        };
        // What has more than one field is told in words.
        let is_group = value.as_object().is_some_and(|object| !object.is_empty());
        assert!(
            is_group || *default == expected,
            "README.md: {path} is {expected}"
        );
    }
    let documented = |path: &str| {
        rows.iter()
            .any(|(row, _)| path == row || path.starts_with(&format!("{row}.")))
    };
    let begins_a_row = |path: &str| {
        rows.iter()
            .any(|(row, _)| row.starts_with(&format!("{path}.")))
    };
    let missing: Vec<String> = values_paths()
        .into_iter()
        .filter(|path| !documented(path) && !begins_a_row(path))
        .collect();
    assert!(missing.is_empty(), "README.md lacks {missing:?}");
}

#[test]
fn a_wrong_value_is_refused_by_name() {
    for (setting, named) in [
        ("replicas=3", "replicas"),
        ("replicaCount=0", "replicaCount"),
        ("images.operater.tag=x", "operater"),
        ("images.operator.digest=sha256:abc", "digest"),
        ("images.operator.repository=a@b", "repository"),
        ("images.pullPolicy=Sometimes", "pullPolicy"),
        ("imagePullSecrets={mirror}", "imagePullSecrets"),
        ("watchNamespace=team", "watchNamespace"),
        ("watchNamespaces={Team_A}", "watchNamespaces"),
        ("watchNamespaces=team", "watchNamespaces"),
        ("crds.kept=true", "kept"),
        ("rbac.create=maybe", "rbac"),
        ("extraArgs={concurrency}", "extraArgs"),
        ("extraEnv={A}", "extraEnv"),
        ("fullnameOverride=Gate", "fullnameOverride"),
        ("commonLabels.a=1", "commonLabels"),
        ("podDisruptionBudget.minAvailable=many", "minAvailable"),
        ("metrics.serviceMonitor.intervall=1s", "intervall"),
        ("metrics.podMonitors.proxies.interval=soon", "interval"),
        ("networkPolicy=true", "networkPolicy"),
        ("workloads.networkpolicies=false", "networkpolicies"),
    ] {
        let error = render(&[setting]).expect_err(setting);
        assert!(error.contains(named), "{setting}: {error}");
    }
}

#[test]
fn it_can_be_part_of_another_chart() {
    // Values of others are beside ours under `global`.
    assert!(render(&["global.storageClass=fast"]).is_ok());
}
