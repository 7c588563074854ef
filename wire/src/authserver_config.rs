//! `authserver.yaml`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use crate::admin::Resource;
use crate::client::{Client, GrantType};
use crate::client_address::ClientAddress;
use crate::invalid::Bounds;
use crate::resource_uri::ResourceUri;
use crate::telemetry::Telemetry;
use crate::{Invalid, Issuer, principal, read, redirect_uri};

/// Lifetime of an access token, in seconds.
pub const ACCESS_TOKEN_SECONDS: Bounds = Bounds::new(1, 86_400);
/// Lifetime of a refresh token that is not used, in seconds.
pub const REFRESH_TOKEN_SECONDS: Bounds = Bounds::new(1, 31_536_000);
/// Lifetime of a family of tokens, in seconds.
pub const GRANT_SECONDS: Bounds = Bounds::new(1, 63_072_000);
/// Lifetime of an authorization code, in seconds.
pub const AUTHORIZATION_CODE_SECONDS: Bounds = Bounds::new(1, 600);
/// How long a used refresh token still gets a sibling, in seconds.
pub const REFRESH_GRACE_SECONDS: Bounds = Bounds::new(0, 600);
/// Each of the limits in [`RateLimit`].
pub const PER_MINUTE: Bounds = Bounds::new(1, 1_000_000);
/// After how many hours a client that registered itself and was never used is removed.
pub const NEVER_USED_HOURS: Bounds = Bounds::new(1, 720);
/// After how many days without use a client that registered itself is removed.
pub const IDLE_DAYS: Bounds = Bounds::new(1, 730);
/// How many clients that registered themselves are kept.
pub const MAX_CLIENTS: Bounds = Bounds::new(1, 1_000_000);
/// What a client that registers itself can have. The tokens of other grants need no user's consent, so an administrator
/// has to declare the client.
pub const REGISTERED_GRANT_TYPES: [GrantType; 2] =
    [GrantType::AuthorizationCode, GrantType::RefreshToken];
/// The pool of database connections.
pub const CONNECTIONS: Bounds = Bounds::new(1, 1_000);
/// How long a signing key signs, in days.
pub const ROTATION_DAYS: Bounds = Bounds::new(1, 365);
/// How many algorithms sign.
pub const ALGORITHM_COUNT: Bounds = Bounds::new(1, 2);
/// The length of the subject of development mode, in characters.
pub const SUBJECT_LENGTH: Bounds = Bounds::new(1, 128);

/// How many callers introspect with a secret.
pub const CALLER_COUNT: Bounds = Bounds::new(0, 64);
/// The length of a caller's id, in characters.
pub const CALLER_ID_LENGTH: Bounds = Bounds::new(1, 64);
/// What a caller's id looks like.
pub const CALLER_ID_PATTERN: &str = "^[A-Za-z0-9][-._A-Za-z0-9]*$";
/// The length of a random secret that protects an endpoint, in characters: at least 128 bits in base64.
pub const RANDOM_SECRET_LENGTH: Bounds = Bounds::new(22, 512);
/// How many different characters it has at least. Random ones have more: this finds placeholders.
const RANDOM_SECRET_VARIETY: usize = 8;

/// The configuration file of the authserver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthServerConfig {
    /// The issuer; see [`Issuer`].
    pub issuer: String,
    /// Where to listen.
    pub listen: Listen,
    /// A file with the pepper: lines `VERSION:base64(32 bytes)`, the first is the current one.
    pub keys_file: PathBuf,
    /// Where grants and clients are kept.
    pub storage: Storage,
    /// How users log in.
    pub login: Login,
    /// Dynamic client registration.
    #[serde(default)]
    pub registration: Registration,
    /// The keys that sign ID tokens.
    #[serde(default)]
    pub signing_keys: SigningKeys,
    /// Lifetimes.
    #[serde(default)]
    pub tokens: Tokens,
    /// Limits of the token endpoint and its neighbours.
    #[serde(default)]
    pub rate_limit: RateLimit,
    /// The proxies in front of the public port. Absent: requests come from where their connection does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_address: Option<ClientAddress>,
    /// Who may use the internal port.
    #[serde(default)]
    pub internal: Internal,
    /// Resource servers that introspect with a secret.
    #[serde(default)]
    pub introspection: Introspection,
    /// What is told of the server's work, and where.
    #[serde(default)]
    pub telemetry: Telemetry,
    /// Resources to put in place at start, each with its `id`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<Resource>,
    /// Clients to put in place at start, each with its `clientId`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<Client>,
}

