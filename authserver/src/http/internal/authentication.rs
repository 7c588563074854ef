//! Authentication and authorization of callers of the internal port.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::constant_time;
use http::{HeaderMap, header};
use mcpauth_service::clock::Clock;

use super::token_verifier::TokenVerifier;
use crate::config::Internal;
use crate::http::basic;
use crate::http::error::HttpError;
use crate::keys::digest::{Digest, sha256};
use crate::oauth::params::form_decode;

/// Authenticates the requests of the internal port, as configured. `Debug` shows no credential.
pub struct InternalAuthentication {
    credentials: HashMap<String, Digest>,
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
    pub async fn new(internal: Internal, clock: Clock) -> Result<Self, kube::Error> {
        let service_accounts = match internal.service_account_audience {
            Some(audience) => {
                let client = kube::Client::try_default().await?;
                Some(Arc::new(TokenVerifier::new(audience, client, clock)))
            }
            None => None,
        };
        let credentials = internal.credentials.into_iter();
        Ok(Self {
            credentials: credentials
                .map(|(id, secret)| (id, sha256(secret.reveal())))
                .collect(),
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
    pub async fn principal(&self, headers: &HeaderMap) -> Result<String, HttpError> {
        let refused = HttpError::Unauthenticated;
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let value = match (values.next(), values.next()) {
            (None, _) => return Err(refused("the Authorization header is missing")),
            (Some(value), None) => value.to_str().unwrap_or_default(),
            (Some(_), Some(_)) => {
                return Err(refused("there is more than one Authorization header"));
            }
        };
        if let Some((id, secret)) = basic::parse(value) {
            let principal = self.basic(&id, &secret);
            return principal.ok_or(refused("the credential is unknown or its secret is wrong"));
        }
        match (value.split_once(' '), &self.service_accounts) {
            (Some((scheme, token)), Some(verifier)) if scheme.eq_ignore_ascii_case("bearer") => {
                verifier.principal(token.trim()).await
            }
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

    /// The two as they are (RFC 7617), or form-encoded as OAuth clients send them (OAuth 2.1, section
    /// 2.4.1).
    fn basic(&self, id: &str, secret: &str) -> Option<String> {
        let decoded = || {
            let id = form_decode(id.as_bytes()).ok()?;
            let secret = form_decode(secret.as_bytes()).ok()?;
            self.credential(&id, &secret)
        };
        self.credential(id, secret).or_else(decoded)
    }

    fn credential(&self, id: &str, secret: &str) -> Option<String> {
        // For an unknown id, the comparison uses a value that no secret has, so that it takes equally long.
        let expected = self.credentials.get(id).copied().unwrap_or_default();
        let presented = sha256(secret);
        constant_time::verify_slices_are_equal(&expected, &presented).ok()?;
        Some(format!("credential:{id}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_basic_secret_is_taken_as_it_is_and_form_encoded() {
        let authentication = InternalAuthentication {
            credentials: HashMap::from([("a:b".into(), sha256("s+/="))]),
            admins: Vec::new(),
            service_accounts: None,
        };
        let known = Some("credential:a:b".to_owned());
        assert_eq!(authentication.basic("a:b", "s+/="), known);
        assert_eq!(authentication.basic("a%3Ab", "s%2B%2F%3D"), known);
        for (id, secret) in [("a:b", "s /="), ("a:b", "s%252B%252F%253D"), ("a", "s+/=")] {
            assert_eq!(authentication.basic(id, secret), None, "{id} {secret}");
        }
        // A hash would be enough to guess a weak secret.
        let shown = "InternalAuthentication { admins: [], service_accounts: None, .. }";
        assert_eq!(format!("{authentication:?}"), shown);
    }
}
