//! From the previous chart to this one (`charts/mcp-auth-operator/README.md`).
//!
//! Until there is a release, the previous chart is this one under another version, and its images are these under another
//! tag: what an upgrade changes in any case.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, ensure};
use mcp_auth_e2e::command::{kubectl_stdin, run};
use mcpauth_test_support::{oauth::Client, wait::until};
use serde_json::{Value, json};

use crate::{
    access::WRITE,
    cluster::{ISSUER, NAMESPACE, RESOURCE, SYSTEM, kubectl, object, objects, ready, text},
    install,
    postgres::{AUTHSERVER, still_valid},
    rollout::{PODS, call_until},
    setup,
};

/// The ConfigMap that a proxy of the previous operator reads, if its format was another one.
const PREVIOUS_CONFIG: &str = "notes-proxy-v0";
const PINNED: &str = "mcpauth.io/protected-server=pinned";

fn previous_tag() -> String {
    std::env::var("MCP_AUTH_PREVIOUS_TAG").unwrap_or_else(|_| "previous".to_owned())
}

/// Pods are replaced once, for the new images and without a lost call; those whose images the spec names are not touched.
/// Running proxies keep the configuration in their format. Tokens live.
pub(crate) async fn from_the_previous_chart() -> Result<()> {
    setup::notes_on_postgres().await?;
    pinned_server().await?;
    previous_chart().await?;
    format_of_before().await?;
    let client = Client::register(ISSUER).await?;
    let kept = client.authorize(RESOURCE, WRITE).await?;

    let before = Seen::now().await?;
    let stop = Arc::new(AtomicBool::new(false));
    let calling = {
        let (stop, token) = (Arc::clone(&stop), kept.access.clone());
        tokio::spawn(async move { call_until(&stop, &token).await })
    };
    install::chart().await?;
    until("all pods have the new images", || async {
        for selector in [PODS, AUTHSERVER] {
            let pods = objects("pods", selector).await?;
            let images = pods.iter().map(images).collect::<Vec<_>>().concat();
            let is_old = |image: &String| image.ends_with(&format!(":{}", previous_tag()));
            ensure!(pods.len() == 1 && !images.iter().any(is_old), "{images:?}");
        }
        Ok(())
    })
    .await?;
    ready("mas,pms,moc").await?;
    stop.store(true, Ordering::Relaxed);
    let calls = calling.await??;
    println!("      {calls} calls during the upgrade, none failed");
    ensure!(calls > 10, "only {calls} calls were made");

    let after = Seen::now().await?;
    ensure!(
        after.pinned == before.pinned,
        "a pod was replaced or restarted for no reason"
    );
    ensure!(after.restarts == 0, "a container was restarted");
    ensure!(
        after.revision == before.revision + 1,
        "{} rollouts",
        after.revision - before.revision
    );
    // Whoever still read it could.
    object("configmap", PREVIOUS_CONFIG).await?;
    still_valid(&client, &kept, &kept).await?;
    kubectl(&["delete", "configmap", PREVIOUS_CONFIG]).await?;
    kubectl(&["delete", "pms", "pinned", "--timeout=60s"]).await?;
    Ok(())
}

/// What an upgrade may change, and what not.
struct Seen {
    /// The pod whose images the spec names, and the restarts of its containers.
    pinned: BTreeSet<String>,
    /// Of all containers of ours.
    restarts: u64,
    /// How often the pods of the notes server were rolled out.
    revision: u64,
}

impl Seen {
    async fn now() -> Result<Self> {
        let mut pinned = BTreeSet::new();
        for pod in objects("pods", PINNED).await? {
            pinned.insert(format!(
                "{} {}",
                text(&pod, "/metadata/uid")?,
                restarts(&pod)
            ));
        }
        let mut sum = 0;
        for selector in [PODS, AUTHSERVER, PINNED] {
            sum += objects("pods", selector)
                .await?
                .iter()
                .map(restarts)
                .sum::<u64>();
        }
        let deployment = object("deployment", "notes").await?;
        let revision = "/metadata/annotations/deployment.kubernetes.io~1revision";
        Ok(Self {
            pinned,
            restarts: sum,
            revision: text(&deployment, revision)?.parse()?,
        })
    }
}

