//! What only PostgreSQL can be asked: outages, several replicas on one database, mistakes in its
//! configuration.

use std::time::Duration;

use futures::future::join_all;
use mcp_authserver::grant::Refusal;
use mcp_authserver::rate_limit::{Decision, RateLimit};
use mcp_authserver::store::{PostgresStore, Store, StoreError};
use sqlx::Executor as _;

use crate::fixture::{Fixture, MINUTE, NOW, VERIFIER};
use crate::postgres::{Postgres, ROLE_WITH_PASSWORD};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_is_killed_between_calls() {
    let postgres = Postgres::start();
    let f = Fixture::at(&postgres.create_database().await).await;
    let code = f.authorize(NOW).await;
    let tokens = f.family(NOW).await;
    // Several connections, all of which the kill breaks.
    join_all((0..8).map(|_| f.is_active(&tokens.access, NOW))).await;

    postgres.kill();
    let hashes = f.pepper.token_hashes(&tokens.access);
    // The server's other processes take a moment to notice that it is gone.
    let during = loop {
        if let Err(error) = f.store.introspect(&hashes, NOW).await {
            break error;
        }
    };
    assert!(matches!(during, StoreError::Unavailable(_)), "{during:?}");
    assert!(matches!(
        f.store.ping().await,
        Err(StoreError::Unavailable(_))
    ));

    postgres.restart();
    f.store.ping().await.unwrap();
    assert!(f.is_active(&tokens.access, NOW).await);
    f.redeem(&code, NOW).await.unwrap();
    f.refresh(&tokens.refresh, NOW).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_race_a_code_and_a_refresh() {
    let url = Postgres::shared().create_database().await;
    // Both migrate the empty database at once.
    let (a, b) = tokio::join!(Fixture::at(&url), Fixture::at(&url));
    for _ in 0..10 {
        let code = a.authorize(NOW).await;
        let replicas = (0..16).map(|at| if at % 2 == 0 { &a } else { &b });
        let outcomes = join_all(replicas.map(|f| f.redeem(&code, NOW))).await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);

        let tokens = a.family(NOW).await;
        let replicas = (0..10).map(|at| if at % 2 == 0 { &a } else { &b });
        let refreshes = join_all(replicas.map(|f| f.refresh(&tokens.refresh, NOW))).await;
        for refreshed in refreshes {
            assert_eq!(refreshed.unwrap().issued.grant.generation, 1);
        }
        let late = NOW.plus(MINUTE);
        let refusal = b.refresh(&tokens.refresh, late).await.unwrap_err();
        assert_eq!(refusal, Refusal::Reused);
        assert!(!a.is_active(&tokens.access, NOW).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_share_limits_and_assertions() {
    let url = Postgres::shared().create_database().await;
    let a = Fixture::at(&url).await;
    let b = Fixture::at(&url).await;
    let limit = RateLimit::per_minute(4.try_into().unwrap());
    let replicas = (0..16).map(|at| if at % 2 == 0 { &a } else { &b });
    let hits = join_all(replicas.map(|f| f.store.hit("rule", "x", limit, NOW))).await;
    let allowed = hits
        .into_iter()
        .filter(|hit| *hit.as_ref().unwrap() == Decision::Allowed);
    assert_eq!(allowed.count(), 4);

    let end = NOW.plus(MINUTE);
    assert!(
        a.store
            .remember_assertion("c", "jti", end, NOW)
            .await
            .unwrap()
    );
    assert!(
        !b.store
            .remember_assertion("c", "jti", end, NOW)
            .await
            .unwrap()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_client_is_deleted_while_it_refreshes() {
    let url = Postgres::shared().create_database().await;
    let f = Fixture::at(&url).await;
    for _ in 0..20 {
        let tokens = f.family(NOW).await;
        let code = f.authorize(NOW).await;
        let refreshes = join_all((0..6).map(|_| f.refresh(&tokens.refresh, NOW)));
        let redeemed = f.redeem(&code, NOW);
        let deleted = f.store.delete_client("client");
        let (refreshed, redeemed, deleted) = tokio::join!(refreshes, redeemed, deleted);
        deleted.unwrap();
        for tokens in refreshed
            .into_iter()
            .chain([redeemed])
            .filter_map(Result::ok)
        {
            assert!(!f.is_active(&tokens.access, NOW).await);
        }
        let client = crate::fixture::client("client");
        f.store.upsert_client(&client, NOW).await.unwrap();
    }
}

#[tokio::test]
async fn an_answer_that_does_not_come_before_commit_changes_nothing() {
    let url = Postgres::shared().create_database().await;
    let f = Fixture::at(&url).await;
    let tokens = f.family(NOW).await;
    // Another session holds the grant, and the caller gives up waiting for it.
    let name = url.split(['/', '?']).nth(3).unwrap();
    let mut other = Postgres::shared().connect(name).await;
    other
        .execute("BEGIN; SELECT FROM grants FOR UPDATE")
        .await
        .unwrap();
    let given_up =
        tokio::time::timeout(Duration::from_millis(200), f.refresh(&tokens.refresh, NOW));
    assert!(given_up.await.is_err());
    other.execute("ROLLBACK").await.unwrap();
    let refreshed = f.refresh(&tokens.refresh, NOW).await.unwrap();
    assert_eq!(refreshed.issued.grant.generation, 1);
}

#[tokio::test]
async fn nothing_in_the_database_is_a_token_or_a_secret() {
    let url = Postgres::shared().create_database().await;
    let f = Fixture::at(&url).await;
    let mut client = crate::fixture::client("secretive");
    client.secret_hash = Some(f.pepper.hash_client_secret("s3cret-of-the-client"));
    f.store.upsert_client(&client, NOW).await.unwrap();
    let code = f.authorize(NOW).await;
    let tokens = f.family(NOW).await;

    let name = url.split(['/', '?']).nth(3).unwrap();
    let mut connection = Postgres::shared().connect(name).await;
    let mut rows = 0;
    for table in [
        "clients",
        "grants",
        "authorization_codes",
        "refresh_tokens",
        "access_tokens",
    ] {
        let query = sqlx::AssertSqlSafe(format!("SELECT t::text FROM {table} t"));
        let texts: Vec<String> = sqlx::query_scalar(query)
            .fetch_all(&mut connection)
            .await
            .unwrap();
        rows += texts.len();
        for text in texts {
            for secret in [
                code.reveal(),
                tokens.access.reveal(),
                tokens.refresh.reveal(),
            ] {
                assert!(!text.contains(&secret[4..47]));
                assert!(!text.contains(&hex(secret.as_bytes())));
            }
            assert!(!text.contains("s3cret"));
            assert!(!text.contains(VERIFIER));
        }
    }
    assert!(rows >= 9, "{rows} rows");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_mistake_in_the_configuration_says_what_to_do_and_never_the_password() {
    let postgres = Postgres::shared();
    let url = postgres.create_database().await;
    let name = url.split(['/', '?']).nth(3).unwrap();
    let mut connection = postgres.connect("postgres").await;
    let create = sqlx::AssertSqlSafe(format!(
        "CREATE ROLE {ROLE_WITH_PASSWORD} LOGIN PASSWORD 'right-password'"
    ));
    connection.execute(create).await.unwrap();

    let user = |password: &str| format!("{ROLE_WITH_PASSWORD}:{password}");
    let cases = [
        (
            postgres.url(&user("wrong-password"), name),
            "check user and password",
        ),
        (postgres.url("postgres", "nowhere"), "create the database"),
        (
            postgres.url(&user("right-password"), name),
            "grant the user CREATE",
        ),
    ];
    for (url, advice) in cases {
        let store = PostgresStore::new(&url, 2).unwrap();
        let error = store.migrate().await.unwrap_err();
        assert!(matches!(error, StoreError::Misconfigured(_)), "{error:?}");
        assert!(error.to_string().contains(advice), "{error}");
        for text in [error.to_string(), format!("{error:?} {store:?}")] {
            assert!(!text.contains("-password"), "{text}");
        }
    }

    let unmigrated = Store::Postgres(PostgresStore::new(&url, 2).unwrap());
    let error = unmigrated.ping().await.unwrap_err();
    assert!(error.to_string().contains("tables are missing"), "{error}");

    let foreign = postgres.create_database().await;
    let name = foreign.split(['/', '?']).nth(3).unwrap();
    let mut connection = postgres.connect(name).await;
    connection
        .execute("CREATE TABLE clients (id int)")
        .await
        .unwrap();
    let store = PostgresStore::new(&foreign, 2).unwrap();
    for _ in 0..2 {
        let error = store.migrate().await.unwrap_err();
        assert!(
            error.to_string().contains("a database of its own"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_url_that_is_none_is_refused_and_not_repeated() {
    for url in [
        "",
        "secret-password",
        "postgres://u:secret-password@h:port/d",
        "mysql://u:secret-password@h/d",
    ] {
        let error = PostgresStore::new(url, 2).unwrap_err();
        assert!(
            error.to_string().contains("postgres://USER"),
            "{url}: {error}"
        );
        assert!(!error.to_string().contains("secret-password"), "{error}");
    }
}

#[tokio::test]
async fn an_older_version_starts_on_a_newer_schema() {
    let url = Postgres::shared().create_database().await;
    let f = Fixture::at(&url).await;
    let name = url.split(['/', '?']).nth(3).unwrap();
    let mut connection = Postgres::shared().connect(name).await;
    let newer = "INSERT INTO _sqlx_migrations
        (version, description, success, checksum, execution_time)
        VALUES (9999, 'from the future', true, 'x', 1)";
    connection.execute(newer).await.unwrap();
    let again = PostgresStore::new(f.url.as_ref().unwrap(), 2).unwrap();
    again.migrate().await.unwrap();
}
