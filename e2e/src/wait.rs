//! Waits for something to become true, within a bound.

use std::{future::Future, time::Duration};

use anyhow::{Error, Result, anyhow};
use tokio::time::{Instant, sleep};

/// Asks `probe` again and again until it succeeds, for at most `seconds`, and gives its answer.
/// An error of the probe means: not yet.
///
/// # Errors
/// When the time is over: what was waited for, and the probe's last error.
pub async fn until<T, F, Fut>(what: &str, seconds: u64, mut probe: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T>>,
{
    let begin = Instant::now();
    let bound = Duration::from_secs(seconds);
    loop {
        // The bound holds for the probe too: one that hangs must not stop the clock.
        let left = bound.saturating_sub(begin.elapsed());
        let error: Error = match tokio::time::timeout(left, probe()).await {
            Ok(Ok(value)) => {
                println!("    {what}: after {:.1} s", begin.elapsed().as_secs_f64());
                return Ok(value);
            }
            Ok(Err(error)) => error,
            Err(_) => anyhow!("no answer"),
        };
        if begin.elapsed() >= bound {
            return Err(error.context(format!("{what}: not within {seconds} s")));
        }
        sleep(Duration::from_millis(200)).await;
    }
}
