//! Local users: names and argon2id hashes in a file, read again when it changes.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use argon2::password_hash::{self, PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2};
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::User;
use crate::oauth::grant::LoginMark;

/// How many passwords are hashed at once: each takes some 20 MiB and a core.
const CONCURRENT_HASHES: usize = 2;
/// Longer passwords are rejected without hashing them.
const MAX_PASSWORD: usize = 1024;

/// Why users cannot be looked up.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// The file is missing or unreadable.
    #[error("{0} cannot be read: {1}")]
    Unreadable(PathBuf, std::io::Error),
    /// The file is invalid.
    #[error("{0}")]
    Malformed(String),
    /// The server is draining.
    #[error("the server is draining")]
    Interrupted,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    users: Vec<Entry>,
}

/// An entry of the users file. `Debug` shows only the name.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Entry {
    name: String,
    password_hash: String,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Entry({})", self.name)
    }
}

/// Reads the users file.
///
/// # Errors
/// Says which entry is wrong, never with its hash.
pub fn parse(text: &str) -> Result<Vec<Entry>, UsersError> {
    let malformed = |text: String| UsersError::Malformed(text);
    let value: serde_json::Value = serde_saphyr::from_str(text).map_err(|_| {
        malformed("not valid YAML; expected `users: [{name, passwordHash}]`".into())
    })?;
    let file: File = serde_path_to_error::deserialize(value)
        .map_err(|error| malformed(format!("{}: {}", error.path(), error.inner())))?;
    for (index, user) in file.users.iter().enumerate() {
        let wrong = |text: &str| Err(malformed(format!("users[{index}]: {text}")));
        if !(1..=256).contains(&user.name.len()) || user.name.contains(char::is_control) {
            return wrong("name: expected 1–256 bytes without control characters");
        }
        if file.users[..index]
            .iter()
            .any(|other| other.name == user.name)
        {
            return wrong("name: an earlier entry has the same name; list each user once");
        }
        let hash = PasswordHash::new(&user.password_hash).ok();
        let argon2id = hash.is_some_and(|hash| {
            hash.algorithm == Algorithm::Argon2id.ident() && hash.hash.is_some()
        });
        if !argon2id {
            return wrong("passwordHash: expected an argon2id hash, `$argon2id$v=19$…`");
        }
    }
    Ok(file.users)
}

/// A password cannot be hashed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// It would never be accepted at login.
    #[error("the password is empty or longer than {MAX_PASSWORD} bytes")]
    Length,
    /// The library refuses.
    #[error("argon2: {0}")]
    Library(password_hash::Error),
}

/// A `passwordHash` for a users file: argon2id (RFC 9106), 19 MiB, two passes.
///
/// # Errors
/// The password is one that [`LocalUsers::verify`] refuses.
pub fn hash_password(password: &str, salt: [u8; 16]) -> Result<String, HashError> {
    if !(1..=MAX_PASSWORD).contains(&password.len()) {
        return Err(HashError::Length);
    }
    let salt = SaltString::encode_b64(&salt).map_err(HashError::Library)?;
    let hash = Argon2::default().hash_password(password.as_bytes(), &salt);
    Ok(hash.map_err(HashError::Library)?.to_string())
}

/// The users of a file.
#[derive(Debug)]
pub struct LocalUsers {
    path: PathBuf,
    read: Mutex<Option<(Version, Arc<Vec<Entry>>)>>,
    hashing: Arc<Semaphore>,
}

/// A permit to hash one password, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    _permit: OwnedSemaphorePermit,
}

type Version = (Option<SystemTime>, u64);

