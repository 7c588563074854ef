//! A platform that decides which user pods run as, as OpenShift does.

use anyhow::{Result, bail, ensure};
use mcp_auth_e2e::command::{kubectl_stdin, run};
use mcpauth_test_support::{mcp::Session, oauth::Client, wait::until};
use serde_json::{Value, json};

use crate::{
    access::WRITE,
    cluster::{ISSUER, NAMESPACE, RESOURCE, SYSTEM, objects},
    install, postgres, remove, setup,
};

const POLICIES: &str = "e2e/tests/kind/assigned-ids.yaml";
/// As the policies have it.
const ASSIGNED: u64 = 1_000_650_000;

/// `examples/notes-postgres.yaml` in a namespace whose pods get a uid of the platform's, and may name none.
pub(crate) async fn assigned_ids() -> Result<()> {
    setup::nothing_else().await?;
    run("kubectl", &["apply", "-f", POLICIES]).await?;
    label("end-to-end/ids=assigned").await?;
    until("the policies are in force", in_force).await?;
    let options = ["--set", "workloads.userIds=platform"];
    let chart = "charts/mcp-auth-operator";
    install::release(chart, SYSTEM, &install::tag(), &options).await?;

    postgres::apply().await?;
    let pods = objects("pods", "app.kubernetes.io/managed-by=mcp-auth-operator").await?;
    ensure!(pods.len() == 3, "{} pods", pods.len());
    for pod in pods {
        let context = &pod["spec"]["securityContext"];
        ensure!(context["runAsUser"] == ASSIGNED, "{context}");
    }
    let client = Client::register(ISSUER).await?;
    let token = client.authorize(RESOURCE, WRITE).await?.access;
    let session = Session::begin(RESOURCE, &token).await?;
    session.must_call("list_notes", &json!({})).await?;

    remove::postgres().await?;
    label("end-to-end/ids-").await?;
    run("kubectl", &["delete", "-f", POLICIES]).await?;
    Ok(())
}

async fn label(label: &str) -> Result<()> {
    run("kubectl", &["label", "namespace", NAMESPACE, label]).await?;
    Ok(())
}

/// A pod that names no uid gets one, and a pod that names one is refused.
async fn in_force() -> Result<()> {
    let admitted = create(&json!({})).await?;
    ensure!(
        admitted["spec"]["securityContext"]["runAsUser"] == ASSIGNED,
        "{admitted}"
    );
    if create(&json!({ "runAsUser": 65532 })).await.is_ok() {
        bail!("a pod with another uid was admitted");
    }
    Ok(())
}

async fn create(context: &Value) -> Result<Value> {
    let mut context = context.clone();
    context["runAsNonRoot"] = true.into();
    context["seccompProfile"] = json!({ "type": "RuntimeDefault" });
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "probe" }, "spec": {
        "securityContext": context,
        "containers": [{ "name": "probe", "image": "probe", "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } } }],
    }});
    let args = [
        "create",
        "--dry-run=server",
        "-o",
        "json",
        "-n",
        NAMESPACE,
        "-f",
        "-",
    ];
    let created = kubectl_stdin(&args, &pod.to_string()).await?;
    Ok(serde_json::from_str(&created)?)
}