/// Where the three ports listen: `ADDRESS:PORT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Listen {
    /// Discovery, authorize, token and what else clients and browsers use.
    #[serde(deserialize_with = "address")]
    pub public: SocketAddr,
    /// Introspection and administration.
    #[serde(deserialize_with = "address")]
    pub internal: SocketAddr,
    /// Probes and metrics.
    #[serde(deserialize_with = "address")]
    pub health: SocketAddr,
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        let text = format!("expected ADDRESS:PORT such as 0.0.0.0:8080, not {text:?}");
        serde::de::Error::custom(text)
    })
}

/// Where grants and clients are kept; exactly one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Storage {
    /// In the process: lost when it ends.
    #[serde(rename_all = "camelCase")]
    Memory {},
    /// In PostgreSQL.
    #[serde(rename_all = "camelCase")]
    Postgres {
        /// A file with the connection URL.
        url_file: PathBuf,
        /// A file with the CA of the server's certificate, in PEM. With it, the connection is encrypted and the
        /// certificate is verified, regardless of the URL.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ca_file: Option<PathBuf>,
        /// How many connections the pool has; introspection has four of its own, and readiness one.
        #[serde(default = "max_connections")]
        max_connections: u32,
    },
}

/// Checks a CA: one or more certificates in PEM. Whether they can be used is up to their reader.
///
/// # Errors
/// There is no certificate in it.
pub fn check_ca(key: &str, text: &str) -> Result<(), Invalid> {
    if text.contains("-----BEGIN CERTIFICATE-----") {
        return Ok(());
    }
    let text = "expected certificates in PEM, which begin with -----BEGIN CERTIFICATE-----";
    Err(Invalid::new(key, text))
}

/// The default of `maxConnections`.
#[must_use]
pub const fn max_connections() -> u32 {
    16
}

/// How users log in; exactly one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Login {
    /// Everybody is this user, and consents to everything; only for a loopback issuer.
    #[serde(rename_all = "camelCase")]
    DevelopmentAutoApprove {
        /// `sub` of all tokens.
        subject: String,
    },
    /// Names and password hashes from a file.
    #[serde(rename_all = "camelCase")]
    LocalUsers {
        /// The file: `users: [{name, passwordHash}]`, a hash in PHC form (argon2id).
        file: PathBuf,
    },
}

/// How clients register themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Registration {
    /// Dynamic client registration (RFC 7591). Absent: there is no registration endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dynamic: Option<DynamicRegistration>,
    /// Private-use schemes that redirect URIs may have, besides https and http on loopback.
    pub allowed_redirect_schemes: Vec<String>,
}

/// What is kept of clients that register themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DynamicRegistration {
    /// When a client is removed with which nobody has signed in, in hours: [`NEVER_USED_HOURS`].
    pub never_used_hours: u32,
    /// When any other one is removed, in days without use: [`IDLE_DAYS`].
    pub idle_days: u32,
    /// How many there are at most: [`MAX_CLIENTS`].
    pub max_clients: u32,
    /// A file with the initial access token (RFC 7591, section 3) that is needed to register: see
    /// [`check_random_secret`]. Absent: none is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial_access_token_file: Option<PathBuf>,
    /// What they may use at the token endpoint: some of [`REGISTERED_GRANT_TYPES`], the first one in any case.
    pub grant_types: Vec<GrantType>,
}

impl Default for DynamicRegistration {
    fn default() -> Self {
        Self {
            never_used_hours: 6,
            idle_days: 90,
            max_clients: 10_000,
            initial_access_token_file: None,
            grant_types: REGISTERED_GRANT_TYPES.to_vec(),
        }
    }
}

impl DynamicRegistration {
    /// How long a client is kept with which nobody has signed in.
    #[must_use]
    pub fn never_used(&self) -> Duration {
        seconds(self.never_used_hours) * 3600
    }

