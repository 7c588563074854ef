//! The cluster, its names, and what is known of it when something fails.

use anyhow::{Context as _, Result, bail};
use mcp_auth_e2e::command::{get, output, run, show};
use serde_json::Value;

use crate::remove;

/// The namespace of the resources, which admits restricted pods only.
pub(crate) const NAMESPACE: &str = "mcp-auth-e2e";
/// The operator's namespace.
pub(crate) const SYSTEM: &str = "mcp-auth-system";
/// The namespace of another installation of the operator.
pub(crate) const ELSEWHERE: &str = "mcp-auth-elsewhere";
/// As `examples/notes.yaml` has it.
pub(crate) const ISSUER: &str = "http://localhost:9000";
/// As `examples/notes.yaml` has it.
pub(crate) const RESOURCE: &str = "http://localhost:9001/mcp";

pub(crate) async fn answers() -> Result<()> {
    if std::env::var_os("KUBECONFIG").is_none() {
        bail!(
            "KUBECONFIG is not set: `make cluster-up` makes a cluster, `make e2e` runs this on it"
        );
    }
    show("kubectl", &["get", "nodes", "-o", "wide"]).await?;
    // What an earlier run left: it ended in the middle.
    remove::operator(ELSEWHERE).await?;
    if output("kubectl", &["get", "namespace", NAMESPACE])
        .await?
        .success
    {
        delete_resources().await?;
        run(
            "kubectl",
            &["delete", "namespace", NAMESPACE, "--timeout=180s"],
        )
        .await?;
    }
    create_namespace().await
}

/// The namespace of the resources, as it is before them.
pub(crate) async fn create_namespace() -> Result<()> {
    run("kubectl", &["create", "namespace", NAMESPACE]).await?;
    let label = "pod-security.kubernetes.io/enforce=restricted";
    run("kubectl", &["label", "namespace", NAMESPACE, label]).await?;
    Ok(())
}

/// Deletes the resources where there is no operator that would.
pub(crate) async fn delete_resources() -> Result<()> {
    if !output("kubectl", &["get", "crd", "mcpauthservers.mcpauth.io"])
        .await?
        .success
    {
        return Ok(());
    }
    kubectl(&["delete", "pms,moc,mas", "--all", "--wait=false"]).await?;
    // Without an operator nobody else takes them off.
    for kind in ["pms", "moc", "mas"] {
        for name in names(kind).await? {
            let patch = r#"{"metadata":{"finalizers":null}}"#;
            let args = [
                "patch",
                kind,
                &name,
                "--type=merge",
                "-p",
                patch,
                "-n",
                NAMESPACE,
            ];
            output("kubectl", &args).await?;
        }
    }
    Ok(())
}

/// kubectl in the namespace of the resources.
pub(crate) async fn kubectl(args: &[&str]) -> Result<String> {
    let mut all = args.to_vec();
    all.extend(["-n", NAMESPACE]);
    run("kubectl", &all).await
}

/// An object in the namespace of the resources.
pub(crate) async fn object(kind: &str, name: &str) -> Result<Value> {
    get(&[kind, name, "-n", NAMESPACE]).await
}

/// The objects of a kind in the namespace of the resources that match a label selector.
pub(crate) async fn objects(kind: &str, selector: &str) -> Result<Vec<Value>> {
    let list = get(&[kind, "-n", NAMESPACE, "-l", selector]).await?;
    Ok(list["items"].as_array().cloned().unwrap_or_default())
}

/// The names of all objects of a kind in the namespace of the resources.
pub(crate) async fn names(kind: &str) -> Result<Vec<String>> {
    let list = get(&[kind, "-n", NAMESPACE]).await?;
    list["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|item| text(item, "/metadata/name"))
        .collect()
}

/// A string in an object.
pub(crate) fn text(object: &Value, pointer: &str) -> Result<String> {
    let value = object.pointer(pointer).and_then(Value::as_str);
    value
        .map(str::to_owned)
        .with_context(|| format!("{pointer} is missing"))
}

/// Waits for `Ready`; where it does not come, the error has what `kubectl describe` says.
pub(crate) async fn ready(kinds: &str) -> Result<()> {
    let args = [
        "wait",
        "--for=condition=Ready",
        "--timeout=240s",
        kinds,
        "--all",
    ];
    if let Err(error) = kubectl(&args).await {
        let described = output("kubectl", &["describe", kinds, "-n", NAMESPACE]).await?;
        return Err(error.context(described.stdout));
    }
    Ok(())
}

/// Prints all that helps to understand a failure. Its own failures are of no interest.
pub(crate) async fn diagnostics() {
    println!("\n  diagnostics");
    let commands: &[&[&str]] = &[
        &["get", "mas,pms,moc", "-A", "-o", "wide"],
        &[
            "get",
            "pods,services,deployments,statefulsets,pvc",
            "-A",
            "-o",
            "wide",
        ],
        &["describe", "mas,pms,moc", "-n", NAMESPACE],
        &["describe", "pods", "-n", NAMESPACE],
        &["get", "events", "-n", NAMESPACE, "--sort-by=.lastTimestamp"],
        &["get", "events", "-n", SYSTEM, "--sort-by=.lastTimestamp"],
        &["get", "events", "-n", ELSEWHERE, "--sort-by=.lastTimestamp"],
        &["get", "configmaps", "-n", NAMESPACE, "-o", "yaml"],
        &[
            "logs",
            "-n",
            SYSTEM,
            "-l",
            "app.kubernetes.io/name=mcp-auth-operator",
            "--tail=100",
            "--prefix",
        ],
        &[
            "logs",
            "-n",
            ELSEWHERE,
            "-l",
            "app.kubernetes.io/name=mcp-auth-operator",
            "--tail=100",
            "--prefix",
        ],
        &[
            "logs",
            "-n",
            NAMESPACE,
            "-l",
            "app.kubernetes.io/name=mcp-authserver",
            "--tail=100",
            "--prefix",
        ],
        &[
            "logs",
            "-n",
            NAMESPACE,
            "-l",
            "app.kubernetes.io/name=mcp-server",
            "--all-containers",
            "--tail=100",
            "--prefix",
        ],
        &[
            "logs",
            "-n",
            NAMESPACE,
            "-l",
            "app.kubernetes.io/name=postgres",
            "--tail=100",
            "--prefix",
        ],
    ];
    for command in commands {
        if let Err(error) = show("kubectl", command).await {
            println!("      {error}");
        }
    }
}
