//! Who gets in, and who does not.

use anyhow::{Context as _, Result, bail, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use mcp_auth_e2e::command::{kubectl_stdin, show};
use mcpauth_test_support::{
    mcp::{Reply, Session},
    oauth::{Client, http},
    wait::until,
};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    cluster::{ISSUER, NAMESPACE, RESOURCE, kubectl, names, object, ready, text},
    setup,
};

pub(crate) const READ: &str = "notes:read";
pub(crate) const WRITE: &str = "notes:write";

/// What a note is made of.
pub(crate) fn note() -> Value {
    json!({ "title": "end to end", "body": "written by the suite" })
}

pub(crate) async fn python_client() -> Result<()> {
    setup::notes().await?;
    let python = std::env::var("MCP_PYTHON").context(
        "MCP_PYTHON is not set: a Python with e2e/client/requirements.txt; `make e2e` sets it",
    )?;
    let transcript = show(
        &python,
        &["e2e/client/client.py", "walk", "--url", RESOURCE],
    )
    .await?;
    for step in [
        "oauth-protected-resource",
        "authorize",
        "token",
        "tools/list",
        "tools/call",
    ] {
        ensure!(transcript.contains(step), "the transcript lacks {step}");
    }
    Ok(())
}

/// The client_credentials grant with what the McpOAuthClient's Secret holds.
pub(crate) async fn robot() -> Result<()> {
    setup::notes().await?;
    for name in names("moc").await? {
        let client = object("moc", &name).await?;
        let robot = client["spec"]["grantTypes"]
            .to_string()
            .contains("client_credentials");
        if !robot {
            continue;
        }
        let secret = match client.pointer("/spec/secret/name").and_then(Value::as_str) {
            Some(secret) => secret.to_owned(),
            None => format!("{name}-oauth-client"),
        };
        return robot_is_let_in(&object("secret", &secret).await?).await;
    }
    bail!("examples/notes.yaml has no McpOAuthClient with client_credentials")
}

/// The client in this Secret gets a token, which opens the server.
pub(crate) async fn robot_is_let_in(secret: &Value) -> Result<()> {
    let value = |key: &str| -> Result<String> {
        let encoded = text(secret, &format!("/data/{key}"))?;
        Ok(String::from_utf8(STANDARD.decode(encoded)?)?)
    };
    ensure!(value("issuer")? == ISSUER);
    let token = robot_token(&value("client_id")?, &value("client_secret")?).await?;
    let session = Session::begin(RESOURCE, &token).await?;
    session.must_call("list_notes", &json!({})).await?;
    Ok(())
}

async fn robot_token(id: &str, secret: &str) -> Result<String> {
    let response = http()?
        .post(format!("{ISSUER}/token"))
        .basic_auth(id, Some(secret))
        .form(&[("grant_type", "client_credentials"), ("resource", RESOURCE)])
        .send()
        .await?;
    let status = response.status();
    let body: Value = response.json().await?;
    body["access_token"]
        .as_str()
        .map(str::to_owned)
        .with_context(|| format!("{status}"))
}

pub(crate) async fn read_only() -> Result<()> {
    setup::notes().await?;
    let client = Client::register(ISSUER).await?;
    let tokens = client.authorize(RESOURCE, READ).await?;
    ensure!(tokens.scope == READ, "granted: {}", tokens.scope);
    let session = Session::begin(RESOURCE, &tokens.access).await?;
    session.must_call("list_notes", &json!({})).await?;
    let reply = session.call("create_note", &note()).await?;
    println!(
        "    {} {}",
        reply.status,
        reply.challenge.as_deref().unwrap_or_default()
    );
    refused_for_scope(&reply, WRITE)?;

    let writer = client.authorize(RESOURCE, "notes:read notes:write").await?;
    session
        .with_token(&writer.access)
        .must_call("create_note", &note())
        .await?;
    Ok(())
}

/// Whether the answer is 403 with a challenge that names the scope.
pub(crate) fn refused_for_scope(reply: &Reply, scope: &str) -> Result<()> {
    ensure!(reply.status == StatusCode::FORBIDDEN, "{reply:?}");
    let challenge = reply.challenge.as_deref().context("no challenge")?;
    ensure!(
        challenge.contains(r#"error="insufficient_scope""#),
        "{challenge}"
    );
    ensure!(challenge.contains(scope), "{challenge}");
    ensure!(challenge.contains("resource_metadata="), "{challenge}");
    Ok(())
}

pub(crate) async fn revoked() -> Result<()> {
    setup::notes().await?;
    let client = Client::register(ISSUER).await?;
    let tokens = client.authorize(RESOURCE, READ).await?;
    let session = Session::begin(RESOURCE, &tokens.access).await?;
    session.must_call("list_notes", &json!({})).await?;
    client.revoke(&tokens.access).await?;
    let revoked = Instant::now();
    // The proxy trusts its cache for 900 ms. A call that begins later than a second after the
    // revocation and succeeds is a fault, however slow the machine is.
    loop {
        let begins = revoked.elapsed().as_millis();
        let reply = session.call("list_notes", &json!({})).await?;
        if reply.status == StatusCode::UNAUTHORIZED {
            println!("    refused by the call that began {begins} ms after the revocation");
            let challenge = reply.challenge.context("no challenge")?;
            ensure!(
                challenge.contains(r#"error="invalid_token""#),
                "{challenge}"
            );
            return Ok(());
        }
        ensure!(begins < 1000, "{begins} ms after the revocation: {reply:?}");
    }
}

/// A token for a second protected server does not open the first.
pub(crate) async fn other_server() -> Result<()> {
    setup::notes().await?;
    let mut other = object("pms", "notes").await?;
    let resource = "http://localhost:9002/mcp";
    other["metadata"] = json!({ "name": "other" });
    other["spec"]["resource"] = json!(resource);
    other["spec"]["service"] = json!({});
    if let Some(other) = other.as_object_mut() {
        other.remove("status");
    }
    kubectl_stdin(
        &["apply", "--server-side", "-n", NAMESPACE, "-f", "-"],
        &other.to_string(),
    )
    .await?;
    ready("pms").await?;

    let client = Client::register(ISSUER).await?;
    let theirs = client.authorize(resource, READ).await?;
    let ours = client.authorize(RESOURCE, READ).await?;
    let session = Session::begin(RESOURCE, &ours.access).await?;
    let reply = session
        .with_token(&theirs.access)
        .call("list_notes", &json!({}))
        .await?;
    ensure!(reply.status == StatusCode::UNAUTHORIZED, "{reply:?}");
    let challenge = reply.challenge.context("no challenge")?;
    ensure!(
        challenge.contains(r#"error="invalid_token""#),
        "{challenge}"
    );
    println!("    {} {challenge}", reply.status);

    kubectl(&["delete", "pms", "other", "--timeout=60s"]).await?;
    until("grants for a deleted server are refused", || async {
        match client.refresh(&theirs).await {
            Ok(_) => bail!("refreshed"),
            Err(_) => Ok(()),
        }
    })
    .await
}