    /// How long any other one is kept without use.
    #[must_use]
    pub fn idle(&self) -> Duration {
        seconds(self.idle_days) * 86_400
    }

    fn check(&self) -> Result<(), Invalid> {
        NEVER_USED_HOURS.number("registration.dynamic.neverUsedHours", self.never_used_hours)?;
        IDLE_DAYS.number("registration.dynamic.idleDays", self.idle_days)?;
        MAX_CLIENTS.number("registration.dynamic.maxClients", self.max_clients)?;
        self.check_grant_types()
    }

    fn check_grant_types(&self) -> Result<(), Invalid> {
        let granted = &self.grant_types;
        let known = |(index, one): (usize, &GrantType)| {
            REGISTERED_GRANT_TYPES.contains(one) && !granted[..index].contains(one)
        };
        if granted.contains(&GrantType::AuthorizationCode) && granted.iter().enumerate().all(known)
        {
            return Ok(());
        }
        let text = "expected authorization_code, and refresh_token if clients may refresh; clients with other grants \
                    must be declared";
        Err(Invalid::new("registration.dynamic.grantTypes", text))
    }
}

/// An algorithm that signs (RFC 7518, section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SigningAlgorithm {
    /// ECDSA on P-256 with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// RSASSA-PKCS1-v1_5 with SHA-256, with keys of 2048 bits.
    #[serde(rename = "RS256")]
    Rs256,
}

impl SigningAlgorithm {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Es256, Self::Rs256];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
        }
    }

    /// By its name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == name)
    }
}

/// The keys that sign ID tokens. They rotate by themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SigningKeys {
    /// The algorithms: [`ALGORITHM_COUNT`]. A client that has registered none gets RS256, or else the first.
    pub algorithms: Vec<SigningAlgorithm>,
    /// How long a key signs: [`ROTATION_DAYS`].
    pub rotation_days: u32,
}

impl Default for SigningKeys {
    fn default() -> Self {
        Self {
            algorithms: SigningAlgorithm::ALL.to_vec(),
            rotation_days: 30,
        }
    }
}

impl SigningKeys {
    /// How long a key signs.
    #[must_use]
    pub fn rotation(&self) -> Duration {
        Duration::from_hours(24 * u64::from(self.rotation_days))
    }

    /// The algorithm for a client that registered this one (`id_token_signed_response_alg`). The default is that of OpenID
    /// Connect Dynamic Client Registration, section 2.
    #[must_use]
    pub fn algorithm_for(&self, registered: Option<SigningAlgorithm>) -> Option<SigningAlgorithm> {
        let has = |wanted: &SigningAlgorithm| self.algorithms.contains(wanted);
        registered
            .filter(has)
            .or_else(|| Some(SigningAlgorithm::Rs256).filter(has))
            .or_else(|| self.algorithms.first().copied())
    }

    fn check(&self) -> Result<(), Invalid> {
        ALGORITHM_COUNT.list("signingKeys.algorithms", &self.algorithms)?;
        for (index, algorithm) in self.algorithms.iter().enumerate() {
            if self.algorithms[..index].contains(algorithm) {
                let key = format!("signingKeys.algorithms[{index}]");
                let text = format!("an earlier entry is {}, too", algorithm.as_str());
                return Err(Invalid::new(key, text));
            }
        }
        ROTATION_DAYS.number("signingKeys.rotationDays", self.rotation_days)
    }
}

/// Lifetimes in seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Tokens {
    /// Of an access token: [`ACCESS_TOKEN_SECONDS`].
    pub access_token_seconds: u32,
    /// Of a refresh token that is not used: [`REFRESH_TOKEN_SECONDS`].
    pub refresh_token_seconds: u32,
    /// Of a family of tokens, however often it is refreshed: [`GRANT_SECONDS`].
    pub grant_seconds: u32,
    /// Of an authorization code: [`AUTHORIZATION_CODE_SECONDS`].
    pub authorization_code_seconds: u32,
    /// How long a used refresh token still gets a sibling: [`REFRESH_GRACE_SECONDS`].
    pub refresh_grace_seconds: u32,
}

