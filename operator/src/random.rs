//! Random values, from the project's only cryptographic library.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

/// The system's random number generator failed.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the system's random number generator failed")]
pub struct NoRandomness;

/// 32 random bytes, suitable for a key.
///
/// # Errors
/// [`NoRandomness`].
pub fn bytes() -> Result<[u8; 32], NoRandomness> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

/// A 256-bit secret that needs no escaping in a URL, in HTTP Basic or in a shell.
///
/// # Errors
/// [`NoRandomness`].
pub fn secret() -> Result<String, NoRandomness> {
    bytes().map(|b| BASE64_URL_SAFE_NO_PAD.encode(b))
}

/// A number from 0.0 to 1.0, to spread things that would otherwise happen at the same time. 0.5 when the generator
/// fails.
pub fn jitter() -> f64 {
    let mut bytes = [0; 4];
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 0.5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_differ_and_need_no_escape() {
        let (one, two) = (secret().unwrap(), secret().unwrap());
        assert_ne!(one, two);
        assert_eq!(one.len(), 43);
        assert!(
            one.chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
        );
    }

    #[test]
    fn jitter_is_a_fraction() {
        assert!((0..100).map(|_| jitter()).all(|j| (0.0..=1.0).contains(&j)));
    }
}
