//! Hashing passwords with argon2id (RFC 9106): a bounded number at once, in buffers that live as long as the process.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use argon2::password_hash::{self, PasswordHash, PasswordHasher, SaltString};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use aws_lc_rs::constant_time;
use mcpauth_service::admission::{Bounds, Caller};
use mcpauth_service::fair_queue::{FairQueue, Full, Turn};
use mcpauth_service::heavy;

/// Longer passwords are rejected without hashing them.
pub const MAX_PASSWORD: usize = 1024;
/// How much memory a hash may ask for, in KiB.
pub const MAX_MEMORY: u32 = 64 * 1024;

/// How many passwords are hashed at once, each on a core of its own, one of them at most for unknown callers; and how many wait.
const QUEUE: Bounds = Bounds {
    waiting: 64,
    concurrent: 2,
};

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

/// A `passwordHash` for a users file: argon2id, 19 MiB, two passes.
///
/// # Errors
/// The password is one that is never verified.
pub fn hash(password: &str, salt: [u8; 16]) -> Result<String, HashError> {
    if !is_length(password) {
        return Err(HashError::Length);
    }
    let salt = SaltString::encode_b64(&salt).map_err(HashError::Library)?;
    let hash = Argon2::default().hash_password(password.as_bytes(), &salt);
    Ok(hash.map_err(HashError::Library)?.to_string())
}

/// Whether a password may be hashed at all.
pub fn is_length(password: &str) -> bool {
    (1..=MAX_PASSWORD).contains(&password.len())
}

/// A hash in PHC format that passwords can be compared with.
pub struct StoredHash {
    argon2: Argon2<'static>,
    salt: Vec<u8>,
    output: Vec<u8>,
}

impl StoredHash {
    /// `None` unless it is argon2id with a salt, an output, and no more than [`MAX_MEMORY`].
    pub fn parse(text: &str) -> Option<Self> {
        let hash = PasswordHash::new(text).ok()?;
        if hash.algorithm != Algorithm::Argon2id.ident() {
            return None;
        }
        let version = hash.version.map(Version::try_from).transpose().ok()?;
        let params = Params::try_from(&hash).ok()?;
        if params.m_cost() > MAX_MEMORY {
            return None;
        }
        let mut salt = [0; 64];
        let salt = hash.salt?.decode_b64(&mut salt).ok()?.to_vec();
        let output = hash.hash?.as_bytes().to_vec();
        Some(Self {
            argon2: Argon2::new(Algorithm::Argon2id, version.unwrap_or_default(), params),
            salt,
            output,
        })
    }

    fn is_of(&self, password: &str, memory: &mut Vec<Block>) -> bool {
        let blocks = self.argon2.params().block_count();
        if memory.len() < blocks {
            // At once, not by doubling.
            memory.reserve_exact(blocks - memory.len());
            memory.resize(blocks, Block::default());
        }
        let mut output = vec![0; self.output.len()];
        let Some(memory) = memory.get_mut(..blocks) else {
            return false;
        };
        let (argon2, password) = (&self.argon2, password.as_bytes());
        let hashed =
            argon2.hash_password_into_with_memory(password, &self.salt, &mut output, memory);
        hashed.is_ok() && constant_time::verify_slices_are_equal(&output, &self.output).is_ok()
    }
}

/// Verifies passwords.
#[derive(Debug)]
pub struct Hashing {
    queue: FairQueue<IpAddr>,
    /// Those that are not in use. An allocator would keep a new one for each thread that ever hashed.
    buffers: Arc<Mutex<Vec<Vec<Block>>>>,
}

impl Hashing {
    /// How many passwords wait to be hashed.
    pub fn waiting(&self) -> usize {
        self.queue.waiting()
    }
}

impl Default for Hashing {
    fn default() -> Self {
        Self {
            queue: FairQueue::new(QUEUE),
            buffers: Arc::default(),
        }
    }
}

impl Hashing {
    /// Waits until another password may be hashed, in turn with those from other networks.
    ///
    /// # Errors
    /// Too many wait already.
    pub async fn turn(&self, caller: Caller, network: IpAddr) -> Result<Turn<IpAddr>, Full> {
        self.queue.turn(caller, network).await
    }

    /// Whether this is the password; `None` when its thread panicked. The hash is computed to its end, and
    /// keeps its turn, also when the browser disconnects.
    pub async fn verify(
        &self,
        turn: Turn<IpAddr>,
        stored: StoredHash,
        password: String,
    ) -> Option<bool> {
        let (buffers, caller) = (Arc::clone(&self.buffers), turn.caller());
        let hash = move || {
            let _turn = turn;
            let lock = || buffers.lock().unwrap_or_else(PoisonError::into_inner);
            let mut memory = lock().pop().unwrap_or_default();
            let matches = stored.is_of(&password, &mut memory);
            lock().push(memory);
            matches
        };
        heavy::run(caller, hash).await
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_hash_is_of_its_password_alone() {
        let text = hash("correct horse", [7; 16]).unwrap();
        assert_ne!(text, hash("correct horse", [8; 16]).unwrap());
        let stored = StoredHash::parse(&text).unwrap();
        let mut memory = Vec::new();
        assert!(stored.is_of("correct horse", &mut memory));
        let after_the_first = memory.as_ptr();
        assert!(!stored.is_of("correct horse\n", &mut memory));
        assert_eq!(memory.as_ptr(), after_the_first, "the buffer is used again");
        let too_long = "x".repeat(MAX_PASSWORD + 1);
        for password in ["", &too_long] {
            assert_eq!(hash(password, [7; 16]), Err(HashError::Length));
        }
    }

    #[test]
    fn other_hashes_are_refused() {
        let with = |algorithm: &str, memory: u32| {
            format!(
                "${algorithm}$v=19$m={memory},t=1,p=1$c2FsdHNhbHRzYWx0$eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHg"
            )
        };
        assert!(StoredHash::parse(&with("argon2id", MAX_MEMORY)).is_some());
        assert!(StoredHash::parse(&with("argon2id", MAX_MEMORY + 1)).is_none());
        assert!(StoredHash::parse(&with("argon2i", 64)).is_none());
        assert!(StoredHash::parse("$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHRzYWx0").is_none());
    }

    /// Dropping the future does not stop the hash, so its turn must not be given to another.
    #[tokio::test]
    async fn a_browser_that_disconnects_leaves_its_hash_counted() {
        let hashing = Arc::new(Hashing::default());
        let network = IpAddr::from(Ipv4Addr::LOCALHOST);
        let turn = hashing.turn(Caller::Unknown, network).await.unwrap();
        let text = "$argon2id$v=19$m=65536,t=9,p=1$c2FsdHNhbHRzYWx0$eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHg";
        let stored = StoredHash::parse(text).unwrap();
        let attempt = tokio::spawn({
            let hashing = Arc::clone(&hashing);
            async move { hashing.verify(turn, stored, "wrong".into()).await }
        });
        tokio::task::yield_now().await;
        attempt.abort();
        assert!(attempt.await.unwrap_err().is_cancelled());
        let second = hashing.turn(Caller::Unknown, network);
        let soon = tokio::time::timeout(std::time::Duration::ZERO, second).await;
        assert!(soon.is_err(), "the hash still has its turn");
    }
}
