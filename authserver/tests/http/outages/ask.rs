//! The requests that outages are tried with.

use std::sync::atomic::{AtomicBool, Ordering};

use http::header;
use serde_json::json;

use super::Gets;
use super::replica::Replica;
use crate::server::{Answer, LOOPBACK, SECRET, VERIFIER, notes, text};

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    Discovery,
    Jwks,
    Authorize,
    Code,
    Refresh,
    ClientCredentials,
    Introspect,
    Revoke,
    Register,
    PutClient,
    Ready,
}

/// What there is before an outage.
pub struct Held {
    code: String,
    refresh: String,
    /// Of a family that nothing happens to.
    pub access: String,
    revoked: String,
    /// Of the family that is revoked.
    pub revoked_access: String,
    /// What the PUT changes.
    name: String,
    is_redeemed: AtomicBool,
}

/// What came back.
#[derive(Debug)]
pub struct Got {
    pub status: u16,
    answer: Answer,
}

impl Held {
    pub async fn at(replica: &Replica) -> Self {
        let family = async || {
            let code = replica.code().await;
            let tokens = redeem(replica, &code).await.ok();
            ["access_token", "refresh_token"].map(|name| text(&tokens[name]))
        };
        let [access, _] = family().await;
        let [_, refresh] = family().await;
        let [revoked_access, revoked] = family().await;
        assert!(replica.is_active(&revoked_access).await);
        Self {
            code: replica.code().await,
            refresh,
            access,
            revoked,
            revoked_access,
            name: format!("renamed {}", std::process::id()),
            is_redeemed: AtomicBool::new(false),
        }
    }

    /// Whether the code has been redeemed.
    pub fn is_redeemed(&self) -> bool {
        self.is_redeemed.load(Ordering::Relaxed)
    }
}

pub async fn redeem(replica: &Replica, code: &str) -> Answer {
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", "app"),
        ("code", code),
        ("code_verifier", VERIFIER),
    ];
    replica.post("/token", &form).await
}

pub async fn refresh(replica: &Replica, token: &str) -> Answer {
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", "app"),
        ("refresh_token", token),
    ];
    replica.post("/token", &form).await
}

pub async fn client_credentials(replica: &Replica) -> Answer {
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", "poster"),
        ("client_secret", SECRET),
    ];
    replica.post("/token", &form).await
}

pub async fn revoke(replica: &Replica, token: &str) -> Answer {
    replica
        .post("/revoke", &[("client_id", "app"), ("token", token)])
        .await
}

impl Ask {
    pub const ALL: [Self; 11] = [
        Self::Discovery,
        Self::Jwks,
        Self::Authorize,
        Self::Code,
        Self::Refresh,
        Self::ClientCredentials,
        Self::Introspect,
        Self::Revoke,
        Self::Register,
        Self::PutClient,
        Self::Ready,
    ];

    /// Whether the answer has tokens.
    pub fn issues(self) -> bool {
        matches!(self, Self::Code | Self::Refresh | Self::ClientCredentials)
    }

    fn success(self) -> u16 {
        match self {
            Self::Authorize => 303,
            Self::Register => 201,
            _ => 200,
        }
    }

    pub async fn send(self, replica: &Replica, held: &Held) -> Got {
        let answer = match self {
            Self::Discovery => replica.get("/.well-known/oauth-authorization-server").await,
            Self::Jwks => replica.get("/jwks").await,
            Self::Authorize => replica.authorize().await,
            Self::Code => {
                let answer = redeem(replica, &held.code).await;
                let is_redeemed = answer.status == 200;
                held.is_redeemed.fetch_or(is_redeemed, Ordering::Relaxed);
                answer
            }
            Self::Refresh => refresh(replica, &held.refresh).await,
            Self::ClientCredentials => client_credentials(replica).await,
            Self::Introspect => replica.introspect(&held.access).await,
            Self::Revoke => revoke(replica, &held.revoked).await,
            Self::Register => {
                let document =
                    json!({ "redirect_uris": [LOOPBACK], "token_endpoint_auth_method": "none" });
                replica.post_json("/register", &document).await
            }
            Self::PutClient => {
                let client = json!({
                    "clientName": held.name, "tokenEndpointAuthMethod": "none", "redirectUris": [LOOPBACK],
                    "grantTypes": ["authorization_code"], "namespace": "team",
                    "resources": [notes(&["notes:read"])],
                });
                replica.put("/admin/v1/clients/put", &client).await
            }
            Self::Ready => replica.ready().await,
        };
        Got {
            status: answer.status.as_u16(),
            answer,
        }
    }
}

impl Got {
    pub fn token(&self, name: &str) -> String {
        text(&self.answer.json()[name])
    }

    /// Whether this is what the request gets.
    pub fn is(&self, ask: Ask, gets: Gets) -> bool {
        let answer = &self.answer;
        match gets {
            Gets::Answer if self.status != ask.success() => false,
            Gets::Answer => match ask {
                Ask::Authorize => answer.location_param("code").is_some(),
                Ask::Introspect => answer.json()["active"] == json!(true),
                _ => true,
            },
            Gets::Unavailable => self.status == 503 && self.says_when_to_retry(ask),
            Gets::SentBack => {
                let error = answer.location_param("error");
                ask == Ask::Authorize && error.as_deref() == Some("temporarily_unavailable")
            }
            Gets::Either => [Gets::Answer, Gets::Unavailable, Gets::SentBack]
                .into_iter()
                .any(|gets| self.is(ask, gets)),
        }
    }

    fn says_when_to_retry(&self, ask: Ask) -> bool {
        let answer = &self.answer;
        let retry = answer.header(header::RETRY_AFTER).parse::<u32>();
        let is_soon = retry.is_ok_and(|seconds| (1..=5).contains(&seconds));
        match ask {
            // The kubelet asks when it likes.
            Ask::Ready => true,
            // A page.
            Ask::Authorize => is_soon && answer.body.contains("Try again in a moment"),
            _ => is_soon && answer.json()["error"] == "temporarily_unavailable",
        }
    }
}