impl Default for Tokens {
    fn default() -> Self {
        Self {
            access_token_seconds: 900,
            refresh_token_seconds: 2_592_000,
            grant_seconds: 7_776_000,
            authorization_code_seconds: 60,
            refresh_grace_seconds: 60,
        }
    }
}

impl Tokens {
    /// The lifetime of an access token.
    #[must_use]
    pub fn access(&self) -> Duration {
        seconds(self.access_token_seconds)
    }

    /// The lifetime of a refresh token that is not used.
    #[must_use]
    pub fn refresh(&self) -> Duration {
        seconds(self.refresh_token_seconds)
    }

    /// The lifetime of a family.
    #[must_use]
    pub fn grant(&self) -> Duration {
        seconds(self.grant_seconds)
    }

    /// The lifetime of an authorization code.
    #[must_use]
    pub fn authorization_code(&self) -> Duration {
        seconds(self.authorization_code_seconds)
    }

    /// How long a used refresh token still gets a sibling.
    #[must_use]
    pub fn refresh_grace(&self) -> Duration {
        seconds(self.refresh_grace_seconds)
    }

    fn check(&self) -> Result<(), Invalid> {
        ACCESS_TOKEN_SECONDS.number("tokens.accessTokenSeconds", self.access_token_seconds)?;
        REFRESH_TOKEN_SECONDS.number("tokens.refreshTokenSeconds", self.refresh_token_seconds)?;
        GRANT_SECONDS.number("tokens.grantSeconds", self.grant_seconds)?;
        AUTHORIZATION_CODE_SECONDS.number(
            "tokens.authorizationCodeSeconds",
            self.authorization_code_seconds,
        )?;
        REFRESH_GRACE_SECONDS.number("tokens.refreshGraceSeconds", self.refresh_grace_seconds)
    }
}

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
}

/// Limits of the token endpoint and its neighbours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RateLimit {
    /// Requests of one authenticated client: [`PER_MINUTE`].
    pub client_requests_per_minute: u32,
    /// Failed authentications of one client, and sign-ins to any account, that come from one network:
    /// [`PER_MINUTE`].
    pub address_failures_per_minute: u32,
    /// Sign-ins to one account from one network, or from one browser that was used before: [`PER_MINUTE`].
    pub login_failures_per_minute: u32,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self {
            client_requests_per_minute: 600,
            address_failures_per_minute: 60,
            login_failures_per_minute: 10,
        }
    }
}

impl RateLimit {
    fn check(&self) -> Result<(), Invalid> {
        PER_MINUTE.number(
            "rateLimit.clientRequestsPerMinute",
            self.client_requests_per_minute,
        )?;
        PER_MINUTE.number(
            "rateLimit.addressFailuresPerMinute",
            self.address_failures_per_minute,
        )?;
        PER_MINUTE.number(
            "rateLimit.loginFailuresPerMinute",
            self.login_failures_per_minute,
        )
    }
}

/// Who may use the internal port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Internal {
    /// In Kubernetes: the ServiceAccount tokens of the cluster. Absent: they are not accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_tokens: Option<ServiceAccountTokens>,
    /// Elsewhere: HTTP Basic.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<Credential>,
    /// Principals that may use the admin API; see [`principal`].
    pub admins: Vec<String>,
    /// The certificate of the port. Absent: plain HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<InternalTls>,
}

/// The certificate of the internal port. The files are read again when they change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InternalTls {
    /// A file with the certificate and its chain, in PEM.
    pub cert_file: PathBuf,
    /// A file with the private key of the certificate, in PEM.
    pub key_file: PathBuf,
}

/// Which ServiceAccount tokens are accepted. They are verified by the keys that the Kubernetes API publishes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceAccountTokens {
    /// The audience that they must have: the URL of the internal port.
    pub audience: String,
}

/// Resource servers that introspect with a secret, on the internal port and, if that is wanted, on the public one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Introspection {
    /// Whether the public port has an introspection endpoint, for these callers alone.
    pub public: bool,
    /// The callers. The principal of each is `credential:ID`, which a resource must name among its introspectors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub callers: Vec<Credential>,
}