impl LocalUsers {
    /// The users of this file, which is read when it is first asked for.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            read: Mutex::default(),
            hashing: Arc::new(Semaphore::new(CONCURRENT_HASHES)),
        }
    }

    /// A fingerprint that changes with the user's password and reveals nothing about it. `None` when there is
    /// no such user.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn mark(&self, name: &str) -> Result<Option<LoginMark>, UsersError> {
        let users = self.users().await?;
        Ok(users.iter().find(|user| user.name == name).map(mark))
    }

    /// Waits until another password may be hashed.
    ///
    /// # Errors
    /// When the server is draining.
    pub async fn turn(&self) -> Result<Turn, UsersError> {
        let turn = Arc::clone(&self.hashing).acquire_owned().await;
        turn.map(|permit| Turn { _permit: permit })
            .map_err(|_| UsersError::Interrupted)
    }

    /// The user, when this is the password. Does the same work for an unknown name.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn verify(
        &self,
        turn: Turn,
        name: &str,
        password: String,
    ) -> Result<Option<User>, UsersError> {
        let users = self.users().await?;
        let known = users.iter().position(|user| user.name == name);
        if password.len() > MAX_PASSWORD || users.is_empty() {
            return Ok(None);
        }
        let matches = tokio::task::spawn_blocking(move || {
            // Hashing continues when the browser disconnects.
            let _turn = turn;
            let user = users.get(known.unwrap_or(0));
            user.filter(|user| is_password(user, &password))
                .map(|user| User {
                    subject: user.name.clone(),
                    mark: mark(user),
                })
        });
        let matches = matches.await.map_err(|_| UsersError::Interrupted)?;
        Ok(matches.filter(|_| known.is_some()))
    }

    async fn users(&self) -> Result<Arc<Vec<Entry>>, UsersError> {
        let unreadable = |error| UsersError::Unreadable(self.path.clone(), error);
        let metadata = tokio::fs::metadata(&self.path).await.map_err(unreadable)?;
        let version = (metadata.modified().ok(), metadata.len());
        if let Some((known, users)) = &*self.lock()
            && *known == version
        {
            return Ok(users.clone());
        }
        let users = Arc::new(load(&self.path).await?);
        *self.lock() = Some((version, users.clone()));
        Ok(users)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Version, Arc<Vec<Entry>>)>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn load(path: &Path) -> Result<Vec<Entry>, UsersError> {
    let text = tokio::fs::read_to_string(path)
        .await
        .map_err(|error| UsersError::Unreadable(path.to_owned(), error))?;
    parse(&text)
}

/// A hash of a salted hash.
fn mark(user: &Entry) -> LoginMark {
    let digest = digest::digest(&digest::SHA256, user.password_hash.as_bytes());
    LoginMark::new(URL_SAFE_NO_PAD.encode(&digest.as_ref()[..16]))
}

fn is_password(user: &Entry, password: &str) -> bool {
    PasswordHash::new(&user.password_hash).is_ok_and(|hash| {
        Argon2::default()
            .verify_password(password.as_bytes(), &hash)
            .is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Dropping the future does not stop the hash, so its turn must not be given to another.
    #[tokio::test]
    async fn a_browser_that_goes_away_leaves_its_hash_counted() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let hash = "$argon2id$v=19$m=65536,t=2,p=1$c2FsdHNhbHRzYWx0$eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHg";
        let text = format!("users: [{{ name: alice, passwordHash: '{hash}' }}]");
        std::fs::write(file.path(), text).unwrap();
        let users = Arc::new(LocalUsers::new(file.path().to_owned()));
        let attempt = tokio::spawn({
            let users = users.clone();
            async move {
                let turn = users.turn().await?;
                users.verify(turn, "alice", "wrong".into()).await
            }
        });
        while users.read.lock().unwrap().is_none() {
            assert!(!attempt.is_finished());
            tokio::task::yield_now().await;
        }
        attempt.abort();
        assert!(attempt.await.unwrap_err().is_cancelled());
        assert_eq!(users.hashing.available_permits(), CONCURRENT_HASHES - 1);
    }

    #[test]
    fn a_hash_is_taken_by_the_users_file_and_is_of_that_password() {
        let hash = hash_password("correct horse", [7; 16]).unwrap();
        assert_ne!(hash, hash_password("correct horse", [8; 16]).unwrap());
        let users = parse(&format!("users:\n- name: alice\n  passwordHash: {hash}")).unwrap();
        assert!(is_password(&users[0], "correct horse"));
        assert!(!is_password(&users[0], "correct horse\n"));
        let too_long = "x".repeat(MAX_PASSWORD + 1);
        for password in ["", &too_long] {
            assert_eq!(hash_password(password, [7; 16]), Err(HashError::Length));
        }
    }

    #[test]
    fn a_malformed_users_file_is_refused_without_showing_hashes() {
        for (text, expected) in [
            (
                "users: [{name: a, passwordHash: hunter2}]",
                "users[0]: passwordHash",
            ),
            ("users: [{name: a}]", "missing field `passwordHash`"),
            ("people: []", "unknown field `people`"),
            ("users: [{name: '', passwordHash: x}]", "users[0]: name"),
            ("[", "not valid YAML"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
