//! Numbers of pods that somebody else decides.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, ensure};
use mcp_auth_e2e::command::kubectl_stdin;
use mcpauth_test_support::{oauth::Client, wait::until};
use serde_json::json;

use crate::{
    access::WRITE,
    cluster::{ISSUER, NAMESPACE, RESOURCE, kubectl, object, ready},
    operator::reconcile_writes_nothing,
    rollout::call_until,
    setup,
};

/// A HorizontalPodAutoscaler scales our object up. Neither a reconcile nor the manifest, applied again, undoes that.
pub(crate) async fn by_load() -> Result<()> {
    setup::notes().await?;
    let client = Client::register(ISSUER).await?;
    let token = client.authorize(RESOURCE, WRITE).await?.access;
    let stop = Arc::new(AtomicBool::new(false));
    let calling = {
        let (stop, token) = (Arc::clone(&stop), token.clone());
        tokio::spawn(async move { call_until(&stop, &token).await })
    };
    let target = json!({ "apiVersion": "mcpauth.io/v1alpha1", "kind": "ProtectedMcpServer", "name": "notes" });
    let metric = json!({ "type": "Resource", "resource": {
        "name": "cpu", "target": { "type": "Utilization", "averageUtilization": 1 } } });
    let autoscaler = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": { "name": "notes" },
        "spec": { "scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 2, "metrics": [metric] },
    });
    kubectl_stdin(
        &["apply", "-n", NAMESPACE, "-f", "-"],
        &autoscaler.to_string(),
    )
    .await?;
    until("the autoscaler asks for two pods", || async {
        let autoscaler = object("hpa", "notes").await?;
        ensure!(
            autoscaler["status"]["desiredReplicas"] == 2,
            "{}",
            autoscaler["status"]
        );
        Ok(())
    })
    .await?;
    until("two pods are ready", || has_replicas(2)).await?;
    stop.store(true, Ordering::Relaxed);
    let calls = calling.await??;
    ensure!(calls > 10, "only {calls} calls were made");

    until("a reconcile writes nothing", reconcile_writes_nothing).await?;
    // Also over what other scenarios patched.
    let manifest = "examples/notes.yaml";
    kubectl(&[
        "apply",
        "--server-side",
        "--force-conflicts",
        "-f",
        manifest,
    ])
    .await?;
    reconcile_writes_nothing().await?;
    has_replicas(2).await?;

    kubectl(&["delete", "hpa", "notes"]).await?;
    kubectl(&["scale", "pms", "notes", "--replicas=1"]).await?;
    until("one pod is ready", || has_replicas(1)).await?;
    ready("pms").await
}

async fn has_replicas(replicas: u32) -> Result<()> {
    let deployment = object("deployment", "notes").await?;
    let (wanted, status) = (&deployment["spec"]["replicas"], &deployment["status"]);
    ensure!(
        *wanted == replicas && status["readyReplicas"] == replicas,
        "{wanted}, {status}"
    );
    let server = object("pms", "notes").await?;
    ensure!(
        server["status"]["replicas"] == replicas,
        "{}",
        server["status"]
    );
    Ok(())
}
