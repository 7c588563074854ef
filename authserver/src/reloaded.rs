//! A file that is read again when it changes: a mounted Secret, say.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// Why there is nothing to use.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The file is missing or unreadable.
    #[error("{0} cannot be read: {1}")]
    Unreadable(PathBuf, std::io::Error),
    /// The file has never been valid; the text says why.
    #[error("{0}")]
    Malformed(String),
}

/// What is in a file. While it is malformed, what was in it before stays in use.
pub struct Reloaded<T> {
    path: PathBuf,
    parse: Parse<T>,
    read: Mutex<Read<T>>,
}

/// Reads the text of the file. An error says what is wrong, without a secret.
type Parse<T> = Box<dyn Fn(&str) -> Result<T, String> + Send + Sync>;

/// What was read of the file.
struct Read<T> {
    valid: Option<(Version, Arc<T>)>,
    /// A later version that is malformed.
    malformed: Option<Version>,
}

/// Kubernetes replaces a file by another one, so that its inode changes.
type Version = (Option<SystemTime>, u64, u64);

impl<T> Reloaded<T> {
    /// Of this file, which is read when it is first asked for.
    pub fn new(
        path: PathBuf,
        parse: impl Fn(&str) -> Result<T, String> + Send + Sync + 'static,
    ) -> Self {
        Self {
            path,
            parse: Box::new(parse),
            read: Mutex::new(Read {
                valid: None,
                malformed: None,
            }),
        }
    }

    /// What is in the file now.
    ///
    /// # Errors
    /// When the file cannot be read, or was never valid.
    pub async fn current(&self) -> Result<Arc<T>, ReloadError> {
        let unreadable = |error| ReloadError::Unreadable(self.path.clone(), error);
        let metadata = tokio::fs::metadata(&self.path).await.map_err(unreadable)?;
        let version = (metadata.modified().ok(), metadata.len(), metadata.ino());
        if let Read {
            valid: Some((known, value)),
            malformed,
        } = &*self.lock()
            && (*known == version || *malformed == Some(version))
        {
            return Ok(value.clone());
        }
        let text = tokio::fs::read_to_string(&self.path).await;
        let value = match (self.parse)(&text.map_err(unreadable)?) {
            Ok(value) => Arc::new(value),
            Err(error) => return self.keep(version, error),
        };
        *self.lock() = Read {
            valid: Some((version, value.clone())),
            malformed: None,
        };
        Ok(value)
    }

    /// What was valid before this malformed version.
    fn keep(&self, version: Version, error: String) -> Result<Arc<T>, ReloadError> {
        let mut read = self.lock();
        let Some((_, value)) = &read.valid else {
            return Err(ReloadError::Malformed(error));
        };
        let value = value.clone();
        read.malformed = Some(version);
        tracing::error!(path = %self.path.display(), %error, "the file is malformed; its last valid version stays in use");
        Ok(value)
    }

    fn lock(&self) -> MutexGuard<'_, Read<T>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Debug for Reloaded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reloaded({})", self.path.display())
    }
}
