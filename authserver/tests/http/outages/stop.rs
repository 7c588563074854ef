//! The server is restarted, or away for a while.

use mcpauth_test_support::postgres::Postgres;

use super::ask::Held;
use super::replica::Replica;
use super::traffic::Traffic;
use super::{AWAY, afterwards, meanwhile};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_is_stopped_and_started() {
    let postgres = Postgres::start();
    let url = postgres.create_database().await;
    let replicas = [Replica::start(&url, 4), Replica::start(&url, 4)];
    let held = Held::at(&replicas[0]).await;
    postgres.stop();
    meanwhile(&replicas[0], &held, &AWAY).await;
    postgres.restart().await;
    afterwards(&[&replicas[0], &replicas[1]], &held).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_is_restarted_under_load() {
    let postgres = Postgres::start();
    let url = postgres.create_database().await;
    let replicas = [Replica::start(&url, 4), Replica::start(&url, 4)];
    let outage = async {
        for _ in 0..2 {
            postgres.stop();
            postgres.restart().await;
        }
    };
    Traffic::through(&replicas, outage).await;
}
