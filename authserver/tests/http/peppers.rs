//! A pepper is replaced while replicas with the old and the new keys file serve side by side over one database.

use std::sync::Arc;

use http::header;
use mcp_authserver::http::app::StartError;
use mcp_authserver::metrics::Metrics;
use mcp_authserver::pepper_use;
use mcp_authserver::store::PostgresStore;
use mcp_authserver::store::Unused;
use mcpauth_test_support::postgres::Postgres;
use serde_json::{Value, json};

use crate::server::{LOOPBACK, NOTES, SECRET, Setup, TestServer, basic, pepper, text};

/// A replica with these lines in its keys file.
async fn try_replica(url: &str, lines: &[String]) -> Result<TestServer, StartError> {
    let store = PostgresStore::new(url, 4).unwrap();
    store.migrate().await.unwrap();
    TestServer::try_with(Setup {
        store: Arc::new(store),
        pepper: lines.concat(),
        ..Setup::default()
    })
    .await
}

async fn replica(url: &str, versions: &[u8]) -> TestServer {
    let lines: Vec<_> = versions.iter().copied().map(pepper).collect();
    try_replica(url, &lines).await.unwrap()
}

/// What was given to clients, and must go on working.
struct Held {
    access: String,
    refresh: String,
    client: (String, String),
}

impl Held {
    async fn from(server: &TestServer) -> Self {
        let tokens = server
            .tokens(&[("scope", "notes:read openid offline_access")])
            .await;
        let registration = json!({
            "redirect_uris": [LOOPBACK], "token_endpoint_auth_method": "client_secret_basic",
            "grant_types": ["authorization_code", "refresh_token"],
        });
        let request = server
            .public(http::Method::POST, "/register")
            .header(header::CONTENT_TYPE, "application/json");
        let request = request.body(registration.to_string().into()).unwrap();
        let answer = server.send(request).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let client: Value = answer.json();
        Self {
            access: text(&tokens["access_token"]),
            refresh: text(&tokens["refresh_token"]),
            client: (text(&client["client_id"]), text(&client["client_secret"])),
        }
    }

    /// Uses all of it here. The refresh token is a new one afterwards.
    async fn is_honoured_by(&mut self, server: &TestServer) {
        assert!(server.is_active(&self.access).await);
        self.goes_on_at(server).await;
    }

    /// Uses all but the access token, which has expired.
    async fn goes_on_at(&mut self, server: &TestServer) {
        let tokens = server.refresh(&self.refresh).await.ok();
        self.access = text(&tokens["access_token"]);
        self.refresh = text(&tokens["refresh_token"]);
        assert!(server.is_active(&self.access).await);
        self.client_is_known_to(server).await;
    }

