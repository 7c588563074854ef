//! Applies the keys file again when it changes.

use std::path::PathBuf;
use std::sync::Arc;

use mcpauth_wire::proxy_keys::ProxyKeys;

use crate::config::ConfigError;
use crate::keys::read;
use crate::proxy::Proxy;
use crate::reload::{INTERVAL, Outcome};

/// Applies the file again when its content changes.
#[derive(Debug)]
pub struct KeysReloader {
    path: PathBuf,
    proxy: Arc<Proxy>,
    seen: Result<ProxyKeys, ConfigError>,
}

impl KeysReloader {
    /// `keys` are in use.
    pub fn new(path: PathBuf, keys: ProxyKeys, proxy: Arc<Proxy>) -> Self {
        Self {
            path,
            proxy,
            seen: Ok(keys),
        }
    }

    /// Reads the file periodically.
    pub async fn watch(mut self) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            self.look();
        }
    }

    /// Reads the file once: a hundred bytes of a memory file system.
    pub fn look(&mut self) -> Outcome {
        let read = read(&self.path);
        if read == self.seen {
            return Outcome::Unchanged;
        }
        self.seen = read;
        self.proxy.runtime().metrics.reload(self.seen.is_ok());
        match &self.seen {
            Ok(keys) => {
                self.proxy.replace_keys(keys);
                tracing::info!(file = %self.path.display(), "applied the new keys");
                Outcome::Applied
            }
            Err(error) => {
                tracing::error!(%error, "the new keys are invalid; keeping the previous ones");
                Outcome::Refused
            }
        }
    }
}
