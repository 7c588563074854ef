//! The session ends when an operation commits: nothing of it is stored, its caller is told so, and it can be repeated.

use mcp_authserver::keys::rotation::KeyRecord;
use mcp_authserver::oauth::rate_limit::RateLimit;
use mcp_authserver::store::{CodeRedemption, NewRegistration, Refresh, StoreError, Unused};
use mcpauth_service::clock::UnixTime;
use mcpauth_test_support::postgres::Postgres;
use mcpauth_wire::authserver_config::SigningAlgorithm;
use sqlx::{Executor as _, PgConnection};

use crate::fixture::{
    ABSOLUTE, CLIENT, Fixture, GRACE, MINUTE, NOTES, NOW, REFRESH, RIGHT, client, resource,
};
use mcp_authserver::oauth::client::ClientOrigin;
use mcp_authserver::oauth::code::CodeAttempt;
use mcp_authserver::oauth::token::Token;

const LATER: UnixTime = UnixTime::from_millis(NOW.as_millis() + 1_000_000);

/// A deferred trigger on each table runs when a transaction commits that has changed rows, and ends the session, once as
/// many transactions as the sequence says have been spared.
const DIE_AT_COMMIT: &str = "
CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF to_regclass('doom') IS NOT NULL AND current_setting('doom.counted', true) IS DISTINCT FROM 'yes' THEN
        PERFORM set_config('doom.counted', 'yes', true);
        IF nextval('doom') > 0 THEN
            PERFORM pg_terminate_backend(pg_backend_pid());
        END IF;
    END IF;
    RETURN NULL;