/// A caller outside Kubernetes; its principal is `credential:ID`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Credential {
    /// Its user name.
    pub id: String,
    /// A file with its password.
    pub secret_file: PathBuf,
}

impl AuthServerConfig {
    /// Reads and checks the text of the file.
    ///
    /// # Errors
    /// The first thing that is wrong, with its key.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let config: Self = read::yaml(text)?;
        config.check()?;
        Ok(config)
    }

    /// Checks what can be judged without the files that it names.
    ///
    /// # Errors
    /// The first thing that is wrong, with its key.
    pub fn check(&self) -> Result<(), Invalid> {
        let issuer = Issuer::parse(&self.issuer).map_err(|error| Invalid::new("issuer", error))?;
        self.login.check(&issuer)?;
        if let Storage::Postgres {
            max_connections, ..
        } = self.storage
        {
            CONNECTIONS.number("storage.postgres.maxConnections", max_connections)?;
        }
        let schemes = &self.registration.allowed_redirect_schemes;
        redirect_uri::check_schemes("registration.allowedRedirectSchemes", schemes)?;
        if let Some(dynamic) = &self.registration.dynamic {
            dynamic.check()?;
        }
        self.signing_keys.check()?;
        self.tokens.check()?;
        self.rate_limit.check()?;
        if let Some(client_address) = &self.client_address {
            client_address.check("clientAddress")?;
        }
        self.internal.check()?;
        self.introspection.check(&self.internal)?;
        self.telemetry.check()?;
        self.check_resources()?;
        self.check_clients()
    }

    fn check_resources(&self) -> Result<(), Invalid> {
        let mut seen: Vec<(&str, ResourceUri)> = Vec::new();
        for (index, resource) in self.resources.iter().enumerate() {
            let key = format!("resources[{index}]");
            let id = resource.id.as_deref().unwrap_or_default();
            let uri = resource.check(id).map_err(|error| error.below(&key))?;
            if seen
                .iter()
                .any(|(other, known)| *other == id || known.is_same(&uri))
            {
                return Err(Invalid::new(
                    key,
                    "an earlier entry has the same id or resource",
                ));
            }
            seen.push((id, uri));
        }
        Ok(())
    }

    fn check_clients(&self) -> Result<(), Invalid> {
        for (index, client) in self.clients.iter().enumerate() {
            let key = format!("clients[{index}]");
            let id = client.client_id.as_deref().unwrap_or_default();
            client.check(id).map_err(|error| error.below(&key))?;
            let before = &self.clients[..index];
            if before
                .iter()
                .any(|other| other.client_id == client.client_id)
            {
                let text = format!("an earlier entry has the same id, {id}");
                return Err(Invalid::new(format!("{key}.clientId"), text));
            }
        }
        Ok(())
    }
}

impl Login {
    fn check(&self, issuer: &Issuer) -> Result<(), Invalid> {
        match self {
            Self::DevelopmentAutoApprove { .. } if !issuer.is_loopback() => Err(Invalid::new(
                "login.developmentAutoApprove",
                format!(
                    "signs everyone in without a password, so the issuer must be on localhost, 127.0.0.1 or [::1], not {issuer}; use localUsers"
                ),
            )),
            Self::DevelopmentAutoApprove { subject } => {
                SUBJECT_LENGTH.text("login.developmentAutoApprove.subject", subject)
            }
            Self::LocalUsers { .. } => Ok(()),
        }
    }
}

impl Internal {
    fn check(&self) -> Result<(), Invalid> {
        for (index, credential) in self.credentials.iter().enumerate() {
            let key = format!("internal.credentials[{index}].id");
            principal::check_credential_id(&key, &credential.id)?;
            let before = &self.credentials[..index];
            if before.iter().any(|other| other.id == credential.id) {
                let text = format!("an earlier entry has the same id, {}", credential.id);
                return Err(Invalid::new(key, text));
            }
        }
        if self
            .service_account_tokens
            .as_ref()
            .is_some_and(|tokens| tokens.audience.is_empty())
        {
            let text =
                "expected the audience of the callers' ServiceAccount tokens: this port's URL";
            return Err(Invalid::new("internal.serviceAccountTokens.audience", text));
        }
        principal::check_all("internal.admins", &self.admins)
    }
}

