//! Policy that changes while the server runs.

use anyhow::{Result, ensure};
use mcpauth_test_support::{mcp::Session, oauth::Client};
use serde_json::{Value, json};

use crate::{
    access::{READ, WRITE, refused_for_scope},
    cluster::{ISSUER, RESOURCE, kubectl, object, objects, ready, text},
};

/// The pod's uid, and how often each of its containers restarted.
async fn pod() -> Result<(String, Vec<Value>)> {
    let pods = objects("pods", "mcpauth.io/protected-server=notes").await?;
    ensure!(pods.len() == 1, "{} pods of the notes server", pods.len());
    let statuses = ["/status/containerStatuses", "/status/initContainerStatuses"];
    let restarts = statuses
        .iter()
        .filter_map(|pointer| pods[0].pointer(pointer)?.as_array())
        .flatten()
        .map(|status| status["restartCount"].clone())
        .collect();
    Ok((text(&pods[0], "/metadata/uid")?, restarts))
}

/// Makes `list_notes` need the scope for writing, and sets friction: all this reaches the proxy, which goes on.
pub(crate) async fn strict() -> Result<()> {
    let client = Client::register(ISSUER).await?;
    let reader = client.authorize(RESOURCE, READ).await?;
    let session = Session::begin(RESOURCE, &reader.access).await?;
    session.must_call("list_notes", &json!({})).await?;
    let before = pod().await?;

    let server = object("pms", "notes").await?;
    let mut rules = server["spec"]["access"]["rules"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    rules.insert(0, json!({ "tools": ["list_notes"], "scopes": [WRITE] }));
    let patch = json!({ "spec": {
        "access": { "rules": rules },
        "friction": {
            "rate": { "calls": 10, "periodSeconds": 1 },
            "groups": null, "subjectRate": null, "resourceRate": null,
            "halfLifeSeconds": 2, "warmupCalls": 5,
        },
    }});
    kubectl(&[
        "patch",
        "pms",
        "notes",
        "--type=merge",
        "-p",
        &patch.to_string(),
    ])
    .await?;
    // Ready is: under the policy as written.
    ready("pms").await?;
    refused_for_scope(&session.call("list_notes", &json!({})).await?, WRITE)?;
    let after = pod().await?;
    ensure!(
        before == after,
        "the pod was restarted: {before:?}, then {after:?}"
    );
    Ok(())
}
