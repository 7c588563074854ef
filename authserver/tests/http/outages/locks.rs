//! Somebody else holds locks, and connections run out.

use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::join_all;
use mcpauth_test_support::postgres::Postgres;
use sqlx::{Executor as _, PgConnection};

use super::ask::{Ask, Held};
use super::replica::Replica;
use super::{Answer, Either, SentBack, Table, Unavailable, afterwards, meanwhile};

/// The rows of all families are locked.
const LOCKED_FAMILIES: Table = [
    (Ask::Discovery, Answer),
    (Ask::Jwks, Answer),
    (Ask::Authorize, Answer),
    (Ask::Code, Unavailable),
    (Ask::Refresh, Unavailable),
    (Ask::ClientCredentials, Answer),
    (Ask::Introspect, Answer),
    (Ask::Revoke, Unavailable),
    (Ask::Register, Answer),
    (Ask::PutClient, Answer),
    (Ask::Ready, Answer),
];

/// Somebody changes the table of families.
const LOCKED_TABLE: Table = [
    (Ask::Discovery, Answer),
    (Ask::Jwks, Answer),
    (Ask::Authorize, SentBack),
    (Ask::Code, Unavailable),
    (Ask::Refresh, Unavailable),
    (Ask::ClientCredentials, Unavailable),
    (Ask::Introspect, Unavailable),
    (Ask::Revoke, Unavailable),
    (Ask::Register, Answer),
    (Ask::PutClient, Answer),
    (Ask::Ready, Answer),
];

/// Requests that wait have all connections but those for introspection and readiness.
const NO_CONNECTIONS: Table = [
    (Ask::Discovery, Answer),
    (Ask::Jwks, Answer),
    (Ask::Authorize, Either),
    (Ask::Code, Unavailable),
    (Ask::Refresh, Unavailable),
    (Ask::ClientCredentials, Unavailable),
    (Ask::Introspect, Answer),
    (Ask::Revoke, Unavailable),
    (Ask::Register, Unavailable),
    (Ask::PutClient, Either),
    (Ask::Ready, Answer),
];

async fn replica(max_connections: u32) -> (Replica, PgConnection) {
    let postgres = Postgres::shared();
    let url = postgres.create_database().await;
    let database = url.split(['/', '?']).nth(3).unwrap();
    let session = postgres.connect(database).await;
    (Replica::start(&url, max_connections), session)
}

async fn under_lock(lock: &'static str, table: &Table) {
    let (replica, mut session) = replica(8).await;
    let held = Held::at(&replica).await;
    session.execute("BEGIN").await.unwrap();
    session.execute(lock).await.unwrap();
    meanwhile(&replica, &held, table).await;
    session.execute("ROLLBACK").await.unwrap();
    afterwards(&[&replica], &held).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_holds_the_families() {
    under_lock("SELECT FROM grants FOR UPDATE", &LOCKED_FAMILIES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_has_locked_a_table() {
    under_lock("LOCK TABLE grants IN ACCESS EXCLUSIVE MODE", &LOCKED_TABLE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_connections_are_in_use() {
    let (replica, mut session) = replica(2).await;
    let held = Held::at(&replica).await;
    let lock = "BEGIN; LOCK TABLE rate_windows IN EXCLUSIVE MODE";
    session.execute(lock).await.unwrap();
    let over = AtomicBool::new(false);
    let flood = join_all((0..20).map(|_| async {
        while !over.load(Ordering::Relaxed) {
            super::ask::client_credentials(&replica).await;
        }
    }));
    let ask = async {
        Postgres::shared().wait_for_blocked(&mut session, 2).await;
        meanwhile(&replica, &held, &NO_CONNECTIONS).await;
        session.execute("ROLLBACK").await.unwrap();
        over.store(true, Ordering::Relaxed);
    };
    tokio::join!(flood, ask);
    afterwards(&[&replica], &held).await;
}
