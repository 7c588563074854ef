//! What is stored under versions of the pepper that are to be removed: counted while the server runs, and checked before
//! it serves, so that a version that is still needed is not removed unnoticed.

use std::fmt;
use std::fmt::Write as _;

use mcpauth_service::clock::UnixTime;

use crate::keys::pepper::Pepper;
use crate::metrics::Metrics;
use crate::store::{PepperUse, Store, StoreError};

/// A version of the pepper that is needed and not in the keys file.
#[derive(Debug)]
pub struct Missing {
    version: u16,
    uses: PepperUse,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, uses } = self;
        write!(
            f,
            "keysFile has no line for version {version} of the pepper, and this was stored under it: {}. Put the line back \
             at the end of the file until the metric mcpauth_authserver_pepper_uses is 0 for it; or add the line \
             `{version}:lost`, and all of it becomes invalid",
            list(uses)
        )
    }
}

impl std::error::Error for Missing {}

/// Why the use of the pepper cannot be told, or must not go on.
#[derive(Debug, thiserror::Error)]
pub enum PepperUseError {
    /// A version is missing.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Checks that the keys file names every version that something is stored under.
///
/// # Errors
/// The first version that is missing.
pub async fn check(
    store: &dyn Store,
    pepper: &Pepper,
    now: UnixTime,
) -> Result<(), PepperUseError> {
    let uses = store
        .under_other_peppers(pepper.current_version(), now)
        .await?;
    let missing = uses
        .into_iter()
        .find(|(version, _)| !pepper.names(*version));
    match missing {
        Some((version, uses)) => Err(Missing { version, uses }.into()),
        None => Ok(()),
    }
}

/// Counts what is stored under the versions of the keys file that are not the current one. When there are none, nothing
/// is asked for.
///
/// # Errors
/// When the store is unavailable.
pub async fn count(
    store: &dyn Store,
    pepper: &Pepper,
    metrics: &Metrics,
    now: UnixTime,
) -> Result<(), StoreError> {
    let mut others = pepper.other_versions().peekable();
    if others.peek().is_none() {
        return Ok(());
    }
    let uses = store
        .under_other_peppers(pepper.current_version(), now)
        .await?;
    for version in others {
        let uses = uses.get(&version).copied().unwrap_or_default();
        tracing::debug!(version, uses = %list(&uses), "stored under a pepper that is not the current one");
        metrics.pepper_uses(version, &uses.counts());
    }
    Ok(())
}

fn list(uses: &PepperUse) -> String {
    let mut text = String::new();
    for (kind, count) in uses.counts().into_iter().filter(|(_, count)| *count > 0) {
        let separator = if text.is_empty() { "" } else { ", " };
        let plural = if count == 1 { "" } else { "s" };
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "{separator}{count} {}{plural}",
            kind.replace('_', " ")
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_says_what_would_be_lost_and_what_to_do() {
        let uses = PepperUse {
            refresh_tokens: 12,
            client_secrets: 1,
            ..PepperUse::default()
        };
        let text = Missing { version: 3, uses }.to_string();
        assert!(
            text.contains("version 3 of the pepper, and this was stored under it: 12 refresh tokens, 1 client secret."),
            "{text}"
        );
        assert!(text.contains("`3:lost`"), "{text}");
    }
}