    /// The client authenticates: only the token is wrong.
    async fn client_is_known_to(&self, server: &TestServer) {
        let (id, secret) = &self.client;
        let authorization = basic(id, secret);
        let headers = [(header::AUTHORIZATION, authorization.as_str())];
        let form = [("grant_type", "refresh_token"), ("refresh_token", "x")];
        let answer = server.post_with("/token", &headers, &form).await;
        answer.is_error(400, "invalid_grant");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_is_lost_while_a_pepper_is_replaced() {
    let url = Postgres::shared().create_database().await;
    let before = replica(&url, &[1]).await;
    let (mut early, mut idle) = (Held::from(&before).await, Held::from(&before).await);

    // The new line goes below: what is new is still made under the old one.
    let below = replica(&url, &[1, 2]).await;
    early.is_honoured_by(&below).await;
    early.is_honoured_by(&before).await;
    drop(before);

    // It moves up: replicas that do not have it on top yet honour what is made under it, and the other way round.
    let above = replica(&url, &[2, 1]).await;
    let mut late = Held::from(&above).await;
    for server in [&below, &above, &below, &above] {
        early.is_honoured_by(server).await;
        late.is_honoured_by(server).await;
    }
    assert_eq!(above.get("/jwks").await.ok(), below.get("/jwks").await.ok());
    let code = above.code(&[]).await;
    let tokens = below.redeem(&code).await.ok();
    above.refresh(&text(&tokens["refresh_token"])).await.ok();
    drop(below);

    // Removed too early, it takes the client with it that has been idle, and its token.
    let error = try_replica(&url, &[pepper(2)]).await.err().unwrap();
    let error = error.to_string();
    for expected in [
        "version 1 of the pepper",
        "1 refresh token",
        "1 client secret",
        "`1:lost`",
    ] {
        assert!(error.contains(expected), "{expected}: {error}");
    }
    idle.is_honoured_by(&above).await;
    early.is_honoured_by(&above).await;
    late.is_honoured_by(&above).await;
    above.clock.advance(std::time::Duration::from_secs(901));
    let last = TestServer::try_with(Setup {
        store: Arc::clone(&above.app.core.store),
        pepper: pepper(2),
        ..Setup::default()
    });
    // Only the clock of `above` has gone on.
    assert!(last.await.is_err(), "its access tokens still live");
    let (store, now) = (&above.app.core.store, above.clock.now());
    assert!(
        store.under_other_peppers(2, now).await.unwrap().is_empty(),
        "the access tokens have expired, and all else was hashed again"
    );
    let yesterday = now.minus(std::time::Duration::from_hours(24));
    let unused = Unused {
        never_used_since: yesterday,
        idle_since: yesterday,
    };
    store.remove_expired(unused, now).await.unwrap();
    let after = replica(&url, &[2]).await;
    for held in [&mut early, &mut idle, &mut late] {
        held.goes_on_at(&after).await;
    }
}

/// What the administrator waits for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_under_the_old_pepper_is_a_metric() {
    let url = Postgres::shared().create_database().await;
    let held = Held::from(&replica(&url, &[1]).await).await;
    let server = replica(&url, &[2, 1]).await;
    let core = &server.app.core;
    let metrics = Metrics::default();
    let count = async || {
        pepper_use::count(
            core.store.as_ref(),
            &core.pepper,
            &metrics,
            core.clock.now(),
        )
        .await
        .unwrap();
        metrics.encode()
    };
    let uses = |kind: &str, count: u8| {
        format!("mcpauth_authserver_pepper_uses{{version=\"1\",kind=\"{kind}\"}} {count}\n")
    };
    let page = count().await;
    for kind in ["access_token", "refresh_token", "client_secret"] {
        assert!(page.contains(&uses(kind, 1)), "{kind}: {page}");
    }
    held.client_is_known_to(&server).await;
    let page = count().await;
    assert!(page.contains(&uses("client_secret", 0)), "{page}");
    assert!(page.contains(&uses("refresh_token", 1)), "{page}");
}

/// A lost pepper keeps nobody from starting: what was made under it is given up by name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_pepper_is_given_up_by_name() {
    let url = Postgres::shared().create_database().await;
    let before = replica(&url, &[1]).await;
    let held = Held::from(&before).await;
    drop(before);
    assert!(try_replica(&url, &[pepper(2)]).await.is_err());
    let lost = try_replica(&url, &[pepper(2), "1:lost\n".to_owned()]).await;
    let server = lost.unwrap();
    assert!(!server.is_active(&held.access).await);
    let answer = server.refresh(&held.refresh).await;
    answer.is_error(400, "invalid_grant");
    let tokens = server.tokens(&[("scope", "notes:read openid")]).await;
    assert!(server.is_active(&text(&tokens["access_token"])).await);
    assert!(tokens["id_token"].is_string());
    // The secret is in the configuration, so that it is hashed anew.
    let authorization = basic(
        "robot",
        &SECRET
            .replace('%', "%25")
            .replace('+', "%2B")
            .replace(':', "%3A"),
    );
    let headers = [(header::AUTHORIZATION, authorization.as_str())];
    let form = [("grant_type", "client_credentials"), ("resource", NOTES)];
    server.post_with("/token", &headers, &form).await.ok();
}
