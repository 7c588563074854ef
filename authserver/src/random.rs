//! Randomness: the one place that reads it. Everything else takes bytes as arguments.

/// The operating system's random number generator failed, so nothing may be issued.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the system's random number generator failed")]
pub struct RandomError;

/// `N` bytes from the cryptographic generator.
///
/// # Errors
/// When the generator fails; answer with a server error, never with weaker bytes.
pub fn bytes<const N: usize>() -> Result<[u8; N], RandomError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| RandomError)?;
    Ok(bytes)
}
