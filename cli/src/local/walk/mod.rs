//! A scripted client that goes through the whole flow and prints each request.

mod burst;
mod http;
mod mcp;
mod oauth;

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use tokio::time::sleep;

use self::mcp::Session;
use super::{
    relay::{Exchange, Record},
    screen::{Screen, shorten},
};

/// Longer than a proxy caches an introspection.
const CACHED: Duration = Duration::from_millis(1100);

/// The server that the scripted client connects to.
#[derive(Clone, Debug)]
pub struct Target {
    /// Name of the server.
    pub name: String,
    /// Its URL.
    pub resource: String,
    /// Whether the authorization server approves without user interaction.
    pub approves: bool,
    /// The client id to use when clients cannot register themselves.
    pub client_id: Option<String>,
    /// Whether friction is configured.
    pub friction: bool,
}

/// Goes through the eight steps, then calls in a tight loop if friction is configured.
///
/// # Errors
/// The first step that fails.
pub async fn walk(target: &Target, record: &Record, screen: &Screen) -> anyhow::Result<()> {
    if !target.approves {
        screen.heading("Skipping the OAuth flow: it cannot be scripted, because login.localUsers needs a password");
        return Ok(());
    }
    let http = http::client()?;
    let metadata = oauth::discover(&http, target, screen).await?;
    let client_id = oauth::client_id(&http, target, &metadata, screen).await?;
    let code = oauth::authorize(&http, target, &metadata, &client_id, screen).await?;
    let token = oauth::exchange(&http, target, &metadata, &client_id, &code, screen).await?;

    let mut session = Session::start(http, &target.resource, token)
        .await
        .context("step 5: initialize")?;
    let tools = session.tools().await.context("step 5: tools/list")?;
    let call = mcp::choose(&tools).context("step 5: found no tool to call: each one is destructive, or needs arguments other than text")?;
    // Wait until the proxy's cached introspections have expired, so that it introspects again.
    sleep(CACHED).await;
    record.take();
    screen.step(5, "Call a tool with the access token");
    screen.sent(&format!(
        "POST {}  Authorization: Bearer {}",
        target.resource,
        shorten(session.token())
    ));
    screen.note(&format!("tools/call {} {}", call.name, call.arguments));
    let answer = session.call(&call).await.context("step 5: tools/call")?;
    let exchange = record
        .take()
        .context("step 6: the proxy did not introspect the token: look for errors in its log")?;
    introspection(&exchange, screen)?;
    screen.step(8, "The tool's result");
    screen.got(&format!("200 {}", http::brief(mcp::content(&answer))));
    ensure!(
        answer["isError"] != true,
        "step 8: the tool returned an error: {answer}"
    );
    if target.friction {
        let repeated = mcp::choose_for_burst(&tools).unwrap_or(call);
        burst::run(&mut session, &repeated, screen).await?;
    }
    Ok(())
}

/// Steps six and seven, from the recorded introspection.
fn introspection(exchange: &Exchange, screen: &Screen) -> anyhow::Result<()> {
    let token = exchange
        .form
        .iter()
        .find(|(name, _)| name == "token")
        .map(|(_, value)| value);
    screen.step(
        6,
        "The proxy introspects the token at the authorization server (RFC 7662)",
    );
    screen.sent(&format!(
        "POST /introspect  token={}  as {}",
        token.map_or_else(|| "none".to_owned(), |token| shorten(token)),
        exchange.caller
    ));
    screen.step(
        7,
        "The authorization server confirms the token, its scopes and its audience",
    );
    let answer = &exchange.answer;
    let shown: serde_json::Map<String, Value> = ["active", "scope", "aud", "sub", "exp"]
        .into_iter()
        .filter_map(|key| Some((key.to_owned(), answer.get(key)?.clone())))
        .collect();
    screen.got(&format!("{} {}", exchange.status, Value::Object(shown)));
    ensure!(
        answer["active"] == true,
        "step 7: the token is not active: {answer}"
    );
    Ok(())
}
