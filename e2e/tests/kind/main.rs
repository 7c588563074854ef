//! The whole product on a Kubernetes cluster: `make e2e`, or `KUBECONFIG=… cargo test --test kind`.
//! A scenario alone: `make e2e TEST=NAME`.
//!
//! Any cluster will do whose node ports 30900 and 30901 are reached at localhost:9000 and :9001, as
//! `kind-config.yaml` makes them, and that has the images, a metrics-server and MutatingAdmissionPolicies (Kubernetes 1.36).

mod access;
mod adoption;
mod autoscale;
mod cluster;
mod external;
mod friction;
mod install;
mod installations;
mod operator;
mod page;
mod platform;
mod policy;
mod postgres;
mod remove;
mod restore;
mod rollout;
mod setup;
mod upgrade;

use std::process::ExitCode;

use anyhow::Result;
use mcp_auth_e2e::scenario::Suite;

fn main() -> Result<ExitCode> {
    let suite = Suite::new(|| Box::pin(cluster::diagnostics()))?
        .scenario(
            "the chart installs, two operators run, one leads",
            setup::operator,
        )
        .scenario(
            "a wrong field is refused by its name",
            install::wrong_fields,
        )
        .scenario("examples/notes.yaml becomes Ready", setup::notes)
        .scenario("kubectl get and describe read well", install::reads_well)
        .scenario(
            "pods are replaced without a lost request",
            rollout::no_request_is_lost,
        )
        .scenario(
            "a server on another port is not Ready, and the status says why",
            rollout::wrong_port,
        )
        .scenario(
            "the official Python client reaches a tool",
            access::python_client,
        )
        .scenario(
            "a robot gets in by the Secret of its McpOAuthClient",
            access::robot,
        )
        .scenario(
            "an orphaned client works on, and the next object takes it up",
            adoption::orphan,
        )
        .scenario("a read-only token is refused a write", access::read_only)
        .scenario(
            "a revoked token is refused within a second",
            access::revoked,
        )
        .scenario("another server's token is refused", access::other_server)
        .scenario(
            "a changed policy reaches the proxy without a restart",
            setup::strict_notes,
        )
        .scenario(
            "a tight loop is slowed to its target, not refused",
            friction::tight_loop,
        )
        .scenario("what was changed by hand is repaired", operator::drift)
        .scenario("a steady state writes nothing", operator::steady)
        .scenario("a broken resource says what to do", operator::broken)
        .scenario(
            "a volume that cannot be mounted is named",
            operator::unmounted,
        )
        .scenario(
            "the leader is killed, the other takes over",
            operator::leader_killed,
        )
        .scenario("the operator allocates less than 40 MB", operator::memory)
        .scenario(
            "a second installation leaves everything as it is",
            installations::second_leaves_all_alone,
        )
        .scenario(
            "an autoscaler scales a server, and nobody undoes that",
            autoscale::by_load,
        )
        .scenario("deletion leaves nothing behind", deletion)
        .scenario(
            "examples/notes-postgres.yaml becomes Ready",
            setup::notes_on_postgres,
        )
        .scenario(
            "no client and no token is lost with the pods",
            postgres::pods_killed,
        )
        .scenario(
            "a McpAuthServer that is deleted and applied again has its tokens still",
            postgres::deleted_and_applied_again,
        )
        .scenario(
            "a database whose password is lost opens with a new one",
            postgres::password_lost,
        )
        .scenario(
            "a dump restores clients and tokens into an empty volume",
            postgres::dumped_and_restored,
        )
        .scenario(
            "another major version of the database is refused",
            adoption::another_major,
        )
        .scenario(
            "a new password of an external database costs no request",
            external::password_changes,
        )
        .scenario(
            "an upgrade of the chart replaces pods once, for their images",
            upgrade::from_the_previous_chart,
        )
        .scenario(
            "without the operator everything serves on, and one in another namespace takes it over",
            setup::notes_on_postgres_elsewhere,
        )
        .scenario(
            "a backup restores everything into an empty cluster",
            setup::notes_on_postgres_restored,
        )
        .scenario(
            "deletion leaves nothing behind, Postgres included",
            deletion_with_postgres,
        )
        .scenario(
            "examples/notes-postgres.yaml becomes Ready where the platform assigns uids",
            platform::assigned_ids,
        )
        .scenario(
            "uninstall leaves nothing but what is asked to stay",
            setup::nothing,
        );
    Ok(suite.run(|| Box::pin(async {})))
}

async fn deletion() -> Result<()> {
    setup::notes().await?;
    setup::nothing_else().await
}

async fn deletion_with_postgres() -> Result<()> {
    setup::notes_on_postgres().await?;
    setup::nothing_else().await
}

/// Is there only where `harness = false` is missing: then nothing of the above would run.
#[test]
#[expect(clippy::panic, reason = "a test")]
fn no_harness() {
    panic!("e2e/Cargo.toml: [[test]] kind needs `harness = false`");
}
