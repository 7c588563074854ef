//! The keys that the replicas of a proxy share, and the file that they come from.

use std::path::Path;

use aws_lc_rs::hkdf;
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use mcpauth_wire::proxy_keys::{KEY_BYTES, ProxyKeys};

use crate::config::ConfigError;

/// The keys for one purpose, derived from `keys` by HKDF-SHA-256 (RFC 5869), so that what is made for one purpose is
/// never taken for another. The current one comes first.
pub fn subkeys(keys: &ProxyKeys, purpose: &'static str) -> Vec<[u8; KEY_BYTES]> {
    let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"mcpauth proxy");
    let subkey = |key| {
        let mut subkey = [0; KEY_BYTES];
        let root = salt.extract(key);
        let info = [purpose.as_bytes()];
        let okm = root.expand(&info, hkdf::HKDF_SHA256);
        okm.and_then(|okm| okm.fill(&mut subkey)).ok()?;
        Some(subkey)
    };
    keys.all().filter_map(|key| subkey(key)).collect()
}

/// Reads the file.
///
/// # Errors
/// It cannot be read, or is invalid. No error quotes it.
pub fn read(path: &Path) -> Result<ProxyKeys, ConfigError> {
    let file = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::new("--keys", format!("{file} cannot be read: {error}")))?;
    ProxyKeys::parse(&text)
        .map_err(|invalid| ConfigError::new("--keys", format!("{file}: {invalid}")))
}

/// A key for this process alone, for a proxy without replicas.
///
/// # Errors
/// The system's random number generator failed.
pub fn random() -> anyhow::Result<ProxyKeys> {
    let mut key = [0; KEY_BYTES];
    SystemRandom::new()
        .fill(&mut key)
        .map_err(|_| anyhow::anyhow!("the system's random number generator failed"))?;
    Ok(ProxyKeys::new(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purposes_have_keys_of_their_own() {
        let keys = ProxyKeys::new([1; KEY_BYTES]);
        let (one, other) = (subkeys(&keys, "one"), subkeys(&keys, "other"));
        assert_eq!(one.len(), 1);
        assert_ne!(one, other);
        assert_ne!(one[0], [1; KEY_BYTES]);
    }
}
