//! What only PostgreSQL can be asked: outages, several replicas on one database, mistakes in its
//! configuration.

use std::time::Duration;

use futures::future::join_all;
use mcp_authserver::issue::Minter;
use mcp_authserver::oauth::grant::Refusal;
use mcp_authserver::oauth::rate_limit::{Decision, RateLimit};
use mcp_authserver::oauth::refresh::RefreshKind;
use mcp_authserver::oauth::token::{Token, TokenKind};
use mcp_authserver::store::{Extent, PostgresStore, Refresh, Store as _, StoreError, Upsert};
use sqlx::{Executor as _, PgConnection};

use crate::fixture::{
    CLIENT, Fixture, MINUTE, NOTES, NOW, OTHER_CLIENT, REFRESH, VERIFIER, client, database,
    resource,
};
use mcpauth_test_support::certificates::Authority;
use mcpauth_test_support::postgres::{Postgres, ROLE_WITH_PASSWORD};
use mcpauth_test_support::process::signal;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_is_killed_between_calls() {
    let postgres = Postgres::start();
    let f = Fixture::at(&postgres.create_database().await).await;
    let code = f.authorize(NOW).await;
    let tokens = f.family(NOW).await;
    // Several connections, all of which the kill breaks.
    join_all((0..8).map(|_| f.is_active(&tokens.access, NOW))).await;

    postgres.kill();
    let hashes = tokens.access.hashes(&f.pepper);
    // The server's other processes take a moment to notice that it is gone.
    let during = loop {
        if let Err(error) = f.store.introspect(&hashes, Extent::Token, NOW).await {
            break error;
        }
    };
    assert!(matches!(during, StoreError::Unavailable(_)), "{during:?}");
    // Introspection has connections of its own: those of the others may notice later.
    let during = loop {
        if let Err(error) = f.store.ping().await {
            break error;
        }
    };
    assert!(matches!(during, StoreError::Unavailable(_)), "{during:?}");

    postgres.restart().await;
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
        let mut newest = None;
        for refreshed in refreshes {
            newest = Some(refreshed.unwrap());
        }
        let newest = newest.unwrap();
        b.refresh(&newest.refresh, NOW).await.unwrap();
        let late = NOW.plus(MINUTE * 2);
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

/// Another session holds the grant, so that the refresh stops in the middle.
async fn hold_all_grants(session: &mut PgConnection) {
    session
        .execute("BEGIN; SELECT FROM grants FOR UPDATE")
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crash_before_commit() {
    let postgres = Postgres::start();
    let f = Fixture::at(&postgres.create_database().await).await;
    let tokens = f.family(NOW).await;
    let known = || Ok([7; 32]);
    let access = Token::generate(TokenKind::Access, [7; 32]);
    let refresh = Token::generate(TokenKind::Refresh, [7; 32]);
    let hashes = tokens.refresh.hashes(&f.pepper);
    let request = Refresh {
        hashes: &hashes,
        attempt: REFRESH,
        minter: Minter {
            random: &known,
            ..f.minter()
        },
    };
    let mut other = f.session(&postgres).await;
    hold_all_grants(&mut other).await;
    let kill = async {
        postgres.wait_for_blocked(&mut other, 1).await;
        postgres.kill();
    };
    let (outcome, ()) = tokio::join!(f.store.refresh(&request, NOW), kill);
    assert!(
        matches!(outcome, Err(StoreError::Unavailable(_))),
        "{outcome:?}"
    );

    postgres.restart().await;
    assert!(!f.is_active(&access, NOW).await);
    assert_eq!(
        f.refresh(&refresh, NOW).await.unwrap_err(),
        Refusal::Unknown
    );
    let refreshed = f.refresh(&tokens.refresh, NOW).await.unwrap();
    assert_eq!(refreshed.kind, Some(RefreshKind::Rotation));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_does_not_answer_is_given_up() {
    let postgres = Postgres::start();
    let f = Fixture::at(&postgres.create_database().await).await;
    let tokens = f.family(NOW).await;
    let mut other = f.session(&postgres).await;
    hold_all_grants(&mut other).await;
    let hashes = tokens.refresh.hashes(&f.pepper);
    let known = || Ok([7; 32]);
    let new = Token::generate(TokenKind::Access, [7; 32]);
    let request = Refresh {
        hashes: &hashes,
        attempt: REFRESH,
        minter: Minter {
            random: &known,
            ..f.minter()
        },
    };
    let outcome = f.store.refresh(&request, NOW).await;
    assert!(
        matches!(outcome, Err(StoreError::Unavailable(_))),
        "{outcome:?}"
    );
    // Its session does not stay in the lock's queue.
    postgres.wait_for_blocked(&mut other, 0).await;

    other.execute("ROLLBACK").await.unwrap();
    let refreshed = f.refresh(&tokens.refresh, NOW).await.unwrap();
    assert_eq!(refreshed.kind, Some(RefreshKind::Rotation));
    assert!(!f.is_active(&new, NOW).await);
}

/// A replica with two connections, besides those for introspection.
async fn two_connections(postgres: &Postgres) -> Fixture {
    let url = postgres.create_database().await;
    Fixture {
        store: Box::new(PostgresStore::new(&url, 2).unwrap()),
        ..Fixture::at(&url).await
    }
}

/// As when the database's machine is gone and nobody says so: TCP notices after a quarter of an hour.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_hang_are_replaced() {
    let postgres = Postgres::start();
    let f = two_connections(&postgres).await;
    let tokens = f.family(NOW).await;
    let mut other = f.session(&postgres).await;
    hold_all_grants(&mut other).await;
    let id = tokens.issued.grant.id;
    let revoke = || f.store.revoke_grant(id);
    let hang = async {
        let hung = postgres.wait_for_blocked(&mut other, 2).await;
        signal("STOP", &hung);
        hung
    };
    let (first, second, hung) = tokio::join!(revoke(), revoke(), hang);
    for outcome in [first, second] {
        let unavailable = matches!(outcome, Err(StoreError::Unavailable(_)));
        assert!(unavailable, "{outcome:?}");
    }

    let mut answer = f.store.client("client").await;
    for _ in 0..5 {
        if answer.is_ok() {
            break;
        }
        answer = f.store.client("client").await;
    }
    assert!(answer.unwrap().is_some());
    signal("CONT", &hung);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn introspection_has_connections_of_its_own() {
    let postgres = Postgres::start();
    let f = two_connections(&postgres).await;
    let tokens = f.family(NOW).await;
    let mut other = f.session(&postgres).await;
    hold_all_grants(&mut other).await;
    let id = tokens.issued.grant.id;
    let introspect = async {
        postgres.wait_for_blocked(&mut other, 2).await;
        let active = f.is_active(&tokens.access, NOW).await;
        other.execute("ROLLBACK").await.unwrap();
        active
    };
    let (first, second) = (f.store.revoke_grant(id), f.store.revoke_grant(id));
    let (first, second, active) = tokio::join!(first, second, introspect);
    assert!(active && first.is_ok() && second.is_ok());
    assert!(!f.is_active(&tokens.access, NOW).await);
}

/// A trial would be one more round trip for each query of introspection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_whose_statement_has_ended_is_not_tried() {
    let f = Fixture::postgres().await;
    let tokens = f.family(NOW).await;
    assert!(f.is_active(&tokens.access, NOW).await);
    // Nobody waits for the trial.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut session = f.session(Postgres::shared()).await;
    let last = "SELECT query FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let last: Vec<String> = sqlx::query_scalar(last)
        .fetch_all(&mut session)
        .await
        .unwrap();
    let kept = last.iter().any(|last| last.starts_with("SELECT t.hash"));
    assert!(kept, "{last:#?}");
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

    let mut connection = f.session(Postgres::shared()).await;
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
    let name = database(&url);
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

    let unmigrated = PostgresStore::new(&url, 2).unwrap();
    let error = unmigrated.ping().await.unwrap_err();
    assert!(error.to_string().contains("tables are missing"), "{error}");

    let foreign = postgres.create_database().await;
    let mut connection = postgres.connect(database(&foreign)).await;
    connection
        .execute("CREATE TABLE clients (id int)")
        .await
        .unwrap();
    let store = PostgresStore::new(&foreign, 2).unwrap();
    for _ in 0..2 {
        let error = store.migrate().await.unwrap_err();
        assert!(
            error.to_string().contains("use a separate database"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn with_a_ca_only_the_server_that_it_certifies_is_used() {
    let authority = Authority::new();
    let (_server, url) = Postgres::on_tcp(Some(&authority));
    let migrate = async |url: &str, ca: &Authority| {
        let store = PostgresStore::with_ca(url, Some(&ca.ca()), 2).unwrap();
        store.migrate().await.map(|()| store)
    };
    let store = migrate(&url, &authority).await.unwrap();
    store.ping().await.unwrap();
    // Whatever the URL says.
    let url_without = format!("{url}?sslmode=disable");
    migrate(&url_without, &authority).await.unwrap();

    let (_plain, plain) = Postgres::on_tcp(None);
    let other = Authority::new();
    for (what, url, ca, words) in [
        ("another CA", &url, &other, "invalid peer certificate"),
        (
            "another name",
            &url.replace("localhost", "127.0.0.1"),
            &authority,
            "not valid for name",
        ),
        ("no TLS", &plain, &authority, "server does not support TLS"),
        (
            "no TLS wanted",
            &format!("{plain}?sslmode=disable"),
            &authority,
            "does not support TLS",
        ),
    ] {
        let error = migrate(url, ca).await.unwrap_err();
        assert!(
            matches!(error, StoreError::Misconfigured(_)),
            "{what}: {error:?}"
        );
        let text = error.to_string();
        assert!(
            text.contains(words) && text.contains("signed by the configured CA"),
            "{what}: {text}"
        );
    }
}

/// As it is when the CA's Secret was renewed.
#[tokio::test]
async fn a_new_ca_needs_no_restart() {
    let (right, wrong) = (Authority::new(), Authority::new());
    let (_server, url) = Postgres::on_tcp(Some(&right));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::copy(wrong.ca(), file.path()).unwrap();
    let store = PostgresStore::with_ca(&url, Some(file.path()), 2).unwrap();
    store.migrate().await.unwrap_err();
    std::fs::copy(right.ca(), file.path()).unwrap();
    store.migrate().await.unwrap();
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
async fn schemas_n_and_n_minus_1_side_by_side() {
    let url = Postgres::shared().create_database().await;
    let f = Fixture::at(&url).await;
    let code = f.authorize(NOW).await;
    let tokens = f.family(NOW).await;
    let tokens = f.refresh(&tokens.refresh, NOW).await.unwrap();
    assert!(f.is_active(&tokens.access, NOW).await);

    // A newer version has come and added a column to each table.
    let mut newer = f.session(Postgres::shared()).await;
    newer
        .execute(
            "DO $$ DECLARE name text; BEGIN
                 FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
                     EXECUTE format('ALTER TABLE %I ADD COLUMN newer text', name);
                 END LOOP;
             END $$;
             INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             VALUES (9999, 'from the future', true, 'x', 1)",
        )
        .await
        .unwrap();

    // This one goes on, and starts anew.
    let restarted = Fixture::at(&url).await;
    for f in [&f, &restarted] {
        assert!(f.is_active(&tokens.access, NOW).await);
        f.refresh(&tokens.refresh, NOW).await.unwrap();
        f.family(NOW).await;
        assert!(f.store.client("client").await.unwrap().is_some());
        assert_eq!(f.store.resources().await.unwrap().len(), 2);
        f.remove_expired(NOW).await;
    }
    f.redeem(&code, NOW).await.unwrap();
}

#[tokio::test]
async fn equal_resources_of_an_older_version_conflict_when_they_are_put() {
    let url = Postgres::shared().create_database().await;
    let f = Fixture::at(&url).await;
    let notes = resource("notes", NOTES);
    let twin = resource("twin", &format!("{NOTES}/"));
    // As a version leaves them that does not know the column.
    let mut older = f.session(Postgres::shared()).await;
    older
        .execute(
            "UPDATE resources SET canonical = NULL;
             INSERT INTO resources (id, resource, name, scopes, introspectors)
             SELECT 'twin', resource || '/', 'twin', scopes,
                    ARRAY['system:serviceaccount:default:twin']
             FROM resources WHERE id = 'notes'",
        )
        .await
        .unwrap();

    let put = f.store.upsert_resource(&notes).await;
    assert_eq!(put.unwrap(), Upsert::Unchanged);
    let put = f.store.upsert_resource(&twin).await;
    assert!(matches!(put, Err(StoreError::Conflict(_))), "{put:?}");
    // Once it has gone, no other one takes its place.
    f.store.delete_resource("twin").await.unwrap();
    let put = f.store.upsert_resource(&twin).await;
    assert!(matches!(put, Err(StoreError::Conflict(_))), "{put:?}");
}

/// None of its tokens is live while its grants are being removed, however long that takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_is_deleted_behind_a_mark() {
    let postgres = Postgres::shared();
    for finished_by in ["housekeeping", "a new client"] {
        let f = Fixture::postgres().await;
        let tokens = f.family(NOW).await;
        let others = f.new_grant(OTHER_CLIENT, None);
        let others = f.issue(others, NOW).await.unwrap();
        let mut session = f.session(postgres).await;
        // The grants that somebody else holds are left for later.
        let lock = "BEGIN; SELECT FROM grants FOR UPDATE";
        session.execute(lock).await.unwrap();
        f.store.delete_client(CLIENT).await.unwrap();
        assert!(!f.is_active(&tokens.access, NOW).await);
        assert_eq!(f.store.client(CLIENT).await.unwrap(), None);
        let refused = f.refresh(&tokens.refresh, NOW).await.unwrap_err();
        assert_eq!(refused, Refusal::Unknown);
        let grant = f.new_grant(CLIENT, None);
        let error = f.issue(grant, NOW).await.unwrap_err();
        assert!(matches!(error, StoreError::Conflict(_)), "{error}");
        session.execute("ROLLBACK").await.unwrap();
        let count = async |session: &mut sqlx::PgConnection, query: &'static str| {
            let count = sqlx::query_scalar::<_, i64>(query).fetch_one(session);
            count.await.unwrap()
        };
        let grants = "SELECT count(*) FROM grants";
        assert_eq!(count(&mut session, grants).await, 2, "{finished_by}");
        if finished_by == "a new client" {
            let created = f.store.upsert_client(&client(CLIENT), NOW).await.unwrap();
            assert_eq!(created, Upsert::Created);
            assert!(!f.is_active(&tokens.access, NOW).await);
        } else {
            f.remove_expired(NOW).await;
            let clients = "SELECT count(*) FROM clients WHERE client_id = 'client'";
            assert_eq!(count(&mut session, clients).await, 0);
        }
        assert_eq!(count(&mut session, grants).await, 1, "{finished_by}");
        assert!(f.is_active(&others, NOW).await);
    }
}

/// Two replicas that register at once keep to the maximum, and the counts are right whoever adds and removes clients.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_race_for_the_last_registrations() {
    let url = Postgres::shared().create_database().await;
    let (a, b) = tokio::join!(Fixture::at(&url), Fixture::at(&url));
    let mut session = a.session(Postgres::shared()).await;
    // As the previous version does it, which knows no networks.
    session
        .execute(
            "INSERT INTO clients (client_id, origin, metadata, last_used_at) VALUES ('old', 'dynamic', '{}', 0)",
        )
        .await
        .unwrap();
    let ids: Vec<String> = (0..16).map(|n| format!("raced-{n}")).collect();
    let race = ids.iter().enumerate().map(|(n, id)| {
        let replica = if n % 2 == 0 { &a } else { &b };
        let network = ["192.0.2.0", "198.51.100.0", "2001:db8::"][n % 3];
        replica.register(id, network, NOW)
    });
    join_all(race).await;
    let counted: i64 =
        sqlx::query_scalar("SELECT clients FROM registration_counts WHERE network = ''")
            .fetch_one(&mut session)
            .await
            .unwrap();
    assert_eq!(counted, 3);
    let agree = "
        SELECT (SELECT count(*) FROM clients WHERE origin = 'dynamic')
                   = (SELECT clients FROM registration_counts WHERE network = '')
           AND NOT EXISTS (
               SELECT FROM (SELECT network, count(*) AS clients FROM clients
                            WHERE origin = 'dynamic' AND NOT used GROUP BY network) AS real
               FULL JOIN (SELECT * FROM registration_counts WHERE network <> '') AS counted USING (network)
               WHERE real.clients IS DISTINCT FROM counted.clients)";
    let agrees = async |session: &mut PgConnection| {
        let agrees: bool = sqlx::query_scalar(agree).fetch_one(session).await.unwrap();
        agrees
    };
    assert!(agrees(&mut session).await);
    let registered =
        "SELECT client_id FROM clients WHERE client_id LIKE 'raced%' ORDER BY client_id";
    let registered: Vec<String> = sqlx::query_scalar(registered)
        .fetch_all(&mut session)
        .await
        .unwrap();
    b.store.touch_client(&registered[0], NOW).await.unwrap();
    assert!(agrees(&mut session).await);
    b.store
        .upsert_client(&client(&registered[1]), NOW)
        .await
        .unwrap();
    assert!(agrees(&mut session).await);
    b.store.delete_client("old").await.unwrap();
    a.store.delete_client(&registered[0]).await.unwrap();
    assert!(agrees(&mut session).await);
}

/// Replicas that start together store what their configuration has at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_store_the_same_resource_at_once() {
    let url = Postgres::shared().create_database().await;
    let (a, b) = (Fixture::at(&url).await, Fixture::at(&url).await);
    for round in 0..50 {
        let uri = format!("http://localhost:9001/raced/{round}");
        let new = resource(&format!("raced-{round}"), &uri);
        let stores = [&a.store, &b.store, &a.store, &b.store];
        let race = stores.map(|store| store.upsert_resource(&new));
        for outcome in join_all(race).await {
            outcome.unwrap();
        }
    }
}
