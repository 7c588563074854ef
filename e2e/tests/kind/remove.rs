//! What is left when everything is deleted.

use anyhow::{Context as _, Result, ensure};
use mcp_auth_e2e::command::{get, output, run};
use mcpauth_test_support::wait::until;

use crate::cluster::{NAMESPACE, SYSTEM, kubectl, object, text};

pub(crate) async fn notes() -> Result<()> {
    remove("examples/notes.yaml").await
}

/// The database is retained unless it is said otherwise.
pub(crate) async fn postgres() -> Result<()> {
    let delete = r#"{"spec":{"storage":{"postgres":{"managed":{"deletionPolicy":"Delete"}}}}}"#;
    kubectl(&["patch", "mas", "auth", "--type=merge", "-p", delete]).await?;
    until("the volume is to go with the database", || async {
        let set = object("statefulset", "auth-authserver-db").await?;
        let policy = &set["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"];
        ensure!(policy == "Delete", "{policy}");
        Ok(())
    })
    .await?;
    remove("examples/notes-postgres.yaml").await
}

async fn remove(file: &str) -> Result<()> {
    kubectl(&["delete", "-f", file, "--timeout=120s"]).await?;
    until("the namespace is empty", || empty(NAMESPACE)).await?;
    until("no volume is left", || async {
        let volumes = get(&["pv"]).await?;
        let mut claims = volumes["items"].as_array().context("no items")?.iter();
        let ours = claims.any(|volume| volume["spec"]["claimRef"]["namespace"] == NAMESPACE);
        ensure!(!ours, "a PersistentVolume of the namespace is left");
        Ok(())
    })
    .await?;
    bindings_gone("mcpauth:").await
}

async fn bindings_gone(prefix: &str) -> Result<()> {
    let bindings = get(&["clusterrolebindings"]).await?;
    for binding in bindings["items"].as_array().context("no items")? {
        let name = text(binding, "/metadata/name")?;
        ensure!(!name.starts_with(prefix), "left: ClusterRoleBinding {name}");
    }
    Ok(())
}

/// Whether a namespace holds nothing but what Kubernetes itself puts there.
async fn empty(namespace: &str) -> Result<()> {
    let args = [
        "api-resources",
        "--verbs=list",
        "--namespaced",
        "-o",
        "name",
    ];
    let kinds = output("kubectl", &args).await?;
    ensure!(kinds.success, "{}", kinds.stderr);
    // Events tell of the past, and expire.
    let kinds: Vec<_> = kinds
        .stdout
        .lines()
        .filter(|kind| !kind.starts_with("events"))
        .collect();
    let list = get(&[&kinds.join(","), "-n", namespace]).await?;
    let left: Vec<String> = list["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|item| (item["kind"].as_str(), item["metadata"]["name"].as_str()))
        .filter(|object| {
            !matches!(
                object,
                (Some("ConfigMap"), Some("kube-root-ca.crt"))
                    | (Some("ServiceAccount"), Some("default"))
            )
        })
        // The operators' own; it goes with their namespace, which helm leaves as well.
        .filter(|object| !matches!(object, (Some("Lease"), Some("mcp-auth-operator"))))
        .map(|(kind, name)| format!("{} {}", kind.unwrap_or_default(), name.unwrap_or_default()))
        .collect();
    ensure!(left.is_empty(), "left: {}", left.join(", "));
    Ok(())
}

/// `helm uninstall`, and nothing else: what the operator made stays.
pub(crate) async fn operator(namespace: &str) -> Result<()> {
    let args = [
        "uninstall",
        "mcp-auth-operator",
        "--namespace",
        namespace,
        "--wait",
        "--timeout",
        "120s",
        "--ignore-not-found",
    ];
    run("helm", &args).await?;
    Ok(())
}

/// `helm uninstall` takes everything but the CustomResourceDefinitions, which are asked to stay.
pub(crate) async fn chart() -> Result<()> {
    operator(SYSTEM).await?;
    until("the operator's namespace is empty", || empty(SYSTEM)).await?;
    for kind in ["clusterroles", "clusterrolebindings"] {
        let list = get(&[kind]).await?;
        for item in list["items"].as_array().context("no items")? {
            let name = item["metadata"]["name"].as_str().unwrap_or_default();
            ensure!(!name.contains("mcp-auth"), "left: {kind} {name}");
        }
    }
    definitions().await?;
    for namespace in [NAMESPACE, SYSTEM] {
        run(
            "kubectl",
            &["delete", "namespace", namespace, "--timeout=120s"],
        )
        .await?;
    }
    Ok(())
}

/// Deletes the CustomResourceDefinitions, which `helm uninstall` kept.
pub(crate) async fn definitions() -> Result<()> {
    let kept = get(&["crds"]).await?;
    let kept: Vec<&str> = kept["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|crd| crd["metadata"]["name"].as_str())
        .filter(|name| name.ends_with(".mcpauth.io"))
        .collect();
    ensure!(kept.len() == 3, "kept: {kept:?}");
    let mut args = vec!["delete", "crd", "--timeout=60s"];
    args.extend(kept);
    run("kubectl", &args).await?;
    Ok(())
}
