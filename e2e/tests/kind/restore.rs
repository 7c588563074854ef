//! A backup, by the commands of `docs/operations/backup.md`, and an empty cluster.

use anyhow::{Result, ensure};
use mcp_auth_e2e::command::run;
use mcpauth_test_support::{oauth::Client, wait::until};

use crate::{
    access::{WRITE, robot_is_let_in},
    cluster::{self, ELSEWHERE, ISSUER, NAMESPACE, RESOURCE, SYSTEM, object, ready, text},
    install, page,
    postgres::still_valid,
    remove,
};

const PAGE: &str = "docs/operations/backup.md";
const PEPPER: &str = "auth-authserver-keys";

/// All objects, the operator and its CustomResourceDefinitions are lost. The backup has the objects with their old UIDs
/// and owner references; tokens and the client's secret of before are good after it.
pub(crate) async fn into_an_empty_cluster() -> Result<()> {
    let client = Client::register(ISSUER).await?;
    let kept = client.authorize(RESOURCE, WRITE).await?;
    let robot = object("secret", "robot-oauth-client").await?;
    let pepper = object("secret", PEPPER).await?;
    let folder = tempfile::tempdir()?;
    page::run_section(PAGE, "Back up", &folder).await?;

    lose_everything().await?;
    cluster::create_namespace().await?;
    install::chart().await?;
    page::run_section(PAGE, "Restore", &folder).await?;

    until("what had an owner of before has one of now", || async {
        let owner = object("mas", "auth").await?;
        let config = object("configmap", "auth-authserver-v1").await?;
        let uid = text(&config, "/metadata/ownerReferences/0/uid")?;
        ensure!(uid == text(&owner, "/metadata/uid")?, "{uid}");
        Ok(())
    })
    .await?;
    let now = object("secret", PEPPER).await?;
    ensure!(now["data"] == pepper["data"], "another pepper");
    let now = object("secret", "robot-oauth-client").await?;
    ensure!(
        now["data"] == robot["data"],
        "the client has another secret"
    );
    ready("mas,pms,moc").await?;
    still_valid(&client, &kept, &kept).await?;
    robot_is_let_in(&robot).await
}

async fn lose_everything() -> Result<()> {
    for namespace in [SYSTEM, ELSEWHERE] {
        remove::operator(namespace).await?;
    }
    cluster::delete_resources().await?;
    let namespaces = [NAMESPACE, SYSTEM, ELSEWHERE];
    let mut args = vec![
        "delete",
        "namespace",
        "--ignore-not-found",
        "--timeout=180s",
    ];
    args.extend(namespaces);
    run("kubectl", &args).await?;
    remove::definitions().await
}
