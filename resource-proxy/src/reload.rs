//! Reloads the configuration file when it changes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

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
            seen: Ok(text),
        }
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
        if config.listen != self.proxy.compiled().config.listen {
            tracing::warn!(
                "a change of `listen` takes effect only after a restart; all other changes apply now"
            );
        }
        self.proxy.reconfigure(config)
    }
}
