//! What the operator does when nobody looks.

use anyhow::{Context as _, Result, ensure};
use mcp_auth_e2e::command::{get, kubectl_stdin, output, run, show};
use mcpauth_test_support::{memory::Memory, wait::until};
use serde_json::{Value, json};

use crate::{
    cluster::{NAMESPACE, SYSTEM, kubectl, names, object, text},
    install::leader,
    setup,
};

/// A deleted Service and a changed Deployment come back as they were.
pub(crate) async fn drift() -> Result<()> {
    setup::notes().await?;
    kubectl(&["delete", "service", "notes"]).await?;
    until("the deleted Service is back", || object("service", "notes")).await?;
    scale_and_wait().await
}

/// Changes the Deployment by hand and waits for the operator to put it back.
async fn scale_and_wait() -> Result<()> {
    kubectl(&["scale", "deployment", "notes", "--replicas=0"]).await?;
    until("the changed Deployment is repaired", || async {
        let deployment = object("deployment", "notes").await?;
        ensure!(
            deployment["spec"]["replicas"] == 1,
            "{}",
            deployment["spec"]["replicas"]
        );
        ensure!(
            deployment["status"]["readyReplicas"] == 1,
            "{}",
            deployment["status"]
        );
        Ok(())
    })
    .await?;
    until("the ProtectedMcpServer is Ready again", || async {
        let args = [
            "wait",
            "--for=condition=Ready",
            "--timeout=1s",
            "pms/notes",
            "-n",
            NAMESPACE,
        ];
        ensure!(output("kubectl", &args).await?.success);
        Ok(())
    })
    .await
}

/// What tells a version of an object from the next: its resource version, or without the status, where that is written by
/// others whenever a pod misses a probe.
fn version(item: &Value) -> Result<String> {
    const STATUS_OF_OTHERS: [&str; 3] = ["Deployment", "StatefulSet", "PodDisruptionBudget"];
    if !STATUS_OF_OTHERS.contains(&text(item, "/kind")?.as_str()) {
        return text(item, "/metadata/resourceVersion");
    }
    let mut item = item.clone();
    item["status"].take();
    for field in ["resourceVersion", "managedFields"] {
        item["metadata"][field].take();
    }
    Ok(item.to_string())
}

/// The versions of everything that the operator writes.
pub(crate) async fn versions() -> Result<Vec<(String, String)>> {
    let kinds = "mas,pms,moc,deployments,statefulsets,services,configmaps,secrets,serviceaccounts,networkpolicies,pdb";
    let list = get(&[kinds, "-n", NAMESPACE]).await?;
    let items = list["items"].as_array().context("no items")?;
    items
        .iter()
        .map(|item| {
            let name = format!("{} {}", text(item, "/kind")?, text(item, "/metadata/name")?);
            Ok((name, version(item)?))
        })
        .collect()
}

/// Reconciles that are asked for write nothing. What earlier scenarios caused may still be under way in the first
/// rounds; once a round wrote nothing, none does any more.
pub(crate) async fn steady() -> Result<()> {
    setup::notes().await?;
    until("a reconcile writes nothing", reconcile_writes_nothing).await?;
    reconcile_writes_nothing().await
}

/// Asks for a reconcile by an annotation that concerns nobody: it leaves every resource version but the annotated one's
/// as it was.
pub(crate) async fn reconcile_writes_nothing() -> Result<()> {
    let before = versions().await?;
    let reconciles = reconcile_count().await?;
    let annotation = format!("end-to-end=looked-after-{reconciles}");
    kubectl(&["annotate", "pms", "notes", &annotation, "--overwrite"]).await?;
    until("the annotated object was reconciled", || async {
        ensure!(reconcile_count().await? > reconciles, "no reconcile since");
        Ok(())
    })
    .await?;
    let after = versions().await?;
    ensure!(before.len() == after.len(), "objects came or went");
    for ((name, old), (_, new)) in before.iter().zip(&after) {
        let touched = name == "ProtectedMcpServer notes";
        ensure!(touched || old == new, "{name} was written");
    }
    Ok(())
}

/// How many reconciles the leader has done, by its metrics.
async fn reconcile_count() -> Result<f64> {
    let metrics = metrics_of(SYSTEM, &leader().await?).await?;
    let sum = metrics
        .lines()
        .filter(|line| !line.starts_with('#') && line.contains("reconcil"))
        .filter(|line| line.contains("_total") || line.contains("_count"))
        .filter_map(|line| line.split_whitespace().last()?.parse::<f64>().ok())
        .sum::<f64>();
    ensure!(sum > 0.0, "no reconcile in the leader's metrics");
    Ok(sum)
}

/// What a pod of the operator says of itself, through the API server.
pub(crate) async fn metrics_of(namespace: &str, pod: &str) -> Result<String> {
    let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}:9090/proxy/metrics");
    let output = output("kubectl", &["get", "--raw", &path]).await?;
    ensure!(output.success, "{}", output.stderr);
    Ok(output.stdout)
}

