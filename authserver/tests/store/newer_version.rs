//! A newer version on the same database stores what this one does not know: it refuses that row alone, and says so.

use futures::future::join_all;
use mcp_authserver::store::{Extent, PostgresStore, Store, StoreError, Upsert};
use mcpauth_test_support::postgres::Postgres;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

use crate::fixture::{CLIENT, Fixture, NOTES, NOW, OTHER_CLIENT, client, resource};

/// Values that stand in no release, and where a newer version would store them.
const CLIENT_VALUES: [(&str, &str); 5] = [
    ("origin = 'metadata-document'", "metadata-document"),
    (
        r#"metadata = metadata || '{"grantTypes": ["authorization_code", "token_exchange"]}'"#,
        "token_exchange",
    ),
    (
        r#"metadata = metadata || '{"tokenEndpointAuthMethod": "tls_client_auth"}'"#,
        "tls_client_auth",
    ),
    (
        r#"metadata = metadata || '{"assertionAudience": "nobody"}'"#,
        "nobody",
    ),
    (r#"metadata = metadata || '{"consent": "twice"}'"#, "twice"),
];

async fn with_session() -> (Fixture, PgConnection) {
    let f = Fixture::postgres().await;
    let session = f.session(Postgres::shared()).await;
    (f, session)
}

async fn set(session: &mut PgConnection, statement: String) {
    let done = session.execute(AssertSqlSafe(statement)).await.unwrap();
    assert_eq!(done.rows_affected(), 1);
}

fn is_too_new<T: std::fmt::Debug>(outcome: Result<T, StoreError>, words: [&str; 2]) {
    let Err(StoreError::TooNew(text)) = outcome else {
        panic!("{outcome:?}")
    };
    assert!(words.into_iter().all(|word| text.contains(word)), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_with_an_unknown_value_is_refused_alone() {
    for (change, value) in CLIENT_VALUES {
        let (f, mut session) = with_session().await;
        f.store.upsert_client(&client("new"), NOW).await.unwrap();
        let tokens = f.family(NOW).await;
        set(
            &mut session,
            format!("UPDATE clients SET {change} WHERE client_id = 'new'"),
        )
        .await;
        // Also by a replica that starts now.
        let restarted = Fixture::at(f.url.as_ref().unwrap()).await;
        for f in [&f, &restarted] {
            is_too_new(f.store.client("new").await, ["client new", value]);
            assert!(f.store.client(OTHER_CLIENT).await.unwrap().is_some());
            assert!(f.is_active(&tokens.access, NOW).await);
            f.family(NOW).await;
            f.remove_expired(NOW).await;
            f.store.under_other_peppers(2, NOW).await.unwrap();
        }
        // What is declared replaces it.
        let put = f.store.upsert_client(&client("new"), NOW).await;
        assert_eq!(put.unwrap(), Upsert::Updated);
        let stored = f.store.client("new").await.unwrap();
        assert_eq!(stored, Some(client("new")));
        // It can be deleted as well.
        set(
            &mut session,
            format!("UPDATE clients SET {change} WHERE client_id = 'new'"),
        )
        .await;
        f.store.delete_client("new").await.unwrap();
        assert_eq!(f.store.client("new").await.unwrap(), None);
    }
}

/// Its tokens are neither good nor bad here, and those that are asked about with it do not suffer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_a_client_of_an_unknown_origin_are_left_to_the_newer_version() {
    let (f, mut session) = with_session().await;
    let foreign = f.issue(f.new_grant(CLIENT, None), NOW).await.unwrap();
    let known = f.issue(f.new_grant(OTHER_CLIENT, None), NOW).await.unwrap();
    let change =
        format!("UPDATE clients SET origin = 'metadata-document' WHERE client_id = '{CLIENT}'");
    set(&mut session, change).await;
    let ask = async |token| f.store.introspect(token, Extent::Token, NOW).await;
    let hashes = [&foreign, &known].map(|token| token.hashes(&f.pepper));
    let together = (0..32).map(|at| ask(&hashes[at % 2]));
    for (at, answer) in join_all(together).await.into_iter().enumerate() {
        match at % 2 {
            0 => is_too_new(answer, ["origin", "metadata-document"]),
            _ => assert!(answer.unwrap().is_some()),
        }
    }
    let refused = f.issue(f.new_grant(CLIENT, None), NOW).await;
    assert!(
        matches!(refused, Err(StoreError::Conflict(_))),
        "{refused:?}"
    );
    // A resource that admits fewer clients: what it says of this one, only the newer version knows.
    let mut narrowed = resource("notes", NOTES);
    narrowed.allowed_clients.namespaces = vec!["another".into()];
    f.store.upsert_resource(&narrowed).await.unwrap();
    while f.remove_expired(NOW).await {}
    let grants = "SELECT client_id FROM grants";
    let grants: Vec<String> = sqlx::query_scalar(grants)
        .fetch_all(&mut session)
        .await
        .unwrap();
    assert_eq!(grants, [CLIENT]);
    // Of a resource that goes, nothing stays.
    f.store.delete_resource("notes").await.unwrap();
    while f.remove_expired(NOW).await {}
    let grants: i64 = sqlx::query_scalar("SELECT count(*) FROM grants")
        .fetch_one(&mut session)
        .await
        .unwrap();
    assert_eq!(grants, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resource_with_unknown_scopes_is_left_out_alone() {
    let (f, mut session) = with_session().await;
    let scopes = r#"UPDATE resources SET scopes = '[{"name": {"en": "read"}}]' WHERE id = 'mail'"#;
    set(&mut session, scopes.to_owned()).await;
    let tokens = f.family(NOW).await;
    let store = PostgresStore::new(f.url.as_ref().unwrap(), 2).unwrap();
    store.migrate().await.unwrap();
    let known = store.resources().await.unwrap();
    let known: Vec<_> = known.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(known, ["notes"]);
    is_too_new(store.resource("mail").await, ["resource mail", "map"]);
    assert!(f.is_active(&tokens.access, NOW).await);
    let put = resource("mail", crate::fixture::MAIL);
    assert_eq!(store.upsert_resource(&put).await.unwrap(), Upsert::Updated);
    assert_eq!(store.resources().await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signing_key_of_an_unknown_algorithm_is_left_out_alone() {
    let (f, mut session) = with_session().await;
    let keys = "INSERT INTO signing_keys (slot, algorithm, sequence, not_before, sealed)
                VALUES ('a', 'ML-DSA-65', 0, 0, 'x'), ('b', 'ES256', 0, 0, 'x')";
    session.execute(keys).await.unwrap();
    let known = f.store.signing_keys().await.unwrap();
    let known: Vec<_> = known.iter().map(|key| key.algorithm.as_str()).collect();
    assert_eq!(known, ["ES256"]);
}
