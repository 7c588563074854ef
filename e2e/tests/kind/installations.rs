//! Two installations of the operator, and one that moves (`docs/operations/installations.md`).

use anyhow::{Context as _, Result, ensure};
use mcp_auth_e2e::command::{get, run};
use mcpauth_test_support::{oauth::Client, wait::until};

use crate::{
    access::WRITE,
    cluster::{ELSEWHERE, ISSUER, NAMESPACE, RESOURCE, kubectl, object, ready, text},
    install,
    operator::{metrics_of, reconcile_writes_nothing, versions},
    postgres::{AUTHSERVER, kill, still_valid},
    remove, setup,
};

/// How many objects of each kind `examples/notes.yaml` has.
const OBJECTS: [(&str, &str); 3] = [
    ("McpAuthServer", "auth"),
    ("ProtectedMcpServer", "notes"),
    ("McpOAuthClient", "robot"),
];

/// A second installation says of each object that it leaves it alone, and writes to none, nor to its children.
pub(crate) async fn second_leaves_all_alone() -> Result<()> {
    setup::notes().await?;
    until("a reconcile writes nothing", reconcile_writes_nothing).await?;
    let seen = beside_a_second().await;
    // Whatever was seen: it would claim the objects of later scenarios.
    remove::operator(ELSEWHERE).await?;
    run(
        "kubectl",
        &["delete", "namespace", ELSEWHERE, "--wait=false"],
    )
    .await?;
    seen
}

async fn beside_a_second() -> Result<()> {
    let before = versions().await?;
    // Without the CustomResourceDefinitions, which the first one has.
    let options = ["--set", "replicaCount=1,crds.enabled=false"];
    let chart = "charts/mcp-auth-operator";
    install::release(chart, ELSEWHERE, &install::tag(), &options).await?;
    let pods = get(&["pods", "-n", ELSEWHERE]).await?;
    let pod = text(&pods, "/items/0/metadata/name")?;
    let left_alone = async || {
        let metrics = metrics_of(ELSEWHERE, &pod).await?;
        for (kind, _) in OBJECTS {
            let line = format!("mcpauth_operator_objects_claimed_elsewhere{{kind=\"{kind}\"}} 1");
            ensure!(metrics.lines().any(|l| l == line), "no {line}");
        }
        let written = metrics
            .lines()
            .find(|l| l.starts_with("mcpauth_operator_writes_total{"));
        ensure!(written.is_none(), "{written:?}");
        Ok(())
    };
    until("it says what it leaves alone", left_alone).await?;
    // It sees a change, and still has nothing to say or to do about it.
    kubectl(&[
        "annotate",
        "pms,mas,moc",
        "--all",
        "end-to-end=seen-by-both",
        "--overwrite",
    ])
    .await?;
    until("a reconcile writes nothing", reconcile_writes_nothing).await?;
    left_alone().await?;
    for (kind, name) in OBJECTS {
        let selector = format!("reason=ClaimedByAnother,involvedObject.name={name}");
        let events = get(&["events", "-n", NAMESPACE, "--field-selector", &selector]).await?;
        let events = events["items"].as_array().context("no items")?;
        ensure!(events.len() == 1, "{kind} {name}: {events:?}");
        ensure!(events[0]["count"].as_u64().unwrap_or(1) == 1, "{events:?}");
    }
    let annotated = |name: &str| {
        OBJECTS
            .iter()
            .any(|(kind, own)| name == format!("{kind} {own}"))
    };
    let after = versions().await?;
    ensure!(before.len() == after.len(), "objects came or went");
    for ((name, old), (_, new)) in before.iter().zip(&after) {
        ensure!(annotated(name) || old == new, "{name} was written");
    }
    Ok(())
}

/// The operator and all that its chart has in the cluster go: what it made serves on, also in pods that start only
/// then. The chart in another namespace takes it over. Tokens of before are good all the time.
pub(crate) async fn move_operator(from: &str, to: &str) -> Result<()> {
    let client = Client::register(ISSUER).await?;
    let kept = client.authorize(RESOURCE, WRITE).await?;
    remove::operator(from).await?;
    kill(AUTHSERVER).await?;
    let rotated = still_valid(&client, &kept, &kept).await?;
    until("a client registers", || Client::register(ISSUER)).await?;
    take_over(to).await?;
    still_valid(&client, &kept, &rotated).await?;
    Ok(())
}

/// Installs the chart in this namespace and gives it all objects, whose former operator is uninstalled.
async fn take_over(namespace: &str) -> Result<()> {
    install::chart_in(namespace).await?;
    let claim = format!("mcpauth.io/claimed-by={namespace}/mcp-auth-operator");
    let args = [
        "annotate",
        "mas,pms,moc",
        "--all",
        "--all-namespaces",
        "--overwrite",
        &claim,
    ];
    run("kubectl", &args).await?;
    until(
        "the authorization server obeys the new operator",
        || async {
            let config = object("configmap", "auth-authserver-v1").await?;
            let admin = format!("system:serviceaccount:{namespace}:mcp-auth-operator");
            ensure!(
                config["data"].to_string().contains(&admin),
                "{}",
                config["data"]
            );
            let auth = object("mas", "auth").await?;
            let generation = &auth["metadata"]["generation"];
            ensure!(
                auth["status"]["observedGeneration"] == *generation,
                "{}",
                auth["status"]
            );
            Ok(())
        },
    )
    .await?;
    kubectl(&[
        "rollout",
        "status",
        "deployment/auth-authserver",
        "--timeout=120s",
    ])
    .await?;
    ready("mas,pms,moc").await
}