impl Introspection {
    fn check(&self, internal: &Internal) -> Result<(), Invalid> {
        CALLER_COUNT.list("introspection.callers", &self.callers)?;
        if self.public && self.callers.is_empty() {
            let text =
                "needs introspection.callers: nobody else may use introspection on the public port";
            return Err(Invalid::new("introspection.public", text));
        }
        for (index, caller) in self.callers.iter().enumerate() {
            let key = format!("introspection.callers[{index}].id");
            check_caller_id(&key, &caller.id)?;
            let before = internal.credentials.iter();
            if before
                .chain(&self.callers[..index])
                .any(|other| other.id == caller.id)
            {
                let text = format!("another credential has the same id, {}", caller.id);
                return Err(Invalid::new(key, text));
            }
        }
        Ok(())
    }
}

/// The id is sent as a user name, and in the cluster it names the mounted file.
fn check_caller_id(key: &str, id: &str) -> Result<(), Invalid> {
    let first = id.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if first && id.chars().all(fits) && CALLER_ID_LENGTH.hold(id.len()) {
        return Ok(());
    }
    let text =
        format!("expected {CALLER_ID_LENGTH} of A–Z a–z 0–9 . _ -, the first a letter or digit");
    Err(Invalid::new(key, text))
}

/// Checks a secret that protects an endpoint which everybody can reach, so it must be random and long:
/// [`RANDOM_SECRET_LENGTH`] printable characters. At six bits each, the least have 132 bits.
///
/// # Errors
/// What would be right; the secret is not in it.
pub fn check_random_secret(key: impl Into<String>, secret: &str) -> Result<(), Invalid> {
    let printable = secret.bytes().all(|byte| byte.is_ascii_graphic());
    let distinct: std::collections::BTreeSet<u8> = secret.bytes().collect();
    if printable
        && RANDOM_SECRET_LENGTH.hold(secret.len())
        && distinct.len() >= RANDOM_SECRET_VARIETY
    {
        return Ok(());
    }
    let text = format!(
        "a random secret is required: {RANDOM_SECRET_LENGTH} printable ASCII characters without spaces, such as from \
         `openssl rand -hex 32`"
    );
    Err(Invalid::new(key, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "issuer: http://localhost:9000
listen: { public: '0.0.0.0:8080', internal: '0.0.0.0:8081', health: '[::]:9090' }
keysFile: /keys
storage: { memory: {} }
login: { developmentAutoApprove: { subject: developer } }
";

    #[test]
    fn what_is_written_is_read() {
        let text = format!(
            "{LEAST}
registration: {{ dynamic: {{ idleDays: 30 }}, allowedRedirectSchemes: [cursor] }}
telemetry: {{ logLevel: debug, audit: {{ enabled: false }}, otlp: {{ endpoint: 'http://collector:4318', headersFile: /h }} }}
internal:
  serviceAccountTokens: {{ audience: 'http://auth-authserver-internal.default.svc:8081' }}
  credentials: [{{ id: notes-proxy, secretFile: /run/x }}]
  admins: ['system:serviceaccount:mcp-auth-system:mcp-auth-operator', 'credential:operator']
  tls: {{ certFile: /tls/tls.crt, keyFile: /tls/tls.key }}
resources: [{{ id: a.b, resource: 'http://localhost:9001/mcp', name: b }}]
clients: [{{ clientId: robot, tokenEndpointAuthMethod: client_secret_basic, clientSecret: a-secret-of-enough-bytes,
  grantTypes: [client_credentials] }}]
"
        );
        let config = AuthServerConfig::parse(&text).unwrap();
        let written = serde_json::to_string(&config).unwrap();
        assert_eq!(AuthServerConfig::parse(&written).unwrap(), config);
        let postgres = text.replace("memory: {}", "postgres: { urlFile: /uri }");
        let config = AuthServerConfig::parse(&postgres).unwrap();
        let written = serde_json::to_string(&config).unwrap();
        assert!(written.contains(r#""maxConnections":16"#), "{written}");
        assert_eq!(AuthServerConfig::parse(&written).unwrap(), config);
    }

    #[test]
    fn a_fault_names_its_key() {
        let resource = "{ id: a, resource: 'https://a.example/mcp', name: a }";
        let client = "{ clientId: a, tokenEndpointAuthMethod: none, grantTypes: [authorization_code], redirectUris: ['https://a.example/cb'] }";
        for (find, replace, message) in [
            (
                "http://localhost:9000",
                "https://a.example/",
                "issuer: expected no trailing",
            ),
            (
                "http://localhost:9000",
                "https://a.example",
                "login.developmentAutoApprove: signs everyone in",
            ),
            (
                "'0.0.0.0:8081'",
                "localhost",
                "listen.internal: expected ADDRESS:PORT such as",
            ),
            (
                "subject: developer",
                "subject: ''",
                "login.developmentAutoApprove.subject: expected 1 to 128",
            ),
            (
                "{ memory: {} }",
                "{ memory: {}, postgres: {} }",
                "storage: ",
            ),
            (
                "{ memory: {} }",
                "{ postgres: { urlFile: /x, maxConnections: 0 } }",
                "storage.postgres.maxConnections: 0 is out",
            ),
            ("keysFile", "keyFile", "keyFile: unknown field"),
        ] {
            let text = LEAST.replacen(find, replace, 1);
            let error = AuthServerConfig::parse(&text).unwrap_err().to_string();
            assert!(error.starts_with(message), "{replace}: {error}");
        }
        for (more, message) in [
            (
                "signingKeys: { algorithms: [] }",
                "signingKeys.algorithms: expected 1 to 2 entries",
            ),
            (
                "signingKeys: { algorithms: [RS256, RS256] }",
                "signingKeys.algorithms[1]: an earlier entry is RS256",
            ),
            (
                "signingKeys: { algorithms: [HS256] }",
                "signingKeys.algorithms[0]: unknown variant",
            ),
            (
                "signingKeys: { rotationDays: 0 }",
                "signingKeys.rotationDays: 0 is out of range: expected 1 to 365",
            ),
            (
                "signingKeys: { rotationDays: 366 }",
                "signingKeys.rotationDays: 366",
            ),
            (
                "tokens: { accessTokenSeconds: 86401 }",
                "tokens.accessTokenSeconds: 86401",
            ),
            (
                "tokens: { refreshTokenSeconds: 31536001 }",
                "tokens.refreshTokenSeconds: 31536001",
            ),
            (
                "tokens: { grantSeconds: 63072001 }",
                "tokens.grantSeconds: 63072001",
            ),
            (
                "tokens: { authorizationCodeSeconds: 601 }",
                "tokens.authorizationCodeSeconds: 601",
            ),
            (
                "tokens: { accessTokenSeconds: 0 }",
                "tokens.accessTokenSeconds: 0 is out of range: expected 1 to 86400",
            ),
            (
                "tokens: { refreshGraceSeconds: 601 }",
                "tokens.refreshGraceSeconds: 601",
            ),
            (
                "rateLimit: { clientRequestsPerMinute: 0 }",
                "rateLimit.clientRequestsPerMinute: 0",
            ),
            (
                "registration: { allowedRedirectSchemes: [http] }",
                "registration.allowedRedirectSchemes[0]: expected an application's own scheme",
            ),
            (
                "registration: { dynamic: { maxClients: 0 } }",
                "registration.dynamic.maxClients: 0 is out of range: expected 1 to 1000000",
            ),
            (
                "registration: { dynamic: { grantTypes: [refresh_token] } }",
                "registration.dynamic.grantTypes: expected authorization_code",
            ),
            (
                "registration: { dynamic: { grantTypes: [authorization_code, client_credentials] } }",
                "registration.dynamic.grantTypes: expected authorization_code",
            ),
            (
                "internal: { credentials: [{ id: 'a b', secretFile: /x }] }",
                "internal.credentials[0].id: expected 1–256",
            ),
            (
                "internal: { credentials: [{ id: a, secretFile: /x }, { id: a, secretFile: /x }] }",
                "internal.credentials[1].id: an earlier entry has the same id, a",
            ),
            (
                "internal: { serviceAccountTokens: { audience: '' } }",
                "internal.serviceAccountTokens.audience: expected the audience",
            ),
            (
                "internal: { tls: { certFile: /x } }",
                "internal.tls: missing field `keyFile`",
            ),
            (
                "internal: { admins: [''] }",
                "internal.admins[0]: expected 1 to",
            ),
            (
                &format!("resources: [{resource}, {resource}]"),
                "resources[1]: an earlier entry has the same id or resource",
            ),
            (
                "telemetry: { logLevel: verbose }",
                "telemetry.logLevel: unknown variant `verbose`",
            ),
            (
                "telemetry: { otlp: { endpoint: 'collector:4318' } }",
                "telemetry.otlp.endpoint: expected an absolute http or https URL",
            ),
            (
                "introspection: { public: true }",
                "introspection.public: needs introspection.callers",
            ),
            (
                "introspection: { callers: [{ id: .a, secretFile: /x }] }",
                "introspection.callers[0].id: expected 1 to 64 of",
            ),
            (
                "introspection: { callers: [{ id: a, secretFile: /x }] }
internal: { credentials: [{ id: a, secretFile: /y }] }",
                "introspection.callers[0].id: another credential has the same id, a",
            ),
            (
                "resources: [{ id: a, resource: /mcp, name: a }]",
                "resources[0].resource: expected an absolute",
            ),
            (
                &format!(
                    "resources: [{resource}, {{ id: b, resource: 'https://A.example:443/mcp/', name: b }}]"
                ),
                "resources[1]: an earlier entry has the same id or resource",
            ),
            (
                "resources: [{ resource: 'https://a.example', name: a }]",
                "resources[0].id: expected 1–256",
            ),
            (
                &format!("clients: [{client}, {client}]"),
                "clients[1].clientId: an earlier entry has the same id",
            ),
            (
                "clients: [{ tokenEndpointAuthMethod: none, grantTypes: [] }]",
                "clients[0].clientId: expected 1–256",
            ),
        ] {
            let error = AuthServerConfig::parse(&format!("{LEAST}{more}")).unwrap_err();
            assert!(error.to_string().starts_with(message), "{more}: {error}");
        }
    }

    #[test]
    fn a_client_gets_what_it_registered_or_else_rs256() {
        use SigningAlgorithm::{Es256, Rs256};
        let keys = |algorithms: &[SigningAlgorithm]| SigningKeys {
            algorithms: algorithms.to_vec(),
            ..SigningKeys::default()
        };
        for (algorithms, registered, expected) in [
            (&[Es256, Rs256][..], None, Rs256),
            (&[Es256, Rs256], Some(Es256), Es256),
            (&[Es256], None, Es256),
            (&[Es256], Some(Rs256), Es256),
            (&[Rs256], Some(Es256), Rs256),
        ] {
            let chosen = keys(algorithms).algorithm_for(registered);
            assert_eq!(chosen, Some(expected), "{algorithms:?} {registered:?}");
        }
    }

    #[test]
    fn a_callers_secret_is_long_and_varied() {
        let hex = "0123456789abcdef0123456789abcdef";
        for good in ["abcdefghijklmnopqrstu0", hex, &"aB3+/=~!".repeat(64)] {
            assert_eq!(check_random_secret("k", good), Ok(()), "{good}");
        }
        let newline = format!("{hex}\n");
        for bad in [
            "",
            "abcdefghijklmnopqrstu",
            "changemechangemechangeme",
            &"aB3+/=~!x".repeat(57),
            "0123456789abcdef 0123456789abcdef",
            "0123456789abcdef0123456789abcdeü",
            &newline,
        ] {
            let error = check_random_secret("k", bad).unwrap_err().to_string();
            assert!(
                error.starts_with("k: a random secret is required"),
                "{bad}: {error}"
            );
            assert!(bad.is_empty() || !error.contains(bad), "{error}");
        }
    }

    #[test]
    fn no_secret_is_shown() {
        let text = format!(
            "{LEAST}clients: [{{ clientId: robot, tokenEndpointAuthMethod: client_secret_basic, clientSecret: hunter2-hunter2-hunter2, grantTypes: [client_credentials] }}]"
        );
        let config = AuthServerConfig::parse(&text).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
