//! A standby takes over, and a server that takes no changes.

use mcpauth_test_support::postgres::Postgres;
use mcpauth_test_support::relay::Relay;
use mcpauth_test_support::wait::eventually;
use sqlx::Executor as _;

use super::ask::{Ask, Held};
use super::replica::Replica;
use super::traffic::Traffic;
use super::{AWAY, Answer, UNCHANGEABLE, afterwards, meanwhile};

/// A primary, its standby, and two replicas that reach the primary through the relay.
async fn behind_a_relay() -> (Postgres, Postgres, Relay, [Replica; 2]) {
    let primary = Postgres::start();
    let url = primary.create_database().await;
    let relay = Relay::to(&primary).await;
    let url = relay.url(&url);
    let replicas = [Replica::start(&url, 4), Replica::start(&url, 4)];
    let standby = primary.standby().await;
    (primary, standby, relay, replicas)
}

/// Existing sessions take it up, too.
async fn set_read_only(postgres: &Postgres, on: bool) {
    let mut session = postgres.connect("postgres").await;
    let set = match on {
        true => "ALTER SYSTEM SET default_transaction_read_only = on",
        false => {
            "SET default_transaction_read_only = off; ALTER SYSTEM RESET default_transaction_read_only"
        }
    };
    for statement in set.split("; ").chain(["SELECT pg_reload_conf()"]) {
        session.execute(statement).await.unwrap();
    }
    eventually("the server takes it up", async || {
        let mut session = postgres.connect("postgres").await;
        let setting = "SELECT current_setting('default_transaction_read_only') = 'on'";
        let is_on: bool = sqlx::query_scalar(setting)
            .fetch_one(&mut session)
            .await
            .unwrap();
        (is_on == on).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_primary_is_killed_and_the_standby_promoted_under_load() {
    let (primary, standby, relay, replicas) = behind_a_relay().await;
    let failover = async {
        primary.stop();
        standby.promote().await;
        relay.point_to(&standby);
    };
    Traffic::through(&replicas, failover).await;
}

/// The primary is made read-only, the standby promoted, the address changed: connections that are open stay at the former
/// primary. Introspection there would never learn what is revoked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_former_primary_is_left() {
    let (primary, standby, relay, replicas) = behind_a_relay().await;
    let held = Held::at(&replicas[0]).await;
    // The other one has connections to it, too.
    assert!(replicas[1].is_active(&held.revoked_access).await);
    set_read_only(&primary, true).await;
    meanwhile(&replicas[0], &held, &UNCHANGEABLE).await;
    standby.promote().await;
    relay.point_to(&standby);
    set_read_only(&standby, false).await;
    eventually("a token is revoked", async || {
        let got = Ask::Revoke.send(&replicas[0], &held).await;
        got.is(Ask::Revoke, Answer).then_some(())
    })
    .await;
    // It writes nothing of its own accord but when it removes what has expired.
    eventually("a replica without requests leaves, too", async || {
        let active = replicas[1].is_active(&held.revoked_access).await;
        (!active).then_some(())
    })
    .await;
    afterwards(&[&replicas[0], &replicas[1]], &held).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_is_read_only() {
    let postgres = Postgres::start();
    let replica = Replica::start(&postgres.create_database().await, 4);
    let held = Held::at(&replica).await;
    set_read_only(&postgres, true).await;
    meanwhile(&replica, &held, &UNCHANGEABLE).await;
    set_read_only(&postgres, false).await;
    afterwards(&[&replica], &held).await;
}

/// What a standby says may be old: it answers nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_address_leads_to_a_standby() {
    let (primary, standby, relay, replicas) = behind_a_relay().await;
    let held = Held::at(&replicas[0]).await;
    relay.point_to(&standby);
    relay.cut();
    meanwhile(&replicas[0], &held, &AWAY).await;
    let reason = replicas[0].ready().await.body;
    assert!(
        reason.contains("it is a standby; point the URL to the primary"),
        "{reason}"
    );
    relay.point_to(&primary);
    relay.cut();
    afterwards(&[&replicas[0], &replicas[1]], &held).await;
}
