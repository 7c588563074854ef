//! A client or a resource with very many grants goes: its tokens are refused at once, and the rows follow.

use std::time::Duration;

use mcp_authserver::store::{StoreError, Upsert};
use mcpauth_test_support::postgres::Postgres;
use sqlx::{Executor as _, PgConnection};

use crate::fixture::{CLIENT, Fixture, NOTES, NOW, OTHER_CLIENT, Tokens, client, resource};

/// More than the store can delete in the time that an operation may take.
const VERY_MANY: i64 = 200_000;
/// Many batches.
const MANY: i64 = 20_000;
const NEW: &str = "http://localhost:9009/mcp";

async fn with_grants(number: i64) -> (Fixture, PgConnection, Tokens) {
    let f = Fixture::postgres().await;
    let mut session = f.session(Postgres::shared()).await;
    sqlx::query(
        "WITH made AS (
             INSERT INTO grants (id, client_id, resource, scopes, rotated_at, expires_at, generation, siblings)
             SELECT decode(md5(n::text), 'hex'), $1, $2, '', 0, $3, 0, 0
             FROM generate_series(1, $4) n RETURNING id)
         INSERT INTO access_tokens (hash, grant_id, scopes, issued_at, expires_at)
         SELECT '\\x0002'::bytea || id || id, id, '', 0, $3 FROM made",
    )
    .bind(CLIENT)
    .bind(NOTES)
    .bind(NOW.as_millis() * 2)
    .bind(number)
    .execute(&mut session)
    .await
    .unwrap();
    // A housekeeping that has never run knows nothing about the tables' sizes.
    session
        .execute("ANALYZE grants, access_tokens")
        .await
        .unwrap();
    let tokens = f.family(NOW).await;
    (f, session, tokens)
}

async fn count(session: &mut PgConnection) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM grants")
        .fetch_one(session)
        .await
        .unwrap()
}

/// The tokens are refused, while nearly all rows are still there.
async fn is_refused_at_once(f: &Fixture, session: &mut PgConnection, tokens: &Tokens) {
    assert!(!f.is_active(&tokens.access, NOW).await);
    assert!(f.refresh(&tokens.refresh, NOW).await.is_err());
    assert!(count(session).await > MANY / 2, "the call deleted them all");
}

