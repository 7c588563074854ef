//! Clients that go on through an outage: whoever gets 503 sends the same again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use mcpauth_test_support::wait::eventually;

use super::ask::{client_credentials, redeem, refresh, revoke};
use super::replica::Replica;
use crate::server::{Answer, text};

const CLIENTS: usize = 6;
/// What a client does before the outage begins, and after it ends.
const ROUNDS: usize = 3;

/// What a client was told.
#[derive(Default)]
pub struct Traffic {
    /// Access tokens that it got.
    issued: Vec<String>,
    /// Access tokens of families that it has revoked.
    revoked: Vec<String>,
    /// Codes that were redeemed for it.
    redeemed: Vec<String>,
    /// Its refresh token.
    refresh: String,
}

impl Traffic {
    /// Runs an outage under load, and then checks that nothing was lost or given twice.
    pub async fn through(replicas: &[Replica; 2], outage: impl Future<Output = ()>) {
        let over = AtomicBool::new(false);
        let clients = join_all((0..CLIENTS).map(|number| Self::run(replicas, number, &over)));
        let outage = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            outage.await;
            over.store(true, Ordering::Relaxed);
        };
        let (clients, ()) = tokio::join!(clients, outage);
        for client in clients {
            client.check(replicas).await;
        }
    }

    async fn run(replicas: &[Replica; 2], number: usize, over: &AtomicBool) -> Self {
        let mut traffic = Self::default();
        let (code, tokens) = sign_in(replicas, number).await;
        traffic.redeemed.push(code);
        traffic.refresh = text(&tokens["refresh_token"]);
        let mut rounds = 0;
        while rounds < ROUNDS {
            rounds += usize::from(over.load(Ordering::Relaxed));
            traffic.round(replicas, number + rounds).await;
        }
        traffic
    }

    async fn round(&mut self, replicas: &[Replica; 2], number: usize) {
        let of = |at: usize| &replicas[at % 2];
        let tokens = insist(|at| refresh(of(number + at), &self.refresh))
            .await
            .ok();
        self.refresh = text(&tokens["refresh_token"]);
        self.issued.push(text(&tokens["access_token"]));
        let tokens = insist(|at| client_credentials(of(number + at))).await.ok();
        self.issued.push(text(&tokens["access_token"]));
        let (code, tokens) = sign_in(replicas, number).await;
        self.redeemed.push(code);
        let token = text(&tokens["refresh_token"]);
        insist(|at| revoke(of(number + at), &token)).await;
        self.revoked.push(text(&tokens["access_token"]));
    }

    async fn check(self, replicas: &[Replica; 2]) {
        for replica in replicas {
            for token in &self.issued {
                assert!(replica.is_active(token).await, "an issued token is lost");
            }
            for token in &self.revoked {
                assert!(!replica.is_active(token).await, "a revoked token is back");
            }
        }
        refresh(&replicas[0], &self.refresh).await.ok();
        for code in &self.redeemed {
            redeem(&replicas[1], code)
                .await
                .is_error(400, "invalid_grant");
        }
    }
}

/// The code and the tokens for it. Where nobody knows whether the code was redeemed, the user is asked again.
async fn sign_in(replicas: &[Replica; 2], number: usize) -> (String, serde_json::Value) {
    let of = |at: usize| &replicas[at % 2];
    loop {
        let code = insist(|at| of(number + at).authorize()).await;
        let code = code.location_param("code").unwrap();
        let answer = insist(|at| redeem(of(number + at), &code)).await;
        if answer.status == 200 {
            return (code, answer.json());
        }
        assert!(answer.body.contains("did not confirm"), "{answer:?}");
    }
}

/// Sends a request until it gets something else than 503, to one replica after the other.
async fn insist<F: Future<Output = Answer>>(send: impl Fn(usize) -> F) -> Answer {
    let tries = std::cell::Cell::new(0);
    eventually("an answer", async || {
        tries.set(tries.get() + 1);
        let answer = send(tries.get()).await;
        let is_sent_back = answer.headers.get(http::header::LOCATION).is_some()
            && answer.location_param("error").as_deref() == Some("temporarily_unavailable");
        match answer.status == 503 || is_sent_back {
            true => Err(format!("{answer:?}")),
            false => Ok(answer),
        }
    })
    .await
}
