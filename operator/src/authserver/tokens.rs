//! The operator's own ServiceAccount tokens, one for each authorization server.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;
use mcpauth_service::clock::Clock;
use tokio::sync::Mutex;

use super::error::CallError;
use super::server::Server;
use crate::desired::names;
use crate::text::explain;
use crate::time;

/// A token is replaced this long before it expires.
const TOKEN_RESERVE: SignedDuration = SignedDuration::from_mins(2);

#[derive(Clone)]
struct Token {
    audience: String,
    value: Arc<str>,
    expires: Timestamp,
}

/// Requests tokens, and caches them while they are valid.
pub struct Tokens {
    accounts: Api<ServiceAccount>,
    account: String,
    clock: Clock,
    tokens: Mutex<HashMap<Server, Token>>,
}

impl Tokens {
    /// Of the ServiceAccount `account` in `namespace`.
    pub fn new(client: kube::Client, namespace: &str, account: &str, clock: Clock) -> Self {
        Self {
            accounts: Api::namespaced(client, namespace),
            account: account.to_owned(),
            clock,
            tokens: Mutex::default(),
        }
    }

    /// Forgets a server that was deleted.
    pub async fn forget(&self, server: &Server) {
        self.tokens.lock().await.remove(server);
    }

    /// A token for `server` with this audience: the cached one, unless it is about to expire or `fresh` is set.
    ///
    /// # Errors
    /// [`CallError::NotAdmitted`] when the cluster does not issue one.
    pub async fn token(
        &self,
        server: &Server,
        audience: String,
        fresh: bool,
    ) -> Result<Arc<str>, CallError> {
        let soon = time::now(&self.clock) + TOKEN_RESERVE;
        let cached = self.tokens.lock().await.get(server).cloned();
        if let Some(token) = cached.filter(|t| !fresh && t.expires > soon && t.audience == audience)
        {
            return Ok(token.value);
        }
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: vec![audience.clone()],
                expiration_seconds: Some(names::TOKEN_SECONDS),
                bound_object_ref: None,
            },
            ..TokenRequest::default()
        };
        let answer = self
            .accounts
            .create_token_request(&self.account, &PostParams::default(), &request)
            .await;
        let status = answer
            .map_err(|error| {
                CallError::NotAdmitted(format!(
                    "the operator cannot get a token for its ServiceAccount {}: {}",
                    self.account,
                    explain(&error)
                ))
            })?
            .status
            .ok_or_else(|| {
                CallError::NotAdmitted(
                    "the API server returned a TokenRequest without a token".to_owned(),
                )
            })?;
        let token = Token {
            audience,
            value: status.token.into(),
            expires: status.expiration_timestamp.0,
        };
        self.tokens
            .lock()
            .await
            .insert(server.clone(), token.clone());
        Ok(token.value)
    }
}
