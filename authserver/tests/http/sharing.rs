//! Sixteen processes that share one refresh token and refresh at once, while responses are lost and connections are cut.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use http::header;
use mcp_authserver::store::PostgresStore;
use mcpauth_test_support::postgres::Postgres;

use crate::server::{Answer, Setup, TestServer, text};

const PROCESSES: usize = 16;
const ROUNDS: usize = 10;
/// Of the default configuration.
const GRACE: Duration = Duration::from_secs(60);
/// How far the second replica's clock is ahead.
const SKEW: Duration = Duration::from_secs(2);

/// Two replicas on PostgreSQL, whose clocks differ.
async fn replicas() -> [TestServer; 2] {
    let url = Postgres::shared().create_database().await;
    let replica = async || {
        let store = PostgresStore::new(&url, 16).unwrap();
        store.migrate().await.unwrap();
        TestServer::with(Setup {
            store: Arc::new(store),
            ..Setup::default()
        })
        .await
    };
    let replicas = [replica().await, replica().await];
    replicas[1].clock.advance(SKEW);
    replicas
}

/// What happens to a process in a round. Nobody is struck twice in a row: a lost response is forgiven once.
enum Fate {
    /// It gets its response.
    Spared,
    /// The refresh is committed and the response lost; it tries again at once.
    Retries,
    /// The same, but it is down until the next round.
    Down,
    /// Its connection is cut after this time, wherever the server is then; it tries again at once.
    Cut(Duration),
}

fn fate(round: usize, process: usize) -> Fate {
    match (round + process) % 8 {
        1 => Fate::Retries,
        3 => Fate::Down,
        5 => Fate::Cut(Duration::from_micros(300 * (round + process) as u64)),
        _ => Fate::Spared,
    }
}

/// What this process has after the round; none: what it had.
async fn refresh(server: &TestServer, token: &str, fate: Fate) -> Option<Answer> {
    let answer = match fate {
        Fate::Spared => server.refresh(token).await,
        Fate::Retries => {
            server.refresh(token).await.ok();
            server.refresh(token).await
        }
        Fate::Down => {
            server.refresh(token).await.ok();
            return None;
        }
        Fate::Cut(after) => match tokio::time::timeout(after, server.refresh(token)).await {
            Ok(answer) => answer,
            Err(_) => server.refresh(token).await,
        },
    };
    Some(answer)
}

async fn rounds(servers: &[&TestServer]) {
    let mut spent = String::new();
    let first = servers[0].tokens(&[]).await;
    let mut held = vec![text(&first["refresh_token"]); PROCESSES];
    for round in 0..ROUNDS {
        // Two rounds within a grace period, then one after it.
        let pause = if round % 3 == 2 { GRACE * 3 } else { GRACE / 4 };
        for server in servers {
            server.clock.advance(pause);
        }
        let together = held.iter().enumerate().map(|(process, token)| {
            let server = servers[(round + process) % servers.len()];
            refresh(server, token, fate(round, process))
        });
        let answers = join_all(together).await;
        for (process, answer) in answers.into_iter().enumerate() {
            let Some(answer) = answer else { continue };
            let tokens = answer.ok();
            let active = servers[0].is_active(&text(&tokens["access_token"])).await;
            assert!(active, "process {process} in round {round}");
            spent = std::mem::replace(&mut held[process], text(&tokens["refresh_token"]));
        }
    }
    // Once more, after any grace period: nobody was thrown out.
    for server in servers {
        server.clock.advance(GRACE * 3);
    }
    for token in &mut held {
        let tokens = servers[0].refresh(token).await.ok();
        *token = text(&tokens["refresh_token"]);
    }
    // A copy of a used token is found.
    for server in servers {
        server.clock.advance(GRACE * 3);
    }
    let copied = servers[0].refresh(&spent).await;
    copied.is_error(400, "invalid_grant");
    for token in &held {
        let refreshed = servers[0].refresh(token).await;
        refreshed.is_error(400, "invalid_grant");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_processes_share_a_token_in_memory() {
    let server = TestServer::start().await;
    rounds(&[&server]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_processes_share_a_token_on_two_replicas() {
    let [one, other] = replicas().await;
    rounds(&[&one, &other]).await;
}

/// They read it from one file, and the last to refresh has written it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_processes_share_a_file_on_two_replicas() {
    let servers = replicas().await;
    let mut file = text(&servers[0].tokens(&[]).await["refresh_token"]);
    for round in 0..ROUNDS {
        for server in &servers {
            server.clock.advance(GRACE * 3);
        }
        let refreshes = (0..PROCESSES).map(|process| servers[process % 2].refresh(&file));
        let answers = join_all(refreshes).await;
        let written: Vec<_> = answers.iter().map(Answer::ok).collect();
        file = text(&written[round % PROCESSES]["refresh_token"]);
    }
}

#[tokio::test]
async fn a_used_token_that_is_presented_again_is_seen() {
    let server = TestServer::start().await;
    let refresh = async |token: &str| {
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", "app"),
            ("refresh_token", token),
        ];
        let agent = [(header::USER_AGENT, "a-second-process/1.0")];
        server.post_with("/token", &agent, &form).await
    };
    let first = text(&server.tokens(&[]).await["refresh_token"]);
    let second = text(&refresh(&first).await.ok()["refresh_token"]);
    server.audited();
    let seen = |outcome: &str| {
        let lines = server.audited();
        assert_eq!(lines.len(), 1, "{outcome}: {lines:#?}");
        let line = &lines[0];
        for (field, expected) in [
            ("event", "refresh"),
            ("outcome", outcome),
            ("subject", "developer"),
            ("client_id", "app"),
            ("address", "127.0.0.1"),
            ("user_agent", "a-second-process/1.0"),
        ] {
            assert_eq!(line[field], expected, "{line}");
        }
    };
    refresh(&first).await.ok();
    seen("sibling");
    server.clock.advance(GRACE * 2);
    refresh(&first).await.ok();
    seen("lost_response");
    refresh(&second).await.is_error(400, "invalid_grant");
    seen("reuse");
}
