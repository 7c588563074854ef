//! The chart, as helm renders it.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::process::Command;

use mcp_auth_e2e::top;
use serde_json::Value;

/// Renders the chart; the error is what helm printed.
fn render(settings: &[&str]) -> Result<Vec<Value>, String> {
    let output = Command::new("helm")
        .args(["template", "mcp-auth-operator", "charts/mcp-auth-operator"])
        .args(["--namespace", "mcp-auth-system"])
        .args(settings.iter().flat_map(|setting| ["--set", setting]))
        .current_dir(top())
        .output()
        .expect(
            "cannot run helm: run this through `make test-chart`, which builds helm and sets PATH",
        );
    if !output.status.success() {
        return Err(String::from_utf8(output.stderr).expect("helm prints UTF-8"));
    }
    let text = String::from_utf8(output.stdout).expect("helm prints UTF-8");
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).expect("the chart renders YAML");
    Ok(objects
        .into_iter()
        .filter(|object| !object.is_null())
        .collect())
}

fn rendered(settings: &[&str]) -> Vec<Value> {
    render(settings).expect("the chart renders")
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects
        .iter()
        .filter(|object| object["kind"] == kind)
        .collect()
}

fn only<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let found = of_kind(objects, kind);
    assert_eq!(found.len(), 1, "{kind}");
    found[0]
}

