//! The shape of `authserver.yaml`. What serde cannot say about it is checked in `mod.rs`.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::registration::{ClientDocument, ResourceDocument};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct File {
    pub issuer: String,
    pub listen: Listen,
    pub keys_file: PathBuf,
    pub storage: Storage,
    pub login: Login,
    #[serde(default)]
    pub registration: Registration,
    #[serde(default)]
    pub tokens: Tokens,
    #[serde(default)]
    pub rate_limit: RateLimit,
    #[serde(default)]
    pub internal: Internal,
    #[serde(default)]
    pub resources: Vec<ResourceDocument>,
    #[serde(default)]
    pub clients: Vec<ClientDocument>,
}

/// Where the three ports listen: `ADDRESS:PORT`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Listen {
    /// Discovery, authorize, token and what else clients and browsers use.
    pub public: String,
    /// Introspection and administration.
    pub internal: String,
    /// Probes and metrics.
    pub health: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) enum Storage {
    #[serde(rename_all = "camelCase")]
    Memory {},
    #[serde(rename_all = "camelCase")]
    Postgres {
        url_file: PathBuf,
        #[serde(default = "default_connections")]
        max_connections: NonZeroU32,
    },
}

fn default_connections() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(15)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) enum Login {
    #[serde(rename_all = "camelCase")]
    DevelopmentAutoApprove { subject: String },
    #[serde(rename_all = "camelCase")]
    LocalUsers { file: PathBuf },
}

/// Dynamic client registration (RFC 7591).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Registration {
    /// Whether there is a registration endpoint.
    pub dynamic: bool,
    /// Private-use schemes that redirect URIs may have.
    pub allowed_redirect_schemes: Vec<String>,
}

/// Lifetimes in seconds.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Tokens {
    /// Of an access token.
    pub access_token_seconds: NonZeroU32,
    /// Of a refresh token that is not used.
    pub refresh_token_seconds: NonZeroU32,
    /// Of a family of tokens, however often it is refreshed.
    pub grant_seconds: NonZeroU32,
    /// Of an authorization code.
    pub authorization_code_seconds: NonZeroU32,
    /// How long a used refresh token still gets a sibling.
    pub refresh_grace_seconds: u32,
}

impl Default for Tokens {
    fn default() -> Self {
        let seconds = |value: u32| NonZeroU32::MIN.saturating_add(value - 1);
        Self {
            access_token_seconds: seconds(900),
            refresh_token_seconds: seconds(2_592_000),
            grant_seconds: seconds(7_776_000),
            authorization_code_seconds: seconds(60),
            refresh_grace_seconds: 60,
        }
    }
}

/// Limits of the token endpoint and its neighbours.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RateLimit {
    /// For one authenticated client.
    pub client_requests_per_minute: NonZeroU32,
    /// For the failures that come from one address.
    pub address_failures_per_minute: NonZeroU32,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self {
            client_requests_per_minute: NonZeroU32::MIN.saturating_add(599),
            address_failures_per_minute: NonZeroU32::MIN.saturating_add(59),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Internal {
    pub token_review: Option<TokenReview>,
    pub credentials: Vec<Credential>,
    pub admins: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TokenReview {
    pub audience: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Credential {
    pub id: String,
    pub secret_file: PathBuf,
}

impl Tokens {
    /// Of an access token.
    pub fn access(&self) -> Duration {
        seconds(self.access_token_seconds.get())
    }

    /// Of a refresh token that is not used.
    pub fn refresh(&self) -> Duration {
        seconds(self.refresh_token_seconds.get())
    }

    /// Of a family.
    pub fn grant(&self) -> Duration {
        seconds(self.grant_seconds.get())
    }

    /// Of an authorization code.
    pub fn authorization_code(&self) -> Duration {
        seconds(self.authorization_code_seconds.get())
    }

    /// In which a used refresh token gets a sibling.
    pub fn refresh_grace(&self) -> Duration {
        seconds(self.refresh_grace_seconds)
    }
}

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
}
