//! The whole product on a Kubernetes cluster: `make e2e`, or `KUBECONFIG=… cargo test --test kind`.
//! Any cluster will do whose node ports 30900 and 30901 are reached at localhost:9000 and :9001, as
//! `kind-config.yaml` makes them, and that has the images.

mod access;
mod cluster;
mod friction;
mod install;
mod operator;
mod policy;
mod postgres;
mod remove;

use std::process::ExitCode;

use mcp_auth_e2e::scenario::Suite;

#[tokio::main]
async fn main() -> ExitCode {
    let mut suite = Suite::begin("end to end on Kubernetes");
    suite
        .scenario("a cluster answers", cluster::answers())
        .await;
    suite
        .scenario(
            "the chart installs, two operators run, one leads",
            install::chart(),
        )
        .await;
    suite
        .scenario(
            "a wrong field is refused by its name",
            install::wrong_fields(),
        )
        .await;
    suite
        .scenario("examples/notes.yaml becomes Ready", install::notes())
        .await;
    suite
        .scenario("kubectl get and describe read well", install::reads_well())
        .await;
    suite
        .scenario(
            "the official Python client reaches a tool",
            access::python_client(),
        )
        .await;
    suite
        .scenario(
            "a robot gets in by the Secret of its McpOAuthClient",
            access::robot(),
        )
        .await;
    suite
        .scenario("a read-only token is refused a write", access::read_only())
        .await;
    suite
        .scenario(
            "a revoked token is refused within a second",
            access::revoked(),
        )
        .await;
    suite
        .scenario("another server's token is refused", access::other_server())
        .await;
    suite
        .scenario(
            "a changed policy reaches the proxy without a restart",
            policy::reload(),
        )
        .await;
    suite
        .scenario(
            "a tight loop is slowed to its target, not refused",
            friction::tight_loop(),
        )
        .await;
    suite
        .scenario("what was changed by hand is repaired", operator::drift())
        .await;
    suite
        .scenario("a steady state writes nothing", operator::steady())
        .await;
    suite
        .scenario("a broken resource says what to do", operator::broken())
        .await;
    suite
        .scenario(
            "the leader is killed, the other takes over",
            operator::leader_killed(),
        )
        .await;
    suite
        .scenario("the operator allocates less than 40 MB", operator::memory())
        .await;
    suite
        .scenario("deletion leaves nothing behind", remove::notes())
        .await;
    suite
        .scenario(
            "examples/notes-postgres.yaml becomes Ready",
            postgres::apply(),
        )
        .await;
    suite
        .scenario(
            "no client and no token is lost with the pods",
            postgres::pods_killed(),
        )
        .await;
    suite
        .scenario(
            "deletion leaves nothing behind, Postgres included",
            remove::postgres(),
        )
        .await;
    suite
        .scenario(
            "uninstall leaves nothing but what is asked to stay",
            remove::chart(),
        )
        .await;
    if suite.has_failed() {
        cluster::diagnostics().await;
    }
    suite.end()
}
