//! Hashes without a key, of what is only compared within this process.

use aws_lc_rs::digest;

/// A SHA-256 hash.
pub type Digest = [u8; 32];

/// The hash of a text.
pub fn sha256(text: &str) -> Digest {
    let mut bytes = Digest::default();
    bytes.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    bytes
}
