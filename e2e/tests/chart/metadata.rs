//! Names, labels and annotations, and the CustomResourceDefinitions.

use serde_json::Value;

use crate::render::{HELMS, chart, helm, of_kind, only, read, rendered, rendered_from, run, yaml};

/// The files in the chart's folder `ci`, each a way to install it.
const WAYS: [&str; 4] = [
    "default-values.yaml",
    "everything-values.yaml",
    "namespaces-values.yaml",
    "platform-values.yaml",
];

#[test]
fn both_versions_of_helm_render_the_same() {
    let there = std::fs::read_dir(chart().join("ci")).unwrap().count();
    assert_eq!(there, WAYS.len());
    for way in WAYS {
        let [now, before] = HELMS.map(|program| {
            let mut objects = rendered_from(program, way);
            objects.sort_by_key(Value::to_string);
            objects
        });
        assert!(now == before, "{way} differs");
    }
}

#[test]
fn helm_lint_finds_nothing() {
    for program in HELMS {
        for way in WAYS {
            let values = chart().join("ci").join(way);
            let mut lint = helm(program);
            lint.args(["lint", "--strict", "charts/mcp-auth-operator", "--values"]);
            run(lint.arg(values)).unwrap();
        }
    }
}

#[test]
fn names_can_be_chosen() {
    let name = |settings: &[&str]| {
        let objects = rendered(settings);
        let deployment = only(&objects, "Deployment");
        deployment["metadata"]["name"].as_str().unwrap().to_owned()
    };
    assert_eq!(name(&[]), "mcp-auth-operator");
    assert_eq!(name(&["nameOverride=gate"]), "mcp-auth-operator-gate");
    assert_eq!(name(&["fullnameOverride=gate"]), "gate");
    // What is longer would not fit into the names that are made of it.
    let long = "a".repeat(63);
    assert_eq!(name(&[&format!("fullnameOverride={long}")]).len(), 52);
}

#[test]
fn every_object_has_the_common_labels_and_annotations_and_a_place() {
    let objects = rendered_from(HELMS[0], "everything-values.yaml");
    assert!(objects.len() > 20);
    let cluster_wide = [
        "ClusterRole",
        "ClusterRoleBinding",
        "CustomResourceDefinition",
    ];
    for object in &objects {
        let (kind, metadata) = (object["kind"].as_str().unwrap(), &object["metadata"]);
        let what = format!("{kind} {}", metadata["name"]);
        assert_eq!(metadata["labels"]["team"], "platform", "{what}");
        assert_eq!(metadata["annotations"]["note"], "kept", "{what}");
        for label in ["name", "instance", "version", "managed-by"] {
            assert!(
                metadata["labels"][format!("app.kubernetes.io/{label}")].is_string(),
                "{what}"
            );
        }
        let is_placed = metadata["namespace"].is_string();
        assert_eq!(is_placed, !cluster_wide.contains(&kind), "{what}");
    }
    let template = &only(&objects, "Deployment")["spec"]["template"]["metadata"];
    assert_eq!(template["labels"]["team"], "platform");
}

#[test]
fn examples_name_images_of_this_release() {
    let tag = format!(":{}", env!("CARGO_PKG_VERSION"));
    for file in ["examples/notes.yaml", "examples/notes-postgres.yaml"] {
        let text = read(file);
        let images = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("image: ghcr.io/mcpauth/"));
        let images: Vec<&str> = images.collect();
        assert!(!images.is_empty());
        for image in images {
            assert!(image.ends_with(&tag), "{file}: {image}");
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

    let none = rendered(&["crds.enabled=false"]);
    assert!(of_kind(&none, "CustomResourceDefinition").is_empty());
}

#[test]
fn the_charts_crds_are_those_of_the_repository() {
    let objects = rendered(&[]);
    for crd in of_kind(&objects, "CustomResourceDefinition") {
        let plural = crd["spec"]["names"]["plural"].as_str().unwrap();
        let own = yaml(&read(&format!("crds/{plural}.yaml")));
        assert_eq!(crd["spec"], own["spec"], "{plural}: run `make generate`");
        assert_eq!(crd["metadata"]["name"], own["metadata"]["name"]);
    }
}
