//! The configuration file: read, checked, and turned into what the server works with.

mod file;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use crate::keys::pepper::Pepper;
use crate::oauth::issuer::Issuer;
use crate::oauth::resource::Resource;
use crate::registration::{ClientDocument, ResourceDocument};

pub use file::{Listen, RateLimit, Registration, Tokens};

/// A configuration that can be started.
#[derive(Debug)]
pub struct Config {
    /// The issuer.
    pub issuer: Issuer,
    /// Where to listen.
    pub listen: Listen,
    /// The pepper from the keys file.
    pub pepper: Pepper,
    /// Where grants and clients are kept.
    pub storage: Storage,
    /// How users log in.
    pub login: LoginMethod,
    /// Dynamic registration.
    pub registration: Registration,
    /// Lifetimes.
    pub tokens: Tokens,
    /// Limits.
    pub rate_limit: RateLimit,
    /// Who may use the internal port.
    pub internal: Internal,
    /// Resources to upsert at start.
    pub resources: Vec<Resource>,
    /// Clients to upsert at start.
    pub clients: Vec<(String, ClientDocument)>,
}

/// Where grants and clients are kept.
#[derive(Debug)]
pub enum Storage {
    /// In the process.
    Memory,
    /// In PostgreSQL.
    Postgres {
        /// The connection URL.
        url: Secret,
        /// The pool's bound.
        max_connections: NonZeroU32,
    },
}

/// How users log in.
#[derive(Clone, Debug)]
pub enum LoginMethod {
    /// Everybody is this user, and consents to everything; only on loopback.
    DevelopmentAutoApprove {
        /// `sub` of all tokens.
        subject: String,
    },
    /// Names and password hashes from a file.
    LocalUsers {
        /// The file, read again when it changes.
        file: PathBuf,
    },
}

/// Who may use the internal port.
#[derive(Clone, Debug, Default)]
pub struct Internal {
    /// The audience of ServiceAccount tokens; none: they are not accepted.
    pub token_review_audience: Option<String>,
    /// Ids and secrets of HTTP Basic callers.
    pub credentials: Vec<(String, Secret)>,
    /// Principals that may administer.
    pub admins: Vec<String>,
}

/// A secret from a file. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// From its text.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A key of the file with what would be right; shown as `KEY: TEXT`, on one line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {text}")]
pub struct ConfigError {
    key: String,
    text: String,
}

fn wrong(key: impl Into<String>, text: impl std::fmt::Display) -> ConfigError {
    let text = format!("{text}");
    ConfigError {
        key: key.into(),
        text: text.split_whitespace().collect::<Vec<_>>().join(" "),
    }
}

impl Config {
    /// Reads the file and the files that it names.
    ///
    /// # Errors
    /// The first thing that is wrong, with its key.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| wrong("(file)", format!("cannot be read: {error}")))?;
        Self::parse(&text)
    }

    /// Reads the text of the file and the files that it names.
    ///
    /// # Errors
    /// The first thing that is wrong, with its key.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let value: serde_json::Value = serde_saphyr::from_str(text)
            .map_err(|error| wrong("(file)", format!("is not YAML: {error}")))?;
        let file: file::File =
            serde_path_to_error::deserialize(value).map_err(|error| {
                match error.path().to_string().as_str() {
                    "." => wrong("(file)", error.inner()),
                    key => wrong(key, error.inner()),
                }
            })?;
        Self::check(file)
    }

    fn check(file: file::File) -> Result<Self, ConfigError> {
        let issuer = Issuer::parse(&file.issuer).map_err(|error| wrong("issuer", error))?;
        let listen = &file.listen;
        for (key, address) in [
            ("listen.public", &listen.public),
            ("listen.internal", &listen.internal),
            ("listen.health", &listen.health),
        ] {
            if address.parse::<SocketAddr>().is_err() {
                let text = format!("expected ADDRESS:PORT such as 0.0.0.0:8080, not {address:?}");
                return Err(wrong(key, text));
            }
        }
        let pepper = Pepper::parse(&read("keysFile", &file.keys_file)?)
            .map_err(|error| wrong("keysFile", error))?;
        Ok(Self {
            login: login(file.login, &issuer)?,
            issuer,
            listen: file.listen,
            pepper,
            storage: storage(file.storage)?,
            registration: registration(file.registration)?,
            tokens: file.tokens,
            rate_limit: file.rate_limit,
            internal: internal(file.internal)?,
            resources: resources(file.resources)?,
            clients: clients(file.clients)?,
        })
    }
}

/// Reads a file that the configuration names; white space around its content is not part of it.
fn read(key: &str, path: &Path) -> Result<String, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| wrong(key, format!("{} cannot be read: {error}", path.display())))?;
    Ok(text.trim().to_owned())
}

fn read_secret(key: &str, path: &Path) -> Result<Secret, ConfigError> {
    let text = read(key, path)?;
    if text.is_empty() {
        return Err(wrong(key, format!("{} is empty", path.display())));
    }
    Ok(Secret(text))
}

