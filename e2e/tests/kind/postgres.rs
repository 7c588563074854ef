//! State that outlives the pods.

use anyhow::{Context as _, Result, ensure};
use mcpauth_test_support::{
    mcp::Session,
    oauth::{Client, Tokens},
    wait::until,
};
use serde_json::json;

use crate::{
    access::WRITE,
    cluster::{ISSUER, RESOURCE, kubectl, object, objects, ready, text},
    page, setup,
};

pub(crate) const AUTHSERVER: &str = "app.kubernetes.io/name=mcp-authserver";
const DATABASE: &str = "app.kubernetes.io/name=postgres";

pub(crate) async fn apply() -> Result<()> {
    kubectl(&[
        "apply",
        "--server-side",
        "-f",
        "examples/notes-postgres.yaml",
    ])
    .await?;
    ready("mas,pms,moc").await?;
    until("a client registers", || Client::register(ISSUER)).await?;
    Ok(())
}

/// The authserver's pod is killed, then the database's. After each, the same client, access token
/// and refresh token work.
pub(crate) async fn pods_killed() -> Result<()> {
    setup::notes_on_postgres().await?;
    let client = Client::register(ISSUER).await?;
    let kept = client.authorize(RESOURCE, WRITE).await?;
    let mut rotated = client.authorize(RESOURCE, WRITE).await?;
    for selector in [AUTHSERVER, DATABASE] {
        kill(selector).await?;
        rotated = still_valid(&client, &kept, &rotated).await?;
    }
    ready("mas,pms,moc").await
}

/// Kills the pods of a label without grace, and waits for others that are ready.
pub(crate) async fn kill(selector: &str) -> Result<()> {
    let mut old = Vec::new();
    for pod in objects("pods", selector).await? {
        old.push(text(&pod, "/metadata/uid")?);
    }
    ensure!(!old.is_empty(), "no pod has {selector}");
    kubectl(&[
        "delete",
        "pods",
        "-l",
        selector,
        "--grace-period=0",
        "--force",
    ])
    .await?;
    until("new pods are ready", || async {
        let pods = objects("pods", selector).await?;
        ensure!(!pods.is_empty(), "no pods");
        for pod in pods {
            let uid = text(&pod, "/metadata/uid")?;
            ensure!(!old.contains(&uid), "the old pod is there");
            let conditions = pod["status"]["conditions"].to_string();
            ensure!(
                conditions.contains(r#""status":"True","type":"Ready""#),
                "not ready: {conditions}"
            );
        }
        Ok(())
    })
    .await
}

/// The access token opens the server, the refresh token refreshes, the client authorizes anew. A
/// service that is coming up is waited for; a token that is refused stays refused.
pub(crate) async fn still_valid(
    client: &Client,
    kept: &Tokens,
    rotated: &Tokens,
) -> Result<Tokens> {
    until("the access token is accepted", || async {
        let session = Session::begin(RESOURCE, &kept.access).await?;
        session.must_call("list_notes", &json!({})).await
    })
    .await?;
    let new = until("the refresh token is accepted", || client.refresh(rotated)).await?;
    let session = Session::begin(RESOURCE, &new.access).await?;
    session.must_call("list_notes", &json!({})).await?;
    until("the client is known", || client.authorize(RESOURCE, WRITE)).await?;
    Ok(new)
}

/// The McpAuthServer is deleted by mistake and applied again: its database, the keys and so every token are still
/// there.
pub(crate) async fn deleted_and_applied_again() -> Result<()> {
    setup::notes_on_postgres().await?;
    let client = Client::register(ISSUER).await?;
    let kept = client.authorize(RESOURCE, WRITE).await?;
    kubectl(&["delete", "mas", "auth", "--timeout=120s"]).await?;
    until("its pods are gone", || async {
        let pods = objects("pods", AUTHSERVER).await?;
        let databases = objects("pods", DATABASE).await?;
        ensure!(pods.is_empty() && databases.is_empty(), "pods are left");
        Ok(())
    })
    .await?;
    apply().await?;
    still_valid(&client, &kept, &kept).await?;
    Ok(())
}

/// The Secret with the database's password is deleted. The volume and all that is in it stay.
pub(crate) async fn password_lost() -> Result<()> {
    setup::notes_on_postgres().await?;
    let client = Client::register(ISSUER).await?;
    let kept = client.authorize(RESOURCE, WRITE).await?;
    let before = hashes().await?;
    kubectl(&["delete", "secret", "auth-authserver-db"]).await?;
    until("database and server get another password", || async {
        let now = hashes().await?;
        let differ = before.iter().zip(&now).all(|(before, now)| before != now);
        ensure!(differ, "{now:?}");
        Ok(())
    })
    .await?;
    for workload in WORKLOADS {
        kubectl(&["rollout", "status", workload, "--timeout=180s"]).await?;
    }
    still_valid(&client, &kept, &kept).await?;
    ready("mas,pms,moc").await
}

const WORKLOADS: [&str; 2] = [
    "statefulset/auth-authserver-db",
    "deployment/auth-authserver",
];

/// What the pods of database and server are to read.
async fn hashes() -> Result<Vec<String>> {
    let mut hashes = Vec::new();
    for workload in WORKLOADS {
        let (kind, name) = workload.split_once('/').context("no kind")?;
        let pointer = "/spec/template/metadata/annotations/mcpauth.io~1config-hash";
        hashes.push(text(&object(kind, name).await?, pointer)?);
    }
    Ok(hashes)
}

/// As `docs/operations/database.md` has it.
pub(crate) async fn dumped_and_restored() -> Result<()> {
    setup::notes_on_postgres().await?;
    let client = Client::register(ISSUER).await?;
    let kept = client.authorize(RESOURCE, WRITE).await?;
    let folder = tempfile::tempdir()?;
    documented("pg_dump", &folder).await?;

    kubectl(&["scale", "mas", "auth", "--replicas=0"]).await?;
    let volume = text(&object("pvc", CLAIM).await?, "/metadata/uid")?;
    kubectl(&["delete", "pvc", CLAIM, "--wait=false"]).await?;
    kill(DATABASE).await?;
    let new = text(&object("pvc", CLAIM).await?, "/metadata/uid")?;
    ensure!(new != volume, "the volume is the old one");

    documented("pg_restore", &folder).await?;
    kubectl(&["scale", "mas", "auth", "--replicas=1"]).await?;
    ready("mas,pms,moc").await?;
    still_valid(&client, &kept, &kept).await?;
    Ok(())
}

const CLAIM: &str = "data-auth-authserver-db-0";

async fn documented(program: &str, folder: &tempfile::TempDir) -> Result<()> {
    page::run_command(DATABASE_PAGE, "Dump and restore", program, folder).await
}

const DATABASE_PAGE: &str = "docs/operations/database.md";
