//! The disk is full.

use mcpauth_test_support::postgres::Postgres;
use mcpauth_test_support::wait::eventually;
use sqlx::Executor as _;

use super::ask::{Ask, Held};
use super::replica::Replica;
use super::{Answer, Either, Table, Unavailable, afterwards, meanwhile};

/// In megabytes: a new server has 40, and its log of transactions is kept small.
const SIZE: u32 = 128;

/// There is no room for another page. What fits into the pages that are there is written, also where a request that
/// failed has left room.
const NO_ROOM: Table = [
    (Ask::Discovery, Answer),
    (Ask::Jwks, Answer),
    (Ask::Authorize, Either),
    (Ask::Code, Either),
    (Ask::Refresh, Either),
    (Ask::ClientCredentials, Either),
    (Ask::Introspect, Answer),
    (Ask::Revoke, Either),
    (Ask::Register, Either),
    (Ask::PutClient, Either),
    (Ask::Ready, Answer),
];

/// PostgreSQL ends when it cannot write its log; it tries to start again.
const NO_LOG: Table = [
    (Ask::Discovery, Answer),
    (Ask::Jwks, Answer),
    (Ask::Authorize, Either),
    (Ask::Code, Either),
    (Ask::Refresh, Either),
    (Ask::ClientCredentials, Either),
    (Ask::Introspect, Either),
    (Ask::Revoke, Either),
    (Ask::Register, Either),
    (Ask::PutClient, Either),
    (Ask::Ready, Either),
];

/// None where no disk can be mounted.
async fn on_small_disk() -> Option<(Postgres, Replica, Held)> {
    let Some(postgres) = Postgres::on_small_disk(SIZE) else {
        eprintln!("skipped: it takes root and CAP_SYS_ADMIN to mount a small disk");
        return None;
    };
    let replica = Replica::start(&postgres.create_database().await, 4);
    let held = Held::at(&replica).await;
    Some((postgres, replica, held))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_disk_is_full() {
    let Some((postgres, replica, held)) = on_small_disk().await else {
        return;
    };
    postgres.fill_disk();
    eventually("there is no room", async || {
        let got = Ask::ClientCredentials.send(&replica, &held).await;
        got.is(Ask::ClientCredentials, Unavailable).then_some(())
    })
    .await;
    meanwhile(&replica, &held, &NO_ROOM).await;
    postgres.free_disk();
    afterwards(&[&replica], &held).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_no_room_for_the_log_of_transactions() {
    let Some((postgres, replica, held)) = on_small_disk().await else {
        return;
    };
    let session = tokio::sync::Mutex::new(postgres.connect("postgres").await);
    postgres.fill_disk();
    eventually("the server gives up", async || {
        let switch =
            "CREATE TABLE IF NOT EXISTS t (); SELECT pg_switch_wal(); DROP TABLE IF EXISTS t";
        let session = &mut *session.lock().await;
        session.execute(switch).await.err()
    })
    .await;
    meanwhile(&replica, &held, &NO_LOG).await;
    postgres.free_disk();
    postgres.stop();
    postgres.restart().await;
    afterwards(&[&replica], &held).await;
}
