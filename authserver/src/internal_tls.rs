//! The certificate of the internal port, which is read again when its files change.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use mcpauth_service::tls::{ServerTls, TlsError};
use mcpauth_wire::authserver_config::InternalTls;

use crate::metrics::Metrics;

/// How often the files are read: two small ones of a memory file system.
const INTERVAL: Duration = Duration::from_secs(1);

/// Why there is no certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read: its path and why.
    #[error("{0} cannot be read: {1}")]
    Unreadable(String, String),
    /// The files cannot be used.
    #[error("certFile {files}: {error}")]
    Unusable {
        /// Their paths.
        files: String,
        /// What is wrong.
        error: TlsError,
    },
}

/// What is in the two files. `Debug` shows no key.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    files: String,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pair({})", self.files)
    }
}

impl Pair {
    /// Reads the files.
    ///
    /// # Errors
    /// One cannot be read.
    pub fn read(files: &InternalTls) -> Result<Self, CertificateError> {
        let (certificate, key) = (&files.cert_file, &files.key_file);
        Ok(Self {
            files: format!("{}, keyFile {}", certificate.display(), key.display()),
            certificate: read(certificate)?,
            key: read(key)?,
        })
    }

    /// For a listener.
    ///
    /// # Errors
    /// They are no certificate with its key.
    pub fn tls(&self) -> Result<ServerTls, CertificateError> {
        ServerTls::new(&self.certificate, &self.key).map_err(|error| self.unusable(error))
    }

    fn unusable(&self, error: TlsError) -> CertificateError {
        CertificateError::Unusable {
            files: self.files.clone(),
            error,
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    let unreadable = |error: io::Error| {
        CertificateError::Unreadable(path.display().to_string(), error.to_string())
    };
    std::fs::read(path).map_err(unreadable)
}

/// The certificate of the port.
#[derive(Debug)]
pub struct Certificate {
    files: InternalTls,
    tls: ServerTls,
    seen: Result<Pair, CertificateError>,
}

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// They cannot be read, or are no certificate with its key.
    pub fn load(files: InternalTls) -> Result<Self, CertificateError> {
        let pair = Pair::read(&files)?;
        let tls = pair.tls()?;
        Ok(Self {
            files,
            tls,
            seen: Ok(pair),
        })
    }

    /// For the listener. It follows the files.
    pub fn tls(&self) -> ServerTls {
        self.tls.clone()
    }

    /// Reads the files periodically.
    pub async fn watch(mut self, metrics: &Metrics) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            self.look(metrics);
        }
    }

    /// Reads the files once. A pair that cannot be used changes nothing.
    pub fn look(&mut self, metrics: &Metrics) {
        let read = Pair::read(&self.files);
        // They may be replaced between the one and the other.
        if read == self.seen || read != Pair::read(&self.files) {
            return;
        }
        self.seen = read;
        let applied = match &self.seen {
            Ok(pair) => {
                let replaced = self.tls.replace(&pair.certificate, &pair.key);
                replaced.map_err(|error| pair.unusable(error))
            }
            Err(error) => Err(error.clone()),
        };
        metrics.certificate_reload(applied.is_ok());
        match applied {
            Ok(()) => tracing::info!("the internal port has its new certificate"),
            Err(error) => {
                tracing::error!(%error, "the internal port's new certificate cannot be used; the previous one stays in use");
            }
        }
    }
}