fn statuses(pod: &Value) -> impl Iterator<Item = &Value> {
    let pointers = ["/status/containerStatuses", "/status/initContainerStatuses"];
    let lists = pointers
        .into_iter()
        .filter_map(|at| pod.pointer(at)?.as_array());
    lists.flatten()
}

fn restarts(pod: &Value) -> u64 {
    statuses(pod)
        .filter_map(|status| status["restartCount"].as_u64())
        .sum()
}

fn images(pod: &Value) -> Vec<String> {
    let pointers = ["/spec/containers", "/spec/initContainers"];
    let lists = pointers
        .into_iter()
        .filter_map(|at| pod.pointer(at)?.as_array());
    lists
        .flatten()
        .filter_map(|c| c["image"].as_str())
        .map(str::to_owned)
        .collect()
}

/// Installs the previous chart, and waits until its images run.
async fn previous_chart() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().to_str().context("a path that is not UTF-8")?;
    let chart = [
        "package",
        "charts/mcp-auth-operator",
        "--version",
        "0.0.1",
        "-d",
        path,
    ];
    run("helm", &chart).await?;
    let chart = format!("{path}/mcp-auth-operator-0.0.1.tgz");
    install::release(&chart, SYSTEM, &previous_tag(), &[]).await?;
    for (name, pod) in [
        ("notes", "initContainers"),
        ("auth-authserver", "containers"),
    ] {
        until("the previous image is asked for", || async {
            let image =
                object("deployment", name).await?["spec"]["template"]["spec"][pod][0]["image"]
                    .to_string();
            ensure!(
                image.ends_with(&format!(":{}\"", previous_tag())),
                "{image}"
            );
            Ok(())
        })
        .await?;
        let deployment = format!("deployment/{name}");
        kubectl(&["rollout", "status", &deployment, "--timeout=120s"]).await?;
    }
    ready("mas,pms,moc").await
}

/// A second server whose images are all named by its spec.
async fn pinned_server() -> Result<()> {
    let mut server = object("pms", "notes").await?;
    server["metadata"] = json!({ "name": "pinned" });
    server["spec"]["resource"] = "http://localhost:9004/mcp".into();
    server["spec"]["service"] = json!({});
    server["spec"]["proxy"]["image"] =
        format!("ghcr.io/mcpauth/resource-proxy:{}", previous_tag()).into();
    if let Some(server) = server.as_object_mut() {
        server.remove("status");
    }
    let args = ["apply", "--server-side", "-n", NAMESPACE, "-f", "-"];
    kubectl_stdin(&args, &server.to_string()).await?;
    Ok(())
}

/// Makes the notes server's pod read what an operator of another format has rendered: a ConfigMap of another name, which no
/// operator of today writes.
async fn format_of_before() -> Result<()> {
    let args = [
        "scale",
        "deployment",
        "mcp-auth-operator",
        "-n",
        SYSTEM,
        "--replicas=0",
    ];
    run("kubectl", &args).await?;
    run(
        "kubectl",
        &[
            "wait",
            "--for=delete",
            "pods",
            "--all",
            "-n",
            SYSTEM,
            "--timeout=60s",
        ],
    )
    .await?;
    let mut config = object("configmap", "notes-proxy-v1").await?;
    let owner = config["metadata"]["ownerReferences"].clone();
    config["metadata"] = json!({ "name": PREVIOUS_CONFIG, "ownerReferences": owner });
    kubectl_stdin(&["apply", "-n", NAMESPACE, "-f", "-"], &config.to_string()).await?;
    let deployment = object("deployment", "notes").await?;
    let volumes = deployment
        .pointer("/spec/template/spec/volumes")
        .and_then(Value::as_array);
    let at = volumes
        .context("no volumes")?
        .iter()
        .position(|v| v["configMap"]["name"] == "notes-proxy-v1");
    let at = at.context("no volume with the configuration")?;
    let path = format!("/spec/template/spec/volumes/{at}/configMap/name");
    let patch = json!([{ "op": "replace", "path": path, "value": PREVIOUS_CONFIG }]);
    kubectl(&[
        "patch",
        "deployment",
        "notes",
        "--type=json",
        "-p",
        &patch.to_string(),
    ])
    .await?;
    kubectl(&["rollout", "status", "deployment/notes", "--timeout=120s"]).await?;
    Ok(())
}