/// Applies a copy of the protected server `notes`, changed, under another name and resource.
async fn apply_copy(name: &str, change: impl FnOnce(&mut Value)) -> Result<()> {
    let notes = object("pms", "notes").await?;
    let mut copy = json!({ "apiVersion": notes["apiVersion"], "kind": notes["kind"],
        "metadata": { "name": name }, "spec": notes["spec"] });
    copy["spec"]["resource"] = "http://localhost:9003/mcp".into();
    copy["spec"]["service"] = json!({});
    change(&mut copy["spec"]);
    let args = ["apply", "--server-side", "-n", NAMESPACE, "-f", "-"];
    kubectl_stdin(&args, &copy.to_string()).await?;
    Ok(())
}

/// Waits until the Ready condition has this reason and a message that contains `part`.
async fn is_not_ready(name: &str, reason: &str, part: &str) -> Result<()> {
    until("the condition says what is wrong", || async {
        let server = object("pms", name).await?;
        let conditions = server["status"]["conditions"].as_array();
        let mut conditions = conditions.context("no conditions")?.iter();
        let ready = conditions.find(|condition| condition["type"] == "Ready");
        let ready = ready.context("no Ready")?;
        let says = ready["reason"] == reason && text(ready, "/message")?.contains(part);
        ensure!(ready["status"] == "False" && says, "{ready}");
        Ok(())
    })
    .await
}

/// A resource that refers to what is not there is not Ready, and says why, to the user.
pub(crate) async fn broken() -> Result<()> {
    setup::notes().await?;
    apply_copy("broken", |spec| {
        spec["authServerRef"]["name"] = "not-there".into();
    })
    .await?;
    is_not_ready("broken", "AuthServerNotFound", "not-there").await?;
    show("kubectl", &["describe", "pms", "broken", "-n", NAMESPACE]).await?;
    kubectl(&["delete", "pms", "broken", "--timeout=60s"]).await?;
    Ok(())
}

/// A volume whose Secret is missing keeps the pod from starting. Only its events say so, and the status repeats it.
pub(crate) async fn unmounted() -> Result<()> {
    setup::notes().await?;
    apply_copy("unmounted", |spec| {
        let server = &mut spec["server"]["template"];
        server["volumes"] = json!([{ "name": "extra", "secret": { "secretName": "not-there" } }]);
        server["volumeMounts"] = json!([{ "name": "extra", "mountPath": "/extra" }]);
    })
    .await?;
    is_not_ready(
        "unmounted",
        "PodsNotReady",
        "secret \"not-there\" not found",
    )
    .await?;
    kubectl(&["delete", "pms", "unmounted", "--timeout=60s"]).await?;
    Ok(())
}

/// The leader's pod is killed; then a leader dies without giving up its lease, as on a node that is
/// lost. Each time another takes over and works.
pub(crate) async fn leader_killed() -> Result<()> {
    setup::notes().await?;
    let old = leader().await?;
    let args = [
        "delete",
        "pod",
        &old,
        "-n",
        SYSTEM,
        "--grace-period=0",
        "--force",
    ];
    run("kubectl", &args).await?;
    another_leads(&old).await?;

    let lost = "a-pod-of-a-lost-node";
    let patch = format!(r#"{{"spec":{{"holderIdentity":"{lost}"}}}}"#);
    let args = [
        "patch",
        "lease",
        "mcp-auth-operator",
        "-n",
        SYSTEM,
        "--type=merge",
        "-p",
        &patch,
    ];
    run("kubectl", &args).await?;
    another_leads(lost).await?;
    scale_and_wait().await
}

async fn another_leads(old: &str) -> Result<()> {
    until("another leads", || async {
        ensure!(leader().await? != old, "{old} still holds the lease");
        Ok(())
    })
    .await
}

/// Memory of the operators, as the kernel of their node tells it. The images hold dev builds, so what
/// counts is what the program allocated (`RssAnon`), not the pages of its unoptimised file.
pub(crate) async fn memory() -> Result<()> {
    setup::notes().await?;
    let resources = names("pms").await?.len();
    let pods = get(&["pods", "-n", SYSTEM]).await?;
    for pod in pods["items"].as_array().context("no items")? {
        let name = text(pod, "/metadata/name")?;
        let args = ["exec", &name, "-n", SYSTEM, "--", "cat", "/proc/1/status"];
        let status = run("kubectl", &args).await?;
        let Memory {
            allocated,
            resident,
        } = Memory::parse(&status)?;
        println!(
            "    {allocated:.1} MB allocated, {resident:.1} MB resident, with {resources} protected server"
        );
        ensure!(allocated < 40.0, "more than 40 MB");
    }
    Ok(())
}