async fn rows_follow(f: &Fixture, session: &mut PgConnection) {
    while f.remove_expired(NOW).await {}
    assert_eq!(count(session).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resource_with_many_grants_gets_another_uri() {
    let (f, mut session, tokens) = with_grants(VERY_MANY).await;
    let moved = f.store.upsert_resource(&resource("notes", NEW)).await;
    assert_eq!(moved.unwrap(), Upsert::Updated);
    is_refused_at_once(&f, &mut session, &tokens).await;
    let known: Vec<_> = f.store.resources().await.unwrap();
    let known: Vec<_> = known.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(known, ["mail", "notes"]);
    // The old URI is free again, without what was granted for it; that may take more than one try.
    let back = resource("other", NOTES);
    loop {
        match f.store.upsert_resource(&back).await {
            Ok(outcome) => break assert_eq!(outcome, Upsert::Created),
            Err(StoreError::Unavailable(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert!(!f.is_active(&tokens.access, NOW).await);
    let grant = f.new_grant(CLIENT, None);
    let token = f.issue(grant, NOW).await.unwrap();
    rows_but_one_follow(&f, &mut session).await;
    assert!(f.is_active(&token, NOW).await);
}

async fn rows_but_one_follow(f: &Fixture, session: &mut PgConnection) {
    while f.remove_expired(NOW).await {}
    assert_eq!(count(session).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resource_with_many_grants_is_deleted() {
    let (f, mut session, tokens) = with_grants(MANY).await;
    f.store.delete_resource("notes").await.unwrap();
    is_refused_at_once(&f, &mut session, &tokens).await;
    assert_eq!(f.store.resource("notes").await.unwrap(), None);
    rows_follow(&f, &mut session).await;
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM resources")
        .fetch_one(&mut session)
        .await
        .unwrap();
    assert_eq!(rows, 1, "the mark goes with the last grant");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_with_many_grants_is_deleted() {
    let (f, mut session, tokens) = with_grants(MANY).await;
    f.store.delete_client(CLIENT).await.unwrap();
    is_refused_at_once(&f, &mut session, &tokens).await;
    assert_eq!(f.store.client(CLIENT).await.unwrap(), None);
    let refused = f.issue(f.new_grant(CLIENT, None), NOW).await;
    assert!(
        matches!(refused, Err(StoreError::Conflict(_))),
        "{refused:?}"
    );
    assert!(f.issue(f.new_grant(OTHER_CLIENT, None), NOW).await.is_ok());
    rows_but_one_follow(&f, &mut session).await;
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM clients")
        .fetch_one(&mut session)
        .await
        .unwrap();
    assert_eq!(rows, 1, "the mark goes with the last grant");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_with_many_grants_no_longer_names_their_resource() {
    let (f, mut session, tokens) = with_grants(VERY_MANY).await;
    let all = client(CLIENT);
    let mut fewer = all.clone();
    fewer.metadata.allowed_resources.remove(0);
    let narrowed = f.store.upsert_client(&fewer, NOW).await;
    assert_eq!(narrowed.unwrap(), Upsert::Updated);
    is_refused_at_once(&f, &mut session, &tokens).await;
    let refused = f.issue(f.new_grant(CLIENT, None), NOW).await;
    assert!(
        matches!(refused, Err(StoreError::Conflict(_))),
        "{refused:?}"
    );
    assert!(f.issue(f.new_grant(OTHER_CLIENT, None), NOW).await.is_ok());
    // It gets the resource back, without what was granted for it; that may take more than one try.
    loop {
        match f.store.upsert_client(&all, NOW).await {
            Ok(outcome) => break assert_eq!(outcome, Upsert::Updated),
            Err(StoreError::Unavailable(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert!(!f.is_active(&tokens.access, NOW).await);
    rows_but_one_follow(&f, &mut session).await;
    assert!(f.issue(f.new_grant(CLIENT, None), NOW).await.is_ok());
}

/// Who deletes need not wait for that, and need not try again: housekeeping removes them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_deleted_is_gone_though_its_grants_are_still_there() {
    let (f, mut session, _) = with_grants(10).await;
    let lock = "BEGIN; LOCK TABLE grants IN ACCESS EXCLUSIVE MODE";
    session.execute(lock).await.unwrap();
    let elsewhere = resource("mail", NEW);
    let (client_goes, resource_goes, moved) = tokio::join!(
        f.store.delete_client(CLIENT),
        f.store.delete_resource("notes"),
        f.store.upsert_resource(&elsewhere),
    );
    client_goes.unwrap();
    resource_goes.unwrap();
    assert_eq!(moved.unwrap(), Upsert::Updated);
    session.execute("ROLLBACK").await.unwrap();
    assert_eq!(f.store.client(CLIENT).await.unwrap(), None);
    assert_eq!(f.store.resource("notes").await.unwrap(), None);
    rows_follow(&f, &mut session).await;
}

/// While somebody holds the grants, it looks again now and then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_for_locked_grants_is_no_work() {
    let (f, mut session, _) = with_grants(10).await;
    f.store.delete_resource("mail").await.unwrap();
    let held = "BEGIN; SELECT FROM grants FOR UPDATE";
    session.execute(held).await.unwrap();
    f.store.delete_client(CLIENT).await.unwrap();
    let before = transactions(&f).await;
    let waits = f.store.upsert_client(&client(CLIENT), NOW).await;
    assert!(
        matches!(waits, Err(StoreError::Unavailable(_))),
        "{waits:?}"
    );
    let during = transactions(&f).await - before;
    // In four seconds.
    assert!((10..1000).contains(&during), "{during}");
    session.execute("ROLLBACK").await.unwrap();
    let back = f.store.upsert_client(&client(CLIENT), NOW).await;
    assert_eq!(back.unwrap(), Upsert::Created);
}

/// How many there have been. Sessions report them within a second.
async fn transactions(f: &Fixture) -> i64 {
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let count = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()";
    let mut session = f.session(Postgres::shared()).await;
    sqlx::query_scalar(count)
        .fetch_one(&mut session)
        .await
        .unwrap()
}
