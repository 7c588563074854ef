//! Installation, and what a user sees first.

use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use mcp_auth_e2e::command::{get, kubectl_stdin, run, show};
use mcpauth_test_support::wait::until;

use crate::{
    cluster::{ISSUER, NAMESPACE, RESOURCE, SYSTEM, kubectl, object, ready, text},
    setup,
};

/// The version of the images; `dev` is what the Makefile builds.
fn tag() -> String {
    std::env::var("MCP_AUTH_TAG").unwrap_or_else(|_| "dev".to_owned())
}

/// An annotation of the operator's pods whose value no other run has. A run that was interrupted leaves an operator
/// under the same image tag, perhaps of an older program; without a change to its pods, helm would keep it.
const RUN: &str = "end-to-end-run";

static THIS_RUN: LazyLock<String> = LazyLock::new(|| {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    format!("run-{}", now.unwrap_or_default().as_nanos())
});

pub(crate) async fn chart() -> Result<()> {
    let images: Vec<String> = ["operator", "authserver", "resourceProxy"]
        .iter()
        .map(|image| format!("images.{image}.tag={}", tag()))
        .collect();
    let mut args = vec![
        "upgrade",
        "--install",
        "mcp-auth-operator",
        "charts/mcp-auth-operator",
    ];
    args.extend([
        "--namespace",
        SYSTEM,
        "--create-namespace",
        "--wait",
        "--timeout",
        "180s",
    ]);
    args.extend(images.iter().flat_map(|image| ["--set", image]));
    let run = format!("podAnnotations.{RUN}={}", *THIS_RUN);
    args.extend(["--set-string", &run]);
    show("helm", &args).await?;
    let deployment = get(&["deployment", "mcp-auth-operator", "-n", SYSTEM]).await?;
    ensure!(
        deployment["status"]["readyReplicas"] == 2,
        "{}",
        deployment["status"]
    );
    until("an operator of this run leads", leader_of_this_run).await?;
    let test = ["test", "mcp-auth-operator", "--namespace", SYSTEM];
    let passed = show("helm", &test).await?;
    ensure!(passed.contains("Succeeded"), "{passed}");
    Ok(())
}

/// The pod that leads.
pub(crate) async fn leader() -> Result<String> {
    let lease = get(&["lease", "mcp-auth-operator", "-n", SYSTEM]).await?;
    let holder = text(&lease, "/spec/holderIdentity")?;
    ensure!(!holder.is_empty(), "nobody leads");
    // Behind the pod's name is what tells its processes apart.
    let pod = holder.split('_').next().unwrap_or_default();
    Ok(pod.to_owned())
}

async fn leader_of_this_run() -> Result<()> {
    let leader = leader().await?;
    let pod = get(&["pod", &leader, "-n", SYSTEM]).await?;
    let run = pod["metadata"]["annotations"][RUN].as_str();
    let run = run.with_context(|| format!("{leader} is not of this suite"))?;
    ensure!(run == *THIS_RUN, "{leader} is of an earlier run, {run}");
    Ok(())
}

pub(crate) async fn wrong_fields() -> Result<()> {
    setup::operator().await?;
    let auth_server = |spec: &str| {
        format!(
            "{{apiVersion: mcpauth.io/v1alpha1, kind: McpAuthServer, metadata: {{name: wrong}}, spec: {spec}}}"
        )
    };
    for (named, spec) in [
        (
            "issuer",
            "{issuer: http://example.com, storage: {memory: {}}, login: {localUsers: {secretRef: {name: x}}}}",
        ),
        (
            "storage",
            "{issuer: https://a.example, storage: {}, login: {localUsers: {secretRef: {name: x}}}}",
        ),
        (
            "login",
            "{issuer: https://a.example, storage: {memory: {}}, login: {developmentAutoApprove: {}}}",
        ),
        (
            "replicas",
            "{issuer: https://a.example, replicas: -1, storage: {memory: {}}, login: {localUsers: {secretRef: {name: x}}}}",
        ),
    ] {
        let args = ["apply", "--dry-run=server", "-n", NAMESPACE, "-f", "-"];
        match kubectl_stdin(&args, &auth_server(spec)).await {
            Ok(_) => bail!("the API server took {spec}"),
            Err(error) => {
                let message = error.to_string();
                ensure!(message.contains(named), "{named} is not named: {message}");
                println!("      {}", message.lines().last().unwrap_or_default());
            }
        }
    }
    Ok(())
}

pub(crate) async fn notes() -> Result<()> {
    kubectl(&["apply", "--server-side", "-f", "examples/notes.yaml"]).await?;
    ready("mas,pms,moc").await?;
    let server = object("pms", "notes").await?;
    ensure!(
        text(&server, "/status/url")? == RESOURCE,
        "{}",
        server["status"]
    );
    until("the issuer answers", || async {
        let url = format!("{ISSUER}/.well-known/oauth-authorization-server");
        reqwest::get(url).await?.error_for_status()
    })
    .await?;
    Ok(())
}

pub(crate) async fn reads_well() -> Result<()> {
    setup::notes().await?;
    let table = show("kubectl", &["get", "mas,pms,moc", "-n", NAMESPACE]).await?;
    for word in ["READY", "REASON", "URL", "AGE", "True", ISSUER, RESOURCE] {
        ensure!(table.contains(word), "{word} is missing");
    }
    for kind in ["mas", "pms", "moc"] {
        let text = run("kubectl", &["describe", kind, "-n", NAMESPACE]).await?;
        for word in [
            "Conditions",
            "Type:                  Ready",
            "Message",
            "Events",
        ] {
            let there =
                text.contains(word) || text.contains(&word.replace("                 ", " "));
            ensure!(there, "{word} is missing:\n{text}");
        }
    }
    Ok(())
}
