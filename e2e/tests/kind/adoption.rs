//! What outlives its object, and is taken up by the next one.

use anyhow::{Result, ensure};
use mcpauth_test_support::wait::until;
use serde_json::json;

use crate::{
    access::robot_is_let_in,
    cluster::{kubectl, object, ready},
    setup,
};

/// `deletionPolicy: Orphan`: the client and its Secret stay and work; a new object of that name takes both up.
pub(crate) async fn orphan() -> Result<()> {
    setup::notes().await?;
    let secret = object("secret", "robot-oauth-client").await?;
    let orphan = json!({ "spec": { "deletionPolicy": "Orphan" } });
    kubectl(&[
        "patch",
        "moc",
        "robot",
        "--type=merge",
        "-p",
        &orphan.to_string(),
    ])
    .await?;
    kubectl(&["delete", "moc", "robot", "--timeout=60s"]).await?;
    robot_is_let_in(&object("secret", "robot-oauth-client").await?).await?;
    kubectl(&["apply", "--server-side", "-f", "examples/notes.yaml"]).await?;
    ready("moc").await?;
    let now = object("secret", "robot-oauth-client").await?;
    ensure!(now["data"] == secret["data"], "another secret");
    robot_is_let_in(&now).await
}

/// An image of another major version is refused; the database runs on with the one that it has.
pub(crate) async fn another_major() -> Result<()> {
    setup::notes_on_postgres().await?;
    let before = object("pod", "auth-authserver-db-0").await?;
    let image = |image: &str| json!({ "spec": { "storage": { "postgres": { "managed": { "image": image } } } } });
    let patch = async |value: &str| {
        let patch = image(value).to_string();
        kubectl(&["patch", "mas", "auth", "--type=merge", "-p", &patch]).await
    };
    patch("docker.io/library/postgres:17").await?;
    until("the condition says that it is refused", || async {
        let auth = object("mas", "auth").await?;
        let conditions = auth["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let refused =
            |c: &serde_json::Value| c["type"] == "Ready" && c["reason"] == "DatabaseMajorChange";
        ensure!(conditions.iter().any(refused), "{conditions:?}");
        Ok(())
    })
    .await?;
    patch("docker.io/library/postgres:15").await?;
    ready("mas").await?;
    let after = object("pod", "auth-authserver-db-0").await?;
    ensure!(
        before["metadata"]["uid"] == after["metadata"]["uid"],
        "the database was replaced"
    );
    Ok(())
}
