//! The configuration file: read, checked, and converted for the server. Its schema and the
//! rules that need no other file are in [`mcpauth_wire::authserver_config`].

use std::path::{Path, PathBuf};

use mcpauth_service::otlp::Destination;
use mcpauth_wire::admin::Resource as ResourceDocument;
use mcpauth_wire::authserver_config::{self, AuthServerConfig};
use mcpauth_wire::client::Client as ClientDocument;
use mcpauth_wire::client_address::{ClientAddress, TrustedProxies};
use mcpauth_wire::telemetry::{self, LogLevel, Otlp};
use mcpauth_wire::{Invalid, Issuer, Secret};

use crate::documents::{self, ResourceError};
use crate::internal_tls::Pair;
use crate::keys::pepper::Pepper;
use crate::login::LoginMethod;
use crate::oauth::resource::Resource;

pub use mcpauth_wire::authserver_config::{
    InternalTls, Listen, RateLimit, Registration, SigningKeys, Tokens,
};

/// A valid configuration.
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
    /// The keys that sign ID tokens.
    pub signing_keys: SigningKeys,
    /// Lifetimes.
    pub tokens: Tokens,
    /// Limits.
    pub rate_limit: RateLimit,
    /// The proxies in front of the public port.
    pub trusted_proxies: Option<TrustedProxies>,
    /// Who may use the internal port.
    pub internal: Internal,
    /// Resource servers that introspect with a secret.
    pub introspection: Introspection,
    /// What is logged.
    pub log_level: LogLevel,
    /// Whether there is an audit.
    pub audit: bool,
    /// Where traces go, if anywhere.
    pub traces: Option<Destination>,
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
        /// The file with the CA of its certificate, which is read for each new connection.
        ca_file: Option<PathBuf>,
        /// The pool's bound.
        max_connections: u32,
    },
}

/// Who may use the internal port.
#[derive(Clone, Debug, Default)]
pub struct Internal {
    /// The audience of ServiceAccount tokens; none: they are not accepted.
    pub service_account_audience: Option<String>,
    /// Ids and secrets for HTTP Basic.
    pub credentials: Vec<(String, Secret)>,
    /// Principals that may use the admin API.
    pub admins: Vec<String>,
    /// The certificate of the port; none: plain HTTP.
    pub tls: Option<InternalTls>,
}

/// Resource servers that introspect with a secret.
#[derive(Clone, Debug, Default)]
pub struct Introspection {
    /// Whether the public port has an introspection endpoint.
    pub public: bool,
    /// Ids and secrets for HTTP Basic.
    pub callers: Vec<(String, Secret)>,
}

impl Config {
    /// Reads the file and the files that it names.
    ///
    /// # Errors
    /// The first thing that is wrong, with its key.
    pub fn load(path: &Path) -> Result<Self, Invalid> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Invalid::new("", format!("cannot be read: {error}")))?;
        Self::parse(&text)
    }

    /// Reads the text of the file and the files that it names.
    ///
    /// # Errors
    /// The first thing that is wrong, with its key.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let file = AuthServerConfig::parse(text)?;
        let issuer = Issuer::parse(&file.issuer).map_err(|error| Invalid::new("issuer", error))?;
        let pepper = Pepper::parse(&read("keysFile", &file.keys_file)?)
            .map_err(|error| Invalid::new("keysFile", error))?;
        Ok(Self {
            listen: file.listen,
            pepper,
            storage: storage(file.storage)?,
            login: login(file.login)?,
            registration: registration(file.registration)?,
            signing_keys: file.signing_keys,
            tokens: file.tokens,
            rate_limit: file.rate_limit,
            trusted_proxies: trusted_proxies(file.client_address.as_ref())?,
            internal: internal(file.internal)?,
            introspection: introspection(file.introspection)?,
            log_level: file.telemetry.log_level,
            audit: file.telemetry.audit.enabled,
            traces: traces(file.telemetry.otlp)?,
            resources: resources(file.resources, &issuer)?,
            clients: clients(file.clients)?,
            issuer,
        })
    }
}

fn trusted_proxies(config: Option<&ClientAddress>) -> Result<Option<TrustedProxies>, Invalid> {
    let config = config.map(|config| config.trusted_proxies("clientAddress"));
    config.transpose()
}

/// Reads a file that the configuration names; white space around its content is not part of it.
fn read(key: &str, path: &Path) -> Result<String, Invalid> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Invalid::new(key, format!("{} cannot be read: {error}", path.display()))
    })?;
    Ok(text.trim().to_owned())
}

fn read_secret(key: &str, path: &Path) -> Result<Secret, Invalid> {
    let text = read(key, path)?;
    if text.is_empty() {
        return Err(Invalid::new(key, format!("{} is empty", path.display())));
    }
    Ok(Secret::new(text))
}

