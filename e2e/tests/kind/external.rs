//! A database that the operator does not run (`docs/operations/database.md`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, ensure};
use mcp_auth_e2e::command::{kubectl_stdin, run};
use mcpauth_test_support::{mcp::Session, oauth::Client, wait::until};
use serde_json::json;

use crate::{
    access::WRITE,
    cluster::{ISSUER, NAMESPACE, RESOURCE, kubectl, object, objects, ready, text},
    page,
    postgres::{AUTHSERVER, still_valid},
    setup,
};

const PAGE: &str = "docs/operations/database.md";
const SECTION: &str = "Changing the password";
const CLIENTS: usize = 3;

/// Two replicas on an external database, whose role is replaced by the documented statements while clients log in,
/// refresh and call without a pause: no request fails. Then the managed database is used again, with the tokens of before.
pub(crate) async fn password_changes() -> Result<()> {
    setup::notes_on_postgres().await?;
    let client = Client::register(ISSUER).await?;
    let of_managed = client.authorize(RESOURCE, WRITE).await?;
    move_to_external().await?;
    still_valid(&client, &of_managed, &of_managed).await?;

    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| tokio::spawn(log_in_until(Arc::clone(&stop))))
        .collect();
    rotate().await?;
    stop.store(true, Ordering::Relaxed);
    let mut rounds = 0;
    for client in clients {
        rounds += client.await??;
    }
    println!("      {rounds} rounds of login, refresh and session; none failed");
    ensure!(rounds > 10, "only {rounds} rounds");
    ready("mas,pms,moc").await?;

    let managed = json!([
        { "op": "remove", "path": "/spec/storage/postgres/external" },
        { "op": "add", "path": "/spec/storage/postgres/managed",
          "value": { "image": "docker.io/library/postgres:15", "size": "1Gi" } },
        { "op": "replace", "path": "/spec/replicas", "value": 1 },
    ]);
    let before = pods().await?;
    kubectl(&[
        "patch",
        "mas",
        "auth",
        "--type=json",
        "-p",
        &managed.to_string(),
    ])
    .await?;
    until("the pods are others", || replaced(&before)).await?;
    ready("mas,pms,moc").await?;
    kubectl(&["delete", "secret", "auth-db"]).await?;
    still_valid(&client, &of_managed, &of_managed).await?;
    Ok(())
}

/// A role and a database beside the managed one, with its contents, in the same server, which runs on when it is no longer
/// used.
async fn move_to_external() -> Result<()> {
    sql("CREATE ROLE auth LOGIN PASSWORD 'one'").await?;
    sql("CREATE DATABASE auth OWNER auth").await?;
    // What a connection from outside does, with less to install.
    let copy =
        "pg_dump -U mcpauth -Fc mcpauth | pg_restore -U mcpauth -d auth --no-owner --role=auth";
    exec(&["sh", "-c", copy]).await?;
    secret("auth", "one").await?;
    let external = json!([
        { "op": "remove", "path": "/spec/storage/postgres/managed" },
        { "op": "add", "path": "/spec/storage/postgres/external",
          "value": { "urlSecretRef": { "name": "auth-db", "key": "uri" } } },
        { "op": "add", "path": "/spec/replicas", "value": 2 },
    ]);
    let before = pods().await?;
    kubectl(&[
        "patch",
        "mas",
        "auth",
        "--type=json",
        "-p",
        &external.to_string(),
    ])
    .await?;
    until("the pods are others", || replaced(&before)).await?;
    ready("mas,pms,moc").await?;
    let auth = object("mas", "auth").await?;
    let conditions = auth["status"]["conditions"].to_string();
    ensure!(conditions.contains("DatabaseLeftBehind"), "{conditions}");
    Ok(())
}

/// By the page: a second role, its URL in the Secret, then the first role goes.
async fn rotate() -> Result<()> {
    let statements = page::lines(PAGE, SECTION, "sql").await?;
    let of = |what: &str| {
        let line = statements.iter().find(|line| line.contains(what));
        line.with_context(|| format!("{PAGE}: no statement with {what}"))
    };
    sql(&of("CREATE ROLE")?.replace("NEW-PASSWORD", "two")).await?;
    sql(of("SET role")?).await?;
    let before = pods().await?;
    secret("auth_2", "two").await?;
    until("the pods are others", || replaced(&before)).await?;
    until("no session of the first role is left", || async {
        let count = sql(of("pg_stat_activity")?).await?;
        ensure!(count.trim() == "0", "{count}");
        Ok(())
    })
    .await?;
    sql(of("NOLOGIN")?).await?;
    Ok(())
}

/// A client that logs in, refreshes and opens a session with a new token all the time. Any failure ends it.
async fn log_in_until(stop: Arc<AtomicBool>) -> Result<u32> {
    let client = Client::register(ISSUER).await?;
    let mut rounds = 0;
    while !stop.load(Ordering::Relaxed) {
        log_in(&client)
            .await
            .with_context(|| format!("round {rounds}"))?;
        rounds += 1;
    }
    Ok(rounds)
}

async fn log_in(client: &Client) -> Result<()> {
    let tokens = client.authorize(RESOURCE, WRITE).await?;
    let tokens = client.refresh(&tokens).await?;
    // No tool: friction would delay that.
    Session::begin(RESOURCE, &tokens.access).await?;
    Ok(())
}

async fn sql(statement: &str) -> Result<String> {
    exec(&["psql", "-U", "mcpauth", "-Atc", statement]).await
}

async fn exec(command: &[&str]) -> Result<String> {
    let pod = "auth-authserver-db-0";
    let mut args = vec!["exec", "-n", NAMESPACE, pod, "-c", "postgres", "--"];
    args.extend(command);
    run("kubectl", &args).await
}

async fn secret(user: &str, password: &str) -> Result<()> {
    let uri = format!("postgres://{user}:{password}@auth-authserver-db:5432/auth");
    let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "auth-db" },
        "stringData": { "uri": uri } });
    let args = ["apply", "--server-side", "-n", NAMESPACE, "-f", "-"];
    kubectl_stdin(&args, &secret.to_string()).await?;
    Ok(())
}

async fn pods() -> Result<Vec<String>> {
    let pods = objects("pods", AUTHSERVER).await?;
    pods.iter().map(|pod| text(pod, "/metadata/uid")).collect()
}

/// Whether none of these pods is left, and the rollout is complete.
async fn replaced(before: &[String]) -> Result<()> {
    let now = pods().await?;
    ensure!(
        !now.is_empty() && now.iter().all(|pod| !before.contains(pod)),
        "old pods are left"
    );
    let status = &object("deployment", "auth-authserver").await?["status"];
    ensure!(status["readyReplicas"] == status["replicas"], "{status}");
    Ok(())
}