fn storage(storage: file::Storage) -> Result<Storage, ConfigError> {
    match storage {
        file::Storage::Memory {} => Ok(Storage::Memory),
        file::Storage::Postgres {
            url_file,
            max_connections,
        } => {
            let url = read_secret("storage.postgres.urlFile", &url_file)?;
            let scheme = url.reveal().split_once("://").map(|(scheme, _)| scheme);
            if !matches!(scheme, Some("postgres" | "postgresql")) {
                let text =
                    "the file must hold a URL such as postgresql://user:password@host:5432/name";
                return Err(wrong("storage.postgres.urlFile", text));
            }
            Ok(Storage::Postgres {
                url,
                max_connections,
            })
        }
    }
}

fn login(login: file::Login, issuer: &Issuer) -> Result<LoginMethod, ConfigError> {
    match login {
        file::Login::DevelopmentAutoApprove { .. } if !issuer.is_loopback() => Err(wrong(
            "login.developmentAutoApprove",
            format!(
                "lets anybody in and so needs an issuer on localhost, 127.0.0.1 or [::1], not {issuer}; use localUsers"
            ),
        )),
        file::Login::DevelopmentAutoApprove { subject } if subject.is_empty() => Err(wrong(
            "login.developmentAutoApprove.subject",
            "expected a user name",
        )),
        file::Login::DevelopmentAutoApprove { subject } => {
            Ok(LoginMethod::DevelopmentAutoApprove { subject })
        }
        file::Login::LocalUsers { file } => {
            let text = read("login.localUsers.file", &file)?;
            crate::login::users::parse(&text)
                .map_err(|error| wrong("login.localUsers.file", error))?;
            Ok(LoginMethod::LocalUsers { file })
        }
    }
}

fn registration(registration: Registration) -> Result<Registration, ConfigError> {
    for (index, scheme) in registration.allowed_redirect_schemes.iter().enumerate() {
        let probe = format!("{scheme}://host/path");
        let private = crate::oauth::redirect_uri::PrivateSchemes::Any;
        let usable = !matches!(scheme.as_str(), "http" | "https")
            && url::Url::parse(&probe).is_ok_and(|url| url.scheme() == scheme)
            && crate::oauth::redirect_uri::check(&probe, private).is_ok();
        if !usable {
            return Err(wrong(
                format!("registration.allowedRedirectSchemes[{index}]"),
                format!(
                    "expected an application's scheme in lower case such as cursor, not {scheme:?}"
                ),
            ));
        }
    }
    Ok(registration)
}

fn internal(internal: file::Internal) -> Result<Internal, ConfigError> {
    let mut credentials: Vec<(String, Secret)> = Vec::new();
    for (index, credential) in internal.credentials.into_iter().enumerate() {
        let key = |field: &str| format!("internal.credentials[{index}].{field}");
        if !crate::oauth::client::is_client_id(&credential.id) {
            return Err(wrong(key("id"), "expected 1–256 of A–Z a–z 0–9 . _ ~ -"));
        }
        if credentials.iter().any(|(id, _)| *id == credential.id) {
            return Err(wrong(
                key("id"),
                format!("{} is there twice", credential.id),
            ));
        }
        let secret = read_secret(&key("secretFile"), &credential.secret_file)?;
        credentials.push((credential.id, secret));
    }
    let audience = internal.token_review.map(|review| review.audience);
    if audience.as_deref() == Some("") {
        let text = "expected the audience of the callers' ServiceAccount tokens: this port's URL";
        return Err(wrong("internal.tokenReview.audience", text));
    }
    Ok(Internal {
        token_review_audience: audience,
        credentials,
        admins: internal.admins,
    })
}

fn resources(documents: Vec<ResourceDocument>) -> Result<Vec<Resource>, ConfigError> {
    let mut resources: Vec<Resource> = Vec::new();
    for (index, mut document) in documents.into_iter().enumerate() {
        let key = format!("resources[{index}]");
        let id = document.id.take().unwrap_or_default();
        let resource = document
            .into_resource(id)
            .map_err(|invalid| wrong(format!("{key}.{}", invalid.field), invalid.text))?;
        let twice = resources
            .iter()
            .any(|other| other.id == resource.id || other.resource == resource.resource);
        if twice {
            return Err(wrong(key, "its id or resource is there twice"));
        }
        resources.push(resource);
    }
    Ok(resources)
}

fn clients(documents: Vec<ClientDocument>) -> Result<Vec<(String, ClientDocument)>, ConfigError> {
    let mut clients: Vec<(String, ClientDocument)> = Vec::new();
    for (index, mut document) in documents.into_iter().enumerate() {
        let key = |field: &str| format!("clients[{index}].{field}");
        let id = document.client_id.take().unwrap_or_default();
        document
            .check(&id)
            .map_err(|invalid| wrong(key(&invalid.field), invalid.text))?;
        if clients.iter().any(|(other, _)| *other == id) {
            return Err(wrong(key("clientId"), format!("{id} is there twice")));
        }
        clients.push((id, document));
    }
    Ok(clients)
}

#[cfg(test)]
mod tests;