END $$;
DO $$ DECLARE name text; BEGIN
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> '_sqlx_migrations' LOOP
        EXECUTE format('CREATE CONSTRAINT TRIGGER die AFTER INSERT OR UPDATE OR DELETE ON %I
                        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION die()', name);
    END LOOP;
END $$";
const SPARE_NONE: &str = "CREATE SEQUENCE doom MINVALUE 1";
const SPARE_ONE: &str = "CREATE SEQUENCE doom MINVALUE 0";
const SPARE_ALL: &str = "DROP SEQUENCE doom";

const TABLES: [&str; 9] = [
    "clients",
    "resources",
    "grants",
    "authorization_codes",
    "refresh_tokens",
    "access_tokens",
    "signing_keys",
    "assertions",
    "rate_windows",
];

struct Scene {
    f: Fixture,
    session: tokio::sync::Mutex<PgConnection>,
}

impl Scene {
    async fn new() -> Self {
        let f = Fixture::postgres().await;
        let mut session = f.session(Postgres::shared()).await;
        session.execute(DIE_AT_COMMIT).await.unwrap();
        let session = tokio::sync::Mutex::new(session);
        Self { f, session }
    }

    async fn stored(&self) -> Vec<String> {
        let mut rows = Vec::new();
        for table in TABLES {
            let query = format!("SELECT '{table}' || t::text FROM {table} t ORDER BY 1");
            let query = sqlx::query_scalar(sqlx::AssertSqlSafe(query));
            let of_table: Vec<String> = query
                .fetch_all(&mut *self.session.lock().await)
                .await
                .unwrap();
            rows.extend(of_table);
        }
        rows
    }

    async fn execute(&self, statement: &'static str) {
        self.session.lock().await.execute(statement).await.unwrap();
    }

    /// The operation dies at its commit; and succeeds when that is spared: there is one, and no second one.
    async fn dies<T: std::fmt::Debug>(
        &self,
        what: &str,
        operation: impl AsyncFn() -> Result<T, StoreError>,
    ) -> T {
        let before = self.stored().await;
        self.execute(SPARE_NONE).await;
        let outcome = operation().await;
        let told = matches!(
            outcome,
            Err(StoreError::Unavailable(_) | StoreError::Unconfirmed(_))
        );
        assert!(told, "{what}: {outcome:?}");
        self.execute(SPARE_ALL).await;
        assert_eq!(self.stored().await, before, "{what}");
        self.execute(SPARE_ONE).await;
        let done = operation().await;
        self.execute(SPARE_ALL).await;
        assert_ne!(self.stored().await, before, "{what}: it changes nothing");
        done.unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    async fn redeem(&self, what: &str, code: &Token, attempt: CodeAttempt<'_>) {
        let f = &self.f;
        let redemption = CodeRedemption {
            hashes: &code.hashes(&f.pepper),
            attempt,
            grant_expires_at: NOW.plus(ABSOLUTE),
            minter: f.minter(),
        };
        let redeem = async || f.store.redeem_code(&redemption, NOW).await;
        // Refused, or not: both change something.
        let _ = self.dies(what, redeem).await;
    }

    async fn refresh(&self, what: &str, token: &Token, now: UnixTime) {
        let f = &self.f;
        let request = Refresh {
            hashes: &token.hashes(&f.pepper),
            attempt: REFRESH,
            minter: f.minter(),
        };
        let refresh = async || f.store.refresh(&request, now).await;
        let _ = self.dies(what, refresh).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codes_and_tokens() {
    let scene = Scene::new().await;
    let f = &scene.f;
    let authorize = async || {
        let code = f.token(mcp_authserver::oauth::token::TokenKind::Code);
        let new = f.new_code(&code, NOW);
        let grant = f.new_grant(CLIENT, Some("alice"));
        let created = f.store.create_authorization(grant, &new, NOW).await;
        created.map(|()| code)
    };
    let code = scene.dies("an authorization", authorize).await;
    let wrong = CodeAttempt {
        code_verifier: "wrong-wrong-wrong-wrong-wrong-wrong-wrong-wrong",
        ..RIGHT
    };
    scene.redeem("a wrong verifier", &code, wrong).await;
    scene.redeem("a redemption", &code, RIGHT).await;
    scene.redeem("a replay", &code, RIGHT).await;

    let tokens = f.family(NOW).await;
    scene.refresh("a rotation", &tokens.refresh, NOW).await;
    scene.refresh("a sibling", &tokens.refresh, NOW).await;
    let late = NOW.plus(GRACE * 2);
    scene
        .refresh("a lost response", &tokens.refresh, late)
        .await;
    scene.refresh("a reuse", &tokens.refresh, LATER).await;

    let issue = async || f.issue(f.new_grant(CLIENT, None), NOW).await;
    let token = scene.dies("client credentials", issue).await;
    let hashes = token.hashes(&f.pepper);
    let revoke = async || f.store.revoke_access_token(&hashes, CLIENT).await;
    scene.dies("a revoked access token", revoke).await;
    let hashes = f.family(NOW).await.refresh.hashes(&f.pepper);
    let revoke = async || f.store.revoke_refresh_token(&hashes, CLIENT).await;
    scene.dies("a revoked refresh token", revoke).await;
    let id = f.family(NOW).await.issued.grant.id;
    let revoke = async || f.store.revoke_grant(id).await;
    scene.dies("a revoked grant", revoke).await;
    f.family(NOW).await;
    let revoke = async || f.store.revoke_user("alice").await;
    scene.dies("a revoked user", revoke).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_and_resources() {
    let scene = Scene::new().await;
    let f = &scene.f;
    let mut new = client("new");
    let put = async |client: &_| f.store.upsert_client(client, NOW).await;
    scene.dies("a new client", async || put(&new).await).await;
    new.secret_hash = Some(f.pepper.hash_client_secret("one"));
    scene
        .dies("a changed client", async || put(&new).await)
        .await;
    let (before, after) = (new.secret_hash.unwrap(), f.pepper.hash_client_secret("two"));
    let replace = async || f.store.replace_secret_hash("new", &before, &after).await;
    scene.dies("a new hash", replace).await;
    let delete = async || f.store.delete_client("new").await;
    scene.dies("a deleted client", delete).await;

    let mut dynamic = client("dynamic");
    dynamic.origin = ClientOrigin::Dynamic;
    let registration = NewRegistration {
        client: &dynamic,
        network: "192.0.2.0".parse().unwrap(),
        max_clients: 1,
    };
    let register = async || f.store.register_client(&registration, NOW).await;
    scene.dies("a registration", register).await;
    let mut changed = dynamic.clone();
    changed.metadata.client_name = "changed".into();
    let update = async || f.store.update_registration(&changed).await;
    assert!(scene.dies("a changed registration", update).await);
    let touch = async || f.store.touch_client("dynamic", NOW).await;
    scene.dies("a client in use", touch).await;

    let put = async |resource: &_| f.store.upsert_resource(resource).await;
    let mut new = resource("new", "http://localhost:9003/mcp");
    scene.dies("a new resource", async || put(&new).await).await;
    new.allowed_clients.namespaces.clear();
    let narrowed = async || put(&new).await;
    scene.dies("a resource that admits fewer", narrowed).await;
    let moved = resource("notes", "http://localhost:9004/mcp");
    f.family(NOW).await;
    scene
        .dies("a moved resource", async || put(&moved).await)
        .await;
    let back = resource("notes", NOTES);
    f.store.upsert_resource(&back).await.unwrap();
    f.family(NOW).await;
    let delete = async || f.store.delete_resource("notes").await;
    scene.dies("a deleted resource", delete).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_limits_and_what_has_expired() {
    let scene = Scene::new().await;
    let f = &scene.f;
    let key = KeyRecord {
        algorithm: SigningAlgorithm::Es256,
        sequence: 7,
        not_before: NOW,
        retired_at: None,
        sealed: vec![1; 40],
    };
    let keys = [key.clone()];
    let add = async || f.store.add_signing_keys(&keys).await;
    scene.dies("a new key", add).await;
    let retired = KeyRecord {
        retired_at: Some(NOW),
        ..key.clone()
    };
    let retire = async || f.store.replace_signing_key(&key, &retired).await;
    assert!(scene.dies("a retired key", retire).await);
    let remove = async || f.store.remove_signing_key(&retired).await;
    scene.dies("a removed key", remove).await;

    let end = NOW.plus(MINUTE);
    let remember = async || f.store.remember_assertion(CLIENT, "jti", end, NOW).await;
    assert!(scene.dies("an assertion", remember).await, "the first time");
    let unused = Unused {
        never_used_since: UnixTime::from_millis(0),
        idle_since: UnixTime::from_millis(0),
    };
    let end = NOW.plus(ABSOLUTE * 2);
    let remove = async || f.store.remove_expired(unused, end).await;
    scene.dies("what has expired", remove).await;
    let limit = RateLimit::per_minute(1.try_into().unwrap());
    let hit = async || f.store.hit("rule", "subject", limit, NOW).await;
    scene.dies("a hit", hit).await;
}
