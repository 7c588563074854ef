//! Authentication and authorization of callers of the internal port.

use std::fmt;
use std::sync::Arc;

use http::HeaderMap;
use mcpauth_service::clock::Clock;

use super::token_verifier::TokenVerifier;
use crate::config::{Internal, Introspection};
use crate::http::basic::{self, BasicCallers};
use crate::http::bearer;
use crate::http::error::HttpError;
use crate::http::trace;

/// Authenticates the requests of the internal port, as configured. `Debug` shows no credential.
pub struct InternalAuthentication {
    callers: BasicCallers,
    admins: Vec<String>,
    service_accounts: Option<Arc<TokenVerifier>>,
}

impl fmt::Debug for InternalAuthentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InternalAuthentication")
            .field("admins", &self.admins)
            .field("service_accounts", &self.service_accounts)
            .finish_non_exhaustive()
    }
}

impl InternalAuthentication {
    /// From the configuration; finds the Kubernetes API when ServiceAccount tokens are accepted.
    ///
    /// # Errors
    /// When there is no configuration for a Kubernetes client.
    pub async fn new(
        internal: Internal,
        introspection: Introspection,
        clock: Clock,
    ) -> Result<Self, kube::Error> {
        let service_accounts = match internal.service_account_audience {
            Some(audience) => {
                let client = kube::Client::try_default().await?;
                Some(Arc::new(TokenVerifier::new(audience, client, clock)))
            }
            None => None,
        };
        let callers = internal.credentials.into_iter();
        Ok(Self {
            callers: callers.chain(introspection.callers).collect(),
            admins: internal.admins,
            service_accounts,
        })
    }

    /// Verifies ServiceAccount tokens, if they are accepted.
    pub fn service_accounts(&self) -> Option<Arc<TokenVerifier>> {
        self.service_accounts.clone()
    }

    /// The principal that sends a request: `credential:ID`, or a ServiceAccount's user name.
    ///
    /// # Errors
    /// 401 for anything else, 503 while the cluster's keys are not known.
    pub async fn principal(&self, headers: &HeaderMap) -> Result<Arc<str>, HttpError> {
        let refused = HttpError::Unauthenticated;
        let value = basic::authorization(headers)?;
        if let Some(sent) = basic::parse(value) {
            if let Some(principal) = self.callers.named(sent.user()) {
                trace::caller(principal);
            }
            let principal = self.callers.principal(sent.user(), sent.password());
            return principal.ok_or(refused("the credential is unknown or its secret is wrong"));
        }
        match (bearer::parse(value), &self.service_accounts) {
            (Some(token), Some(verifier)) => verifier.principal(token).await,
            (_, Some(_)) => Err(refused(
                "send a ServiceAccount token as Bearer, or a credential as Basic",
            )),
            (_, None) => Err(refused(
                "send a credential of internal.credentials as Basic; ServiceAccount tokens are \
                 accepted only with internal.serviceAccountTokens",
            )),
        }
    }

    /// Whether a principal may use the admin API.
    pub fn is_admin(&self, principal: &str) -> bool {
        self.admins.iter().any(|admin| admin == principal)
    }
}
