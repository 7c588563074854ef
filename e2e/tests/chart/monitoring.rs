//! Monitors, alerts and the dashboard.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::render::{HELMS, of_kind, only, read, rendered, rendered_from};

const ALL: &str = "everything-values.yaml";

#[test]
fn nothing_of_it_is_there_unless_asked_for() {
    let objects = rendered(&[]);
    for kind in [
        "ServiceMonitor",
        "PodMonitor",
        "PrometheusRule",
        "ConfigMap",
    ] {
        assert!(of_kind(&objects, kind).is_empty(), "{kind}");
    }
}

fn monitor<'a>(objects: &'a [Value], end: &str) -> &'a Value {
    let monitors = of_kind(objects, "PodMonitor");
    monitors
        .into_iter()
        .find(|monitor| monitor["metadata"]["name"].as_str().unwrap().ends_with(end))
        .unwrap()
}

#[test]
fn what_the_operator_runs_is_scraped_where_it_runs() {
    let objects = rendered_from(HELMS[0], ALL);
    for (end, name) in [
        ("-authservers", "mcp-authserver"),
        ("-proxies", "mcp-server"),
    ] {
        let spec = &monitor(&objects, end)["spec"];
        // `what_is_scraped_has_its_labels_and_its_port` of the operator's tests says that the pods have these.
        let labels = json!({
            "app.kubernetes.io/name": name, "app.kubernetes.io/managed-by": "mcp-auth-operator",
        });
        assert_eq!(spec["selector"]["matchLabels"], labels);
        assert_eq!(spec["podMetricsEndpoints"][0]["port"], "health");
        assert_eq!(spec["namespaceSelector"], json!({ "any": true }));
    }
    let endpoint = &monitor(&objects, "-authservers")["spec"]["podMetricsEndpoints"][0];
    assert_eq!(endpoint["interval"], "15s");
    let endpoint = &monitor(&objects, "-proxies")["spec"]["podMetricsEndpoints"][0];
    assert_eq!(endpoint["metricRelabelings"][0]["action"], "labeldrop");
    let labels = &only(&objects, "ServiceMonitor")["metadata"]["labels"];
    assert_eq!(labels["release"], "prometheus");

    let objects = rendered_from(HELMS[0], "namespaces-values.yaml");
    let names = json!({ "matchNames": ["team-a", "team-b"] });
    assert_eq!(
        monitor(&objects, "-proxies")["spec"]["namespaceSelector"],
        names
    );
}

/// The names of metrics in a text.
fn metrics(text: &str) -> BTreeSet<&str> {
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    text.split(|c| !is_name(c))
        .filter(|word| word.len() > "mcpauth_".len() && word.starts_with("mcpauth_"))
        .collect()
}

/// What Prometheus makes of a histogram.
fn base(metric: &str) -> &str {
    ["_bucket", "_count", "_sum"]
        .iter()
        .find_map(|end| metric.strip_suffix(end))
        .unwrap_or(metric)
}

fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            found.extend(
                object
                    .get("expr")
                    .and_then(Value::as_str)
                    .map(str::to_owned),
            );
            object.values().for_each(|value| expressions(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| expressions(value, found)),
        _ => {}
    }
}

fn dashboard(objects: &[Value]) -> Value {
    let text = &only(objects, "ConfigMap")["data"]["mcp-auth.json"];
    serde_json::from_str(text.as_str().unwrap()).unwrap()
}

#[test]
fn alerts_and_dashboard_ask_for_metrics_that_there_are() {
    let page = read("docs/reference/metrics.md");
    let there = metrics(&page);
    let objects = rendered_from(HELMS[0], ALL);
    let mut asked = Vec::new();
    expressions(&only(&objects, "PrometheusRule")["spec"], &mut asked);
    assert_eq!(asked.len(), 12);
    let shown = dashboard(&objects);
    expressions(&shown, &mut asked);
    assert!(asked.len() > 25);
    let mut used = BTreeSet::new();
    for expression in &asked {
        let names = metrics(expression);
        assert!(!names.is_empty(), "{expression}");
        for name in names {
            assert!(there.contains(base(name)), "{name} is no metric");
            used.insert(base(name).to_owned());
        }
    }
    // Nothing is measured for nobody.
    let unused: Vec<_> = there.iter().filter(|name| !used.contains(**name)).collect();
    assert!(unused.is_empty(), "on no panel: {unused:?}");
}

#[test]
fn every_alert_is_explained() {
    let page = read("docs/operations/monitoring.md");
    let objects = rendered_from(HELMS[0], ALL);
    let groups = only(&objects, "PrometheusRule")["spec"]["groups"]
        .as_array()
        .unwrap();
    let rules: Vec<&Value> = groups
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap())
        .collect();
    for rule in &rules {
        let name = rule["alert"].as_str().unwrap();
        assert!(
            page.contains(&format!("| `{name}` |")),
            "monitoring.md lacks {name}"
        );
        assert!(matches!(
            rule["labels"]["severity"].as_str(),
            Some("critical" | "warning")
        ));
        for text in ["summary", "description"] {
            assert!(rule["annotations"][text].is_string(), "{name}");
        }
    }
    let documented = page
        .lines()
        .filter(|line| line.starts_with("| `Mc"))
        .count();
    assert_eq!(documented, rules.len());
    // The operator's own metrics are those of this release.
    let expression = rules[0]["expr"].as_str().unwrap();
    assert!(
        expression.contains("namespace=\"mcp-auth-system\""),
        "{expression}"
    );
}

#[test]
fn the_dashboard_is_found_by_grafanas_sidecar() {
    let objects = rendered_from(HELMS[0], ALL);
    let metadata = &only(&objects, "ConfigMap")["metadata"];
    assert_eq!(metadata["namespace"], "grafana");
    assert_eq!(metadata["labels"]["grafana_dashboard"], "1");
    let shown = dashboard(&objects);
    let panels = shown["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels
        .iter()
        .map(|panel| panel["id"].as_u64().unwrap())
        .collect();
    assert_eq!(ids.len(), panels.len());
}
