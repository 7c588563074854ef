//! Local users: names and argon2id hashes in a file, read again when it changes.

use std::net::IpAddr;
use std::path::PathBuf;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mcpauth_service::admission::Caller;
use mcpauth_service::fair_queue::Turn;
use serde::Deserialize;

use super::User;
use super::password::{self, Hashing, MAX_MEMORY, StoredHash};
use crate::oauth::grant::LoginMark;
use crate::reloaded::{ReloadError, Reloaded};

/// Why users cannot be looked up.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// There are no users to look up.
    #[error(transparent)]
    File(#[from] ReloadError),
    /// The file is invalid.
    #[error("{0}")]
    Malformed(String),
    /// Too many passwords wait to be hashed.
    #[error("too many sign-ins are in progress")]
    Busy,
    /// The thread that hashed the password panicked.
    #[error(
        "a password was not checked, because its thread panicked: report this fault in the program"
    )]
    Panicked,
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
        if StoredHash::parse(&user.password_hash).is_none() {
            let text = format!(
                "passwordHash: expected an argon2id hash, `$argon2id$v=19$…`, of at most {} MiB",
                MAX_MEMORY / 1024
            );
            return wrong(&text);
        }
    }
    Ok(file.users)
}

/// The users of a file.
#[derive(Debug)]
pub struct LocalUsers {
    file: Reloaded<Vec<Entry>>,
    hashing: Hashing,
}

impl LocalUsers {
    /// The users of this file, which is read when it is first asked for.
    pub fn new(path: PathBuf) -> Self {
        Self {
            file: Reloaded::new(path, |text| parse(text).map_err(|error| error.to_string())),
            hashing: Hashing::default(),
        }
    }

    /// A fingerprint that changes with the user's password and reveals nothing about it. `None` when there is
    /// no such user.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn mark(&self, name: &str) -> Result<Option<LoginMark>, UsersError> {
        let users = self.file.current().await?;
        Ok(users.iter().find(|user| user.name == name).map(mark))
    }

    /// How many passwords wait to be hashed.
    pub fn waiting(&self) -> usize {
        self.hashing.waiting()
    }

    /// Waits until another password may be hashed, in turn with other networks.
    ///
    /// # Errors
    /// Too many wait.
    pub async fn turn(&self, caller: Caller, network: IpAddr) -> Result<Turn<IpAddr>, UsersError> {
        let turn = self.hashing.turn(caller, network).await;
        turn.map_err(|_| UsersError::Busy)
    }

    /// The user, when this is the password. Does the work of a user also for an unknown name.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn verify(
        &self,
        turn: Turn<IpAddr>,
        name: &str,
        password: String,
    ) -> Result<Option<User>, UsersError> {
        let users = self.file.current().await?;
        let known = users.iter().find(|user| user.name == name);
        let Some(entry) = known.or_else(|| stand_in(&users, name)) else {
            return Ok(None);
        };
        let stored =
            StoredHash::parse(&entry.password_hash).filter(|_| password::is_length(&password));
        let Some(stored) = stored else {
            return Ok(None);
        };
        let verified = self.hashing.verify(turn, stored, password).await;
        let matches = verified.ok_or(UsersError::Panicked)?;
        Ok(known.filter(|_| matches).map(|user| User {
            subject: user.name.clone(),
            mark: mark(user),
        }))
    }
}

/// The user whose hash is computed for an unknown name. Always the same one for a name: where hashes differ in cost, the time
/// says nothing about which names exist.
fn stand_in<'a>(users: &'a [Entry], name: &str) -> Option<&'a Entry> {
    let mut seed = digest::Context::new(&digest::SHA256);
    seed.update(users.first()?.password_hash.as_bytes());
    seed.update(name.as_bytes());
    let seed = seed.finish();
    let seed = seed.as_ref().iter().take(4);
    let seed = seed.fold(0_usize, |number, byte| number << 8 | usize::from(*byte));
    users.get(seed % users.len())
}

/// A hash of a salted hash.
fn mark(user: &Entry) -> LoginMark {
    let digest = digest::digest(&digest::SHA256, user.password_hash.as_bytes());
    LoginMark::new(URL_SAFE_NO_PAD.encode(&digest.as_ref()[..16]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str =
        "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHRzYWx0$eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHg";

    #[test]
    fn unknown_names_cost_what_some_user_costs() {
        let text: String = (0..4)
            .map(|n| format!("- {{ name: u{n}, passwordHash: '{HASH}' }}\n"))
            .collect();
        let users = parse(&format!("users:\n{text}")).unwrap();
        let stands_in = |name: &str| stand_in(&users, name).unwrap().name.clone();
        let names: std::collections::BTreeSet<String> =
            (0..99).map(|n| stands_in(&n.to_string())).collect();
        assert_eq!(names.len(), 4);
        assert_eq!(stands_in("mallory"), stands_in("mallory"));
        assert!(stand_in(&[], "mallory").is_none());
    }

    #[tokio::test]
    async fn a_file_that_becomes_malformed_leaves_its_users() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let write = |text: &str| std::fs::write(file.path(), text).unwrap();
        let users = LocalUsers::new(file.path().to_owned());
        write("users: [");
        assert!(matches!(
            users.mark("alice").await,
            Err(UsersError::File(ReloadError::Malformed(_)))
        ));
        write(&format!(
            "users: [{{ name: alice, passwordHash: '{HASH}' }}]"
        ));
        assert!(users.mark("alice").await.unwrap().is_some());
        write("users: [{ name: alice }, ");
        assert!(users.mark("alice").await.unwrap().is_some());
        write("users: []");
        assert!(users.mark("alice").await.unwrap().is_none());
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
