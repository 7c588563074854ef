//! Pods that are replaced, and servers that do not respond.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, ensure};
use mcp_auth_e2e::command::run;
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

/// Sessions of the official Python SDK, one after the other, until the file `stop` exists.
async fn python_visits(stop: PathBuf) -> Result<Value> {
    let stop = stop
        .to_str()
        .context("a temporary folder that is not UTF-8")?;
    let python =
        std::env::var("MCP_PYTHON").context("MCP_PYTHON is not set: `make e2e` sets it")?;
    let args = [
        "e2e/client/client.py",
        "visits",
        "--url",
        RESOURCE,
        "--until",
        stop,
    ];
    let printed = run(&python, &args).await?;
    let last = printed.lines().last().unwrap_or_default();
    Ok(serde_json::from_str(last)?)
}

/// Listens, and again when a stream ends, until the session is unknown: its pod has left. Each stream must end as HTTP says.
async fn listen_until_the_pod_leaves(session: &Session) -> Result<u32> {
    let mut streams = 0;
    loop {
        let mut stream = session.listen().await?;
        if stream.status() == 404 && streams > 0 {
            return Ok(streams);
        }
        ensure!(stream.status() == 200, "listening: {}", stream.status());
        streams += 1;
        while stream
            .chunk()
            .await
            .context("the stream was cut off")?
            .is_some()
        {}
    }
}

/// The old pod serves until the new one does, and stops after its last request.
pub(crate) async fn no_request_is_lost() -> Result<()> {
    setup::notes().await?;
    let client = Client::register(ISSUER).await?;
    let token = client.authorize(RESOURCE, READ).await?.access;
    let folder = tempfile::tempdir()?;
    let visits = tokio::spawn(python_visits(folder.path().join("stop")));
    let listener = Session::begin(RESOURCE, &token).await?;
    let listening = tokio::spawn(async move { listen_until_the_pod_leaves(&listener).await });
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
    let streams = listening.await??;
    let next = Session::begin(RESOURCE, &token).await?.listen().await?;
    ensure!(next.status() == 200, "the next stream: {}", next.status());
    std::fs::write(folder.path().join("stop"), "")?;
    let visits = visits.await??;
    // While there are two pods, a session may begin at one and go on at the other.
    let no_error = visits["errors"] == 0 && visits["refusals"] == json!([]);
    ensure!(no_error && visits["calls"].as_u64() > Some(2), "{visits}");
    println!(
        "      {calls} calls, none failed; {streams} streams, none cut off; Python SDK: {visits}"
    );
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
