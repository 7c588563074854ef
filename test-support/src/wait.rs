//! Waits for something to become true.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::time::Instant;

/// The bound of every wait. It is not what is tested: it only ends a test that fails, so it is longer than anything
/// takes on a busy machine.
const BOUND: Duration = Duration::from_secs(120);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// What a look gives: `Some` and `Ok` end the wait, everything else means not yet.
pub trait Look {
    /// What was waited for.
    type Value;

    /// What was found, or what was seen instead.
    ///
    /// # Errors
    /// Not yet.
    fn found(self) -> Result<Self::Value, String>;
}

impl<T> Look for Option<T> {
    type Value = T;

    fn found(self) -> Result<T, String> {
        self.ok_or_else(|| "it is not so".to_owned())
    }
}

impl<T, E: Display> Look for Result<T, E> {
    type Value = T;

    fn found(self) -> Result<T, String> {
        self.map_err(|error| format!("{error:#}"))
    }
}

/// Looks again and again until what was waited for is there, and gives it.
///
/// # Errors
/// It did not come within the bound: what was waited for, and what was seen last.
pub async fn until<L: Look, F: Future<Output = L>>(
    what: &str,
    look: impl FnMut() -> F,
) -> Result<L::Value> {
    within(BOUND, what, look).await
}

/// As [`until`], for tests that may panic.
#[expect(clippy::panic, reason = "it ends a test that fails")]
pub async fn eventually<L: Look, F: Future<Output = L>>(
    what: &str,
    look: impl FnMut() -> F,
) -> L::Value {
    match until(what, look).await {
        Ok(found) => found,
        Err(error) => panic!("{error}"),
    }
}

async fn within<L: Look, F: Future<Output = L>>(
    bound: Duration,
    what: &str,
    mut look: impl FnMut() -> F,
) -> Result<L::Value> {
    let begin = Instant::now();
    let mut last = "nothing".to_owned();
    loop {
        // The bound holds for a look too: one that hangs is given up.
        let left = bound.saturating_sub(begin.elapsed());
        match tokio::time::timeout(left, look()).await.map(Look::found) {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(seen)) => last = seen,
            Err(_) => {}
        }
        // Also where a look is so quick that no time is too short for it.
        if begin.elapsed() >= bound {
            let seconds = bound.as_secs();
            return Err(anyhow!("not within {seconds} s: {what}; last seen: {last}"));
        }
        tokio::time::sleep(PAUSE.min(left)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_comes_later_is_found() {
        let mut looks = 0;
        let found = until("the third look", || {
            looks += 1;
            let look = (looks == 3).then_some(looks);
            async move { look }
        });
        assert_eq!(found.await.unwrap(), 3);
    }

    #[tokio::test]
    async fn a_wait_that_ends_says_for_what_and_what_was_seen() {
        let bound = Duration::from_millis(120);
        let look = async || Err::<(), _>("a blue one");
        let error = within(bound, "a red one comes", look).await.unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("a red one comes") && text.ends_with("last seen: a blue one"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_look_that_hangs_is_given_up() {
        let hangs = std::future::pending::<Option<()>>;
        let error = within(Duration::from_millis(50), "it", hangs).await;
        assert!(
            error
                .unwrap_err()
                .to_string()
                .ends_with("last seen: nothing")
        );
    }
}
