//! The database, or the network on the way to it, hangs: connections stay open, and nothing comes.

use mcpauth_test_support::postgres::Postgres;
use mcpauth_test_support::relay::Relay;
use mcpauth_test_support::wait::eventually;
use sqlx::Executor as _;

use super::ask::{Held, refresh};
use super::replica::Replica;
use super::traffic::Traffic;
use super::{AWAY, afterwards, meanwhile};
use crate::server::text;

async fn two_replicas() -> (Postgres, Relay, [Replica; 2]) {
    let postgres = Postgres::start();
    let url = postgres.create_database().await;
    let relay = Relay::to(&postgres).await;
    let url = relay.url(&url);
    let replicas = [Replica::start(&url, 4), Replica::start(&url, 4)];
    (postgres, relay, replicas)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_network_swallows_everything() {
    let (_postgres, relay, replicas) = two_replicas().await;
    let held = Held::at(&replicas[0]).await;
    relay.silence();
    meanwhile(&replicas[0], &held, &AWAY).await;
    relay.resume();
    afterwards(&[&replicas[0], &replicas[1]], &held).await;
}

/// None of them comes back: a connection that hangs must not keep its place in the pool.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_connections_fall_silent_under_load() {
    let (_postgres, relay, replicas) = two_replicas().await;
    let outage = async {
        relay.silence_open();
    };
    Traffic::through(&replicas, outage).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_processes_of_the_database_are_stopped() {
    let postgres = Postgres::start();
    let replica = Replica::start(&postgres.create_database().await, 4);
    let held = Held::at(&replica).await;
    postgres.signal_all("STOP");
    meanwhile(&replica, &held, &AWAY).await;
    postgres.signal_all("CONT");
    afterwards(&[&replica], &held).await;
}

/// Its connections are never closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_primary_hangs_and_the_standby_is_promoted_under_load() {
    let (primary, relay, replicas) = two_replicas().await;
    let standby = primary.standby().await;
    let failover = async {
        primary.signal_all("STOP");
        standby.promote().await;
        relay.point_to(&standby);
    };
    Traffic::through(&replicas, failover).await;
    // So that it can end.
    primary.signal_all("CONT");
}

/// A replica's machine is gone in the middle of a refresh, and nobody tells the database: the others get the family's lock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_falls_silent_while_it_holds_a_lock() {
    let postgres = Postgres::start();
    let url = postgres.create_database().await;
    let database = url.split(['/', '?']).nth(3).unwrap();
    let relay = Relay::to(&postgres).await;
    let (gone, other) = (Replica::start(&relay.url(&url), 4), Replica::start(&url, 4));
    let code = gone.code().await;
    let tokens = super::ask::redeem(&gone, &code).await.ok();
    let token = text(&tokens["refresh_token"]);
    let mut session = postgres.connect(database).await;
    let lock = "BEGIN; LOCK TABLE access_tokens IN EXCLUSIVE MODE";
    session.execute(lock).await.unwrap();
    let falls_silent = async {
        // It has locked the grant, and waits to insert a token.
        postgres.wait_for_blocked(&mut session, 1).await;
        relay.silence();
        session.execute("ROLLBACK").await.unwrap();
    };
    let (lost, ()) = tokio::join!(refresh(&gone, &token), falls_silent);
    assert_eq!(lost.status, 503, "{lost:?}");
    let tokens = eventually("the other replica refreshes", async || {
        let answer = refresh(&other, &token).await;
        match answer.status == 503 {
            true => Err(format!("{answer:?}")),
            false => Ok(answer),
        }
    });
    let tokens = tokens.await.ok();
    assert!(other.is_active(&text(&tokens["access_token"])).await);
}
