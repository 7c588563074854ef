//! Reloads the configuration file when it changes.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mcpauth_wire::proxy_health::{self, InForce, Rejected};
use mcpauth_wire::read;

use crate::config::{Config, ConfigError};
use crate::proxy::Proxy;

/// How often the file is read.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// Compares the content of the file with what was read last, not its modification time: a ConfigMap is swapped by
/// a symbolic link two directories up, and reading a few kilobytes per second costs nothing.
#[derive(Debug)]
pub struct Reloader {
    path: PathBuf,
    proxy: Arc<Proxy>,
    seen: Result<String, String>,
    state: State,
}

/// Which version of the file is in force. Clones know the same.
#[derive(Clone, Debug)]
pub struct State(Arc<Mutex<InForce>>);

impl State {
    fn new(text: &str) -> Self {
        Self(Arc::new(Mutex::new(InForce {
            hash: proxy_health::hash(text),
            rejected: None,
        })))
    }

    /// What the health port says.
    pub fn in_force(&self) -> InForce {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.clone()
    }

    fn set(&self, read: &Result<String, String>, applied: &Result<(), String>) {
        let hash = read.as_deref().ok().map(proxy_health::hash);
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match (applied, hash) {
            (Ok(()), Some(hash)) => {
                *state = InForce {
                    hash,
                    rejected: None,
                };
            }
            (Ok(()), None) => {}
            (Err(reason), hash) => {
                let reason = one_line(reason);
                state.rejected = Some(Rejected { hash, reason });
            }
        }
    }
}

fn one_line(reason: &str) -> String {
    let line = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    let end = line.floor_char_boundary(proxy_health::REASON);
    line[..end].to_owned()
}

/// The result of reading the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Unchanged.
    Unchanged,
    /// A new version, now in force.
    Applied,
    /// A new version that cannot be used; the old one stays in force.
    Refused,
}

impl Reloader {
    /// `text` is the version in force.
    pub fn new(path: PathBuf, text: String, proxy: Arc<Proxy>) -> Self {
        Self {
            path,
            proxy,
            state: State::new(&text),
            seen: Ok(text),
        }
    }

    /// Which version is in force, from now on.
    pub fn state(&self) -> State {
        self.state.clone()
    }

    /// Reads the file periodically.
    pub async fn watch(mut self) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            self.look().await;
        }
    }

    /// Reads the file once.
    pub async fn look(&mut self) -> Outcome {
        let read = tokio::fs::read_to_string(&self.path).await;
        let read = read.map_err(|error| error.to_string());
        if read == self.seen {
            return Outcome::Unchanged;
        }
        self.seen = read;
        let applied = match &self.seen {
            Ok(text) => self.apply(text).map_err(|error| error.to_string()),
            Err(error) => Err(error.clone()),
        };
        self.state.set(&self.seen, &applied);
        self.proxy.runtime().metrics.reload(applied.is_ok());
        let file = self.path.display();
        match applied {
            Ok(()) => {
                tracing::info!(%file, "applied the new configuration");
                Outcome::Applied
            }
            Err(error) => {
                tracing::error!(%file, error, "the new configuration is invalid; keeping the previous one");
                Outcome::Refused
            }
        }
    }

    fn apply(&self, text: &str) -> Result<(), ConfigError> {
        let config = Config::parse(text)?;
        let (listen, telemetry) = (config.listen, config.telemetry.clone());
        let before = self.proxy.compiled();
        let reconfigured = self.proxy.reconfigure(config);
        reconfigured.map_err(|invalid| read::located(text, invalid))?;
        if (listen, &telemetry) != (before.config.listen, &before.config.telemetry) {
            tracing::warn!(
                "a change of `listen` or `telemetry` takes effect only after a restart; all other changes apply now"
            );
        }
        Ok(())
    }
}