fn strings(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

/// Every rule of every role, with the role's kind and name.
fn rules(objects: &[Value]) -> Vec<(&str, &str, &Value)> {
    objects
        .iter()
        .filter(|object| matches!(object["kind"].as_str(), Some("Role" | "ClusterRole")))
        .flat_map(|role| {
            let kind = role["kind"].as_str().unwrap();
            let name = role["metadata"]["name"].as_str().unwrap();
            let rules = role["rules"].as_array().unwrap();
            rules.iter().map(move |rule| (kind, name, rule))
        })
        .collect()
}

#[test]
fn no_permission_is_a_wildcard() {
    for settings in [&[][..], &["watchNamespace=team"]] {
        let objects = rendered(settings);
        let rules = rules(&objects);
        assert!(rules.len() > 8);
        for (_, name, rule) in rules {
            for field in ["apiGroups", "resources", "verbs", "resourceNames"] {
                assert!(!strings(&rule[field]).contains(&"*"), "{name}: {rule}");
            }
            assert!(!strings(&rule["verbs"]).is_empty(), "{name}: {rule}");
            assert!(rule.get("nonResourceURLs").is_none(), "{name}: {rule}");
        }
    }
}

#[test]
fn every_verb_has_its_reason() {
    let template = top().join("charts/mcp-auth-operator/templates/rbac.yaml");
    let text = std::fs::read_to_string(template).unwrap();
    let verbs = [
        "get", "list", "watch", "create", "update", "patch", "delete", "bind",
    ];
    let lines = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- "));
    let mut seen = 0;
    for line in lines {
        let word = line.split_whitespace().next().unwrap();
        if verbs.contains(&word) {
            seen += 1;
            let reason = line.split_once('#').map_or("", |(_, reason)| reason.trim());
            assert!(reason.len() > 10, "no reason: {line}");
        }
    }
    assert!(seen > 20);
}

#[test]
fn it_may_delete_only_what_it_takes_away_by_itself() {
    let objects = rendered(&[]);
    let deleted: Vec<&str> = rules(&objects)
        .into_iter()
        .filter(|(_, _, rule)| strings(&rule["verbs"]).contains(&"delete"))
        .flat_map(|(_, _, rule)| strings(&rule["resources"]))
        .collect();
    let expected = ["poddisruptionbudgets", "secrets"];
    assert_eq!(deleted, expected);
}

#[test]
fn it_may_give_no_rights_and_make_tokens_of_one_account() {
    let objects = rendered(&[]);
    for (_, name, rule) in rules(&objects) {
        let verbs = strings(&rule["verbs"]);
        assert!(
            !verbs
                .iter()
                .any(|verb| ["bind", "escalate", "impersonate"].contains(verb)),
            "{name}"
        );
        if strings(&rule["resources"]).contains(&"serviceaccounts/token") {
            assert_eq!(strings(&rule["resourceNames"]), ["mcp-auth-operator"]);
        }
    }
}

#[test]
fn in_one_namespace_nothing_else_can_be_read_or_written() {
    let objects = rendered(&["watchNamespace=team"]);
    for kind in ["ClusterRole", "ClusterRoleBinding"] {
        assert!(of_kind(&objects, kind).is_empty(), "{kind}");
    }
    let namespaces: Vec<_> = of_kind(&objects, "Role")
        .iter()
        .map(|role| role["metadata"]["namespace"].as_str().unwrap())
        .collect();
    assert!(namespaces.contains(&"team") && namespaces.contains(&"mcp-auth-system"));
    let container = &only(&objects, "Deployment")["spec"]["template"]["spec"]["containers"][0];
    assert!(
        strings(&container["args"]).contains(&"--watch-namespace=team"),
        "the operator is not told: {container}"
    );
}

#[test]
fn the_pod_meets_the_restricted_standard() {
    let objects = rendered(&[]);
    let deployment = only(&objects, "Deployment");
    assert_eq!(deployment["spec"]["replicas"], 2);
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(
        pod["securityContext"]["seccompProfile"]["type"],
        "RuntimeDefault"
    );
    assert_ne!(pod["hostNetwork"], true);
    let container = &pod["containers"][0];
    let security = &container["securityContext"];
    assert_eq!(security["allowPrivilegeEscalation"], false);
    assert_eq!(security["readOnlyRootFilesystem"], true);
    assert_eq!(strings(&security["capabilities"]["drop"]), ["ALL"]);
    assert!(container["resources"]["requests"]["cpu"].is_string());
    assert!(container["resources"]["limits"]["memory"].is_string());
    assert_ne!(
        container["livenessProbe"]["httpGet"]["path"],
        container["readinessProbe"]["httpGet"]["path"]
    );
}

#[test]
fn selectors_find_the_pod() {
    let objects = rendered(&[
        "networkPolicy.enabled=true",
        "metrics.podMonitor.enabled=true",
    ]);
    let labels = &only(&objects, "Deployment")["spec"]["template"]["metadata"]["labels"];
    let selectors = [
        &only(&objects, "Deployment")["spec"]["selector"]["matchLabels"],
        &only(&objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        &only(&objects, "Service")["spec"]["selector"],
        &only(&objects, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        &only(&objects, "PodMonitor")["spec"]["selector"]["matchLabels"],
    ];
    for selector in selectors {
        let selector = selector.as_object().unwrap();
        assert!(!selector.is_empty());
        for (key, value) in selector {
            assert_eq!(&labels[key], value, "{key}");
        }
    }
}

#[test]
fn roles_are_bound_to_the_operators_account() {
    for settings in [
        &[][..],
        &["watchNamespace=team"],
        &["serviceAccount.name=other"],
    ] {
        let objects = rendered(settings);
        let account = &only(&objects, "ServiceAccount")["metadata"]["name"];
        assert_eq!(
            &only(&objects, "Deployment")["spec"]["template"]["spec"]["serviceAccountName"],
            account
        );
        let mut bindings = of_kind(&objects, "RoleBinding");
        bindings.extend(of_kind(&objects, "ClusterRoleBinding"));
        for binding in bindings {
            assert_eq!(&binding["subjects"][0]["name"], account);
            assert_eq!(binding["subjects"][0]["namespace"], "mcp-auth-system");
            let (kind, name) = (&binding["roleRef"]["kind"], &binding["roleRef"]["name"]);
            let role = objects
                .iter()
                .find(|object| &object["kind"] == kind && &object["metadata"]["name"] == name);
            let role = role.unwrap_or_else(|| panic!("no {kind} {name}"));
            assert_eq!(
                role["metadata"]["namespace"],
                binding["metadata"]["namespace"]
            );
        }
    }
}

#[test]
fn crds_are_kept_unless_told_otherwise() {
    let policy = |object: &Value| {
        object["metadata"]["annotations"]["helm.sh/resource-policy"].as_str() == Some("keep")
    };
    let objects = rendered(&[]);
    let crds = of_kind(&objects, "CustomResourceDefinition");
    assert_eq!(crds.len(), 3);
    assert!(crds.into_iter().all(policy));

    let objects = rendered(&["crds.keep=false"]);
    let crds = of_kind(&objects, "CustomResourceDefinition");
    assert_eq!(crds.len(), 3);
    assert!(!crds.into_iter().any(policy));

    assert!(
        of_kind(
            &rendered(&["crds.enabled=false"]),
            "CustomResourceDefinition"
        )
        .is_empty()
    );
}

#[test]
fn the_charts_crds_are_those_of_the_repository() {
    let objects = rendered(&["crds.keep=false"]);
    for crd in of_kind(&objects, "CustomResourceDefinition") {
        let plural = crd["spec"]["names"]["plural"].as_str().unwrap();
        let file = top().join("crds").join(format!("{plural}.yaml"));
        let own: Value = serde_saphyr::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        assert_eq!(crd["spec"], own["spec"], "{plural}: run `make generate`");
    }
}

#[test]
fn a_digest_wins_over_a_tag() {
    let digest = format!("sha256:{}", "ab".repeat(32));
    let objects = rendered(&[
        &format!("images.operator.digest={digest}"),
        "images.operator.tag=dev",
        "images.authserver.tag=dev",
        &format!("images.resourceProxy.digest={digest}"),
    ]);
    let container = &only(&objects, "Deployment")["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(
        container["image"],
        format!("ghcr.io/mcpauth/operator@{digest}")
    );
    let text = serde_json::to_string(&objects).unwrap();
    assert!(text.contains("ghcr.io/mcpauth/authserver:dev"));
    assert!(text.contains(&format!("ghcr.io/mcpauth/resource-proxy@{digest}")));
    assert!(text.contains("docker.io/library/postgres:15"));
}

#[test]
fn a_wrong_value_is_refused_by_name() {
    for (setting, named) in [
        ("replica=3", "replica"),
        ("replicas=0", "replicas"),
        ("images.operater.tag=x", "operater"),
        ("images.operator.digest=sha256:abc", "digest"),
        ("images.operator.repository=a@b", "repository"),
        ("images.pullPolicy=Sometimes", "pullPolicy"),
        ("watchNamespace=Team_A", "watchNamespace"),
        ("crds.kept=true", "kept"),
        ("metrics.serviceMonitor.intervall=1s", "intervall"),
        ("networkPolicy=true", "networkPolicy"),
    ] {
        let error = render(&[setting]).expect_err(setting);
        assert!(error.contains(named), "{setting}: {error}");
    }
}

#[test]
fn helm_lint_finds_nothing() {
    let output = Command::new("helm")
        .args(["lint", "--strict", "charts/mcp-auth-operator"])
        .current_dir(top())
        .output()
        .expect(
            "cannot run helm: run this through `make test-chart`, which builds helm and sets PATH",
        );
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

#[test]
fn every_value_is_explained_in_the_readme() {
    let chart = top().join("charts/mcp-auth-operator");
    let values = std::fs::read_to_string(chart.join("values.yaml")).unwrap();
    let readme = std::fs::read_to_string(chart.join("README.md")).unwrap();
    let values: Value = serde_saphyr::from_str(&values).unwrap();
    for key in values.as_object().unwrap().keys() {
        assert!(
            readme.contains(&format!("`{key}")),
            "README.md does not explain {key}"
        );
    }
}
