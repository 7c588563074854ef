//! Pods that are replaced, and servers that do not respond.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, ensure};
use mcpauth_test_support::{mcp::Session, oauth::Client, wait::until};
use serde_json::{Value, json};

use crate::{
    access::READ,
    cluster::{ISSUER, RESOURCE, kubectl, object, objects, ready},
    setup,
};

/// The pods of the notes server.
pub(crate) const PODS: &str = "mcpauth.io/protected-server=notes";

async fn patch(patch: &Value) -> Result<()> {
    let patch = patch.to_string();
    kubectl(&["patch", "pms", "notes", "--type=merge", "-p", &patch]).await?;
    Ok(())
}

/// A client that calls all the time, with a session of its own for each call, as agents come and go. A session in the memory
/// of the server ends with its pod: a client that is told so by 404 begins a new one (MCP, session management).
pub(crate) async fn call_until(stop: &AtomicBool, token: &str) -> Result<u32> {
    let mut calls = 0;
    while !stop.load(Ordering::Relaxed) {
        match call(token).await {
            Ok(()) => calls += 1,
            Err(error) if format!("{error:#}").contains("status: 404") => {}
            Err(error) => return Err(error.context(format!("call {calls}"))),
        }
    }
    Ok(calls)
}

async fn call(token: &str) -> Result<()> {
    let session = Session::begin(RESOURCE, token).await?;
    session.must_call("list_notes", &json!({})).await?;
    Ok(())
}

/// The old pod serves until the new one does, and stops after its last request.
pub(crate) async fn no_request_is_lost() -> Result<()> {
    setup::notes().await?;
    let client = Client::register(ISSUER).await?;
    let token = client.authorize(RESOURCE, READ).await?.access;
    let stop = Arc::new(AtomicBool::new(false));
    let calling = {
        let (stop, token) = (Arc::clone(&stop), token.clone());
        tokio::spawn(async move { call_until(&stop, &token).await })
    };
    let before = objects("pods", PODS).await?;
    let template = json!({ "metadata": { "annotations": { "example.com/rollout": "1" } } });
    patch(&json!({ "spec": { "podTemplate": template } })).await?;
    ready("pms").await?;
    until("the old pod has ended", || async {
        let pods = objects("pods", PODS).await?;
        let old = &before[0]["metadata"]["uid"];
        ensure!(
            pods.iter().all(|pod| pod["metadata"]["uid"] != *old),
            "it is still there"
        );
        Ok(())
    })
    .await?;
    stop.store(true, Ordering::Relaxed);
    let calls = calling.await??;
    ensure!(calls > 10, "only {calls} calls were made");
    println!("      {calls} calls, none failed");
    Ok(())
}

/// A server that listens on another port than the spec says never gets a request, and the status says why.
pub(crate) async fn wrong_port() -> Result<()> {
    setup::notes().await?;
    let port = object("pms", "notes").await?["spec"]["server"]["template"]["http"]["port"].clone();
    let with = |port: &Value| json!({ "spec": { "server": { "template": { "http": { "port": port } } } } });
    patch(&with(&json!(8123))).await?;
    until("Ready names the port", || async {
        let server = object("pms", "notes").await?;
        let conditions = server["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let ready = conditions
            .iter()
            .find(|c| c["type"] == "Ready")
            .context("no Ready")?;
        let message = ready["message"].as_str().unwrap_or_default();
        let named = message.contains("nothing listens at http://127.0.0.1:8123/mcp");
        ensure!(ready["status"] == "False" && named, "{ready}");
        Ok(())
    })
    .await?;
    patch(&with(&port)).await?;
    ready("pms").await
}