fn storage(storage: authserver_config::Storage) -> Result<Storage, Invalid> {
    match storage {
        authserver_config::Storage::Memory {} => Ok(Storage::Memory),
        authserver_config::Storage::Postgres {
            url_file,
            ca_file,
            max_connections,
        } => {
            let url = read_secret("storage.postgres.urlFile", &url_file)?;
            let scheme = url.reveal().split_once("://").map(|(scheme, _)| scheme);
            if !matches!(scheme, Some("postgres" | "postgresql")) {
                let text =
                    "the file must hold a URL such as postgresql://user:password@host:5432/name";
                return Err(Invalid::new("storage.postgres.urlFile", text));
            }
            if let Some(file) = &ca_file {
                let key = "storage.postgres.caFile";
                authserver_config::check_ca(key, &read(key, file)?)?;
            }
            Ok(Storage::Postgres {
                url,
                ca_file,
                max_connections,
            })
        }
    }
}

fn login(login: authserver_config::Login) -> Result<LoginMethod, Invalid> {
    match login {
        authserver_config::Login::DevelopmentAutoApprove { subject } => {
            Ok(LoginMethod::DevelopmentAutoApprove { subject })
        }
        authserver_config::Login::LocalUsers { file } => {
            let text = read("login.localUsers.file", &file)?;
            crate::login::users::parse(&text)
                .map_err(|error| Invalid::new("login.localUsers.file", error))?;
            Ok(LoginMethod::LocalUsers { file })
        }
    }
}

fn registration(registration: Registration) -> Result<Registration, Invalid> {
    let dynamic = registration.dynamic.as_ref();
    if let Some(file) = dynamic.and_then(|one| one.initial_access_token_file.as_ref()) {
        let key = "registration.dynamic.initialAccessTokenFile";
        authserver_config::check_random_secret(key, &read(key, file)?)?;
    }
    Ok(registration)
}

fn internal(internal: authserver_config::Internal) -> Result<Internal, Invalid> {
    let credentials = internal.credentials.into_iter().enumerate();
    let credentials = credentials.map(|(index, credential)| {
        let key = format!("internal.credentials[{index}].secretFile");
        Ok((credential.id, read_secret(&key, &credential.secret_file)?))
    });
    if let Some(files) = &internal.tls {
        let tls = Pair::read(files).and_then(|pair| pair.tls());
        tls.map_err(|error| Invalid::new("internal.tls", error))?;
    }
    Ok(Internal {
        tls: internal.tls,
        credentials: credentials.collect::<Result<_, Invalid>>()?,
        service_account_audience: internal
            .service_account_tokens
            .map(|tokens| tokens.audience),
        admins: internal.admins,
    })
}

fn introspection(file: authserver_config::Introspection) -> Result<Introspection, Invalid> {
    let callers = file.callers.into_iter().enumerate();
    let callers = callers.map(|(index, caller)| {
        let key = format!("introspection.callers[{index}].secretFile");
        let secret = read_secret(&key, &caller.secret_file)?;
        authserver_config::check_random_secret(key, secret.reveal())?;
        Ok((caller.id, secret))
    });
    Ok(Introspection {
        public: file.public,
        callers: callers.collect::<Result<_, Invalid>>()?,
    })
}

fn traces(otlp: Option<Otlp>) -> Result<Option<Destination>, Invalid> {
    let Some(otlp) = otlp else { return Ok(None) };
    let key = "telemetry.otlp.headersFile";
    let headers = otlp.headers_file.map(|file| {
        let text = read(key, &file)?;
        telemetry::parse_headers(key, &text)
    });
    Ok(Some(Destination {
        endpoint: otlp.endpoint,
        headers: headers.transpose()?.unwrap_or_default(),
        service: "mcp-authserver",
        version: env!("CARGO_PKG_VERSION"),
    }))
}

fn resources(documents: Vec<ResourceDocument>, issuer: &Issuer) -> Result<Vec<Resource>, Invalid> {
    let documents = documents.into_iter().enumerate();
    let resources = documents.map(|(index, mut document)| {
        let key = format!("resources[{index}]");
        let id = document.id.take().unwrap_or_default();
        documents::resource(document, id, issuer).map_err(|error| match error {
            ResourceError::Invalid(invalid) => invalid.below(&key),
            ResourceError::IsIssuer(_) => Invalid::new(key, error),
        })
    });
    resources.collect()
}

fn clients(documents: Vec<ClientDocument>) -> Result<Vec<(String, ClientDocument)>, Invalid> {
    let documents = documents.into_iter().enumerate();
    let clients = documents.map(|(index, mut document)| {
        let id = document.client_id.take().unwrap_or_default();
        documents::check_client(&document, &id)
            .map_err(|error| error.below(&format!("clients[{index}]")))?;
        Ok((id, document))
    });
    clients.collect()
}

#[cfg(test)]
mod tests;
