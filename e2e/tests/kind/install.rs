//! Installation, and what a user sees first.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::LazyLock;

use anyhow::{Context as _, Result, bail, ensure};
use mcp_auth_e2e::command::{get, kubectl_stdin, run, show};
use mcpauth_test_support::wait::until;

use crate::{
    cluster::{ISSUER, NAMESPACE, RESOURCE, SYSTEM, kubectl, object, ready, text},
    setup,
};

/// The version of the images; `dev` is what the Makefile builds.
pub(crate) fn tag() -> String {
    std::env::var("MCP_AUTH_TAG").unwrap_or_else(|_| "dev".to_owned())
}

/// An annotation of the operator's pods whose value no other run has. A run that was interrupted leaves an operator
/// under the same image tag, perhaps of an older program; without a change to its pods, helm would keep it.
const RUN: &str = "end-to-end-run";

static THIS_RUN: LazyLock<String> = LazyLock::new(|| {
    // Seeded by the system's random numbers.
    let random = RandomState::new().build_hasher().finish();
    format!("run-{random:016x}")
});

pub(crate) async fn chart() -> Result<()> {
    chart_in(SYSTEM).await
}

/// `helm test`.
pub(crate) async fn tested() -> Result<()> {
    let test = ["test", "mcp-auth-operator", "--namespace", SYSTEM];
    let passed = show("helm", &test).await?;
    ensure!(passed.contains("Succeeded"), "{passed}");
    Ok(())
}

/// Installs or upgrades the chart in a namespace, and waits until an operator of this run leads there.
pub(crate) async fn chart_in(namespace: &str) -> Result<()> {
    // What another release has of the chart, the CustomResourceDefinitions, is taken over.
    let options = ["--take-ownership"];
    release("charts/mcp-auth-operator", namespace, &tag(), &options).await?;
    let deployment = get(&["deployment", "mcp-auth-operator", "-n", namespace]).await?;
    ensure!(
        deployment["status"]["readyReplicas"] == 2,
        "{}",
        deployment["status"]
    );
    until("an operator of this run leads", || {
        leader_of_this_run(namespace)
    })
    .await
}

/// `helm upgrade --install` of a chart whose images have this tag.
pub(crate) async fn release(
    chart: &str,
    namespace: &str,
    tag: &str,
    options: &[&str],
) -> Result<()> {
    let images =
        ["operator", "authserver", "resourceProxy"].map(|i| format!("images.{i}.tag={tag}"));
    let mut args = vec!["upgrade", "--install", "mcp-auth-operator", chart];
    args.extend(["--namespace", namespace, "--create-namespace"]);
    args.extend(["--wait", "--timeout", "180s"]);
    args.extend(images.iter().flat_map(|image| ["--set", image]));
    let run = format!("podAnnotations.{RUN}={}", *THIS_RUN);
    args.extend(["--set-string", &run]);
    args.extend(options);
    show("helm", &args).await?;
    Ok(())
}

/// The pod that leads.
pub(crate) async fn leader() -> Result<String> {
    leader_in(SYSTEM).await
}

async fn leader_in(namespace: &str) -> Result<String> {
    let lease = get(&["lease", "mcp-auth-operator", "-n", namespace]).await?;
    let holder = text(&lease, "/spec/holderIdentity")?;
    ensure!(!holder.is_empty(), "nobody leads");
    // Behind the pod's name is what tells its processes apart.
    let pod = holder.split('_').next().unwrap_or_default();
    Ok(pod.to_owned())
}

async fn leader_of_this_run(namespace: &str) -> Result<()> {
    let leader = leader_in(namespace).await?;
    let pod = get(&["pod", &leader, "-n", namespace]).await?;
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
