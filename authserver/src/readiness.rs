//! One check of readiness answers all probes that come at the same time.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long an answer serves further probes. With a check for each, whoever reaches the health port could make the kubelet
/// wait for the database's connection.
const FRESH: Duration = Duration::from_millis(500);

/// The last answer.
#[derive(Debug, Default)]
pub struct Readiness(Mutex<Option<(Instant, Result<(), String>)>>);

impl Readiness {
    /// What `check` finds, or has just found.
    ///
    /// # Errors
    /// Why the server is not ready.
    pub async fn ask(&self, check: impl Future<Output = Result<(), String>>) -> Result<(), String> {
        let mut last = self.0.lock().await;
        if let Some((at, answer)) = &*last
            && at.elapsed() < FRESH
        {
            return answer.clone();
        }
        let answer = check.await;
        *last = Some((Instant::now(), answer.clone()));
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::join_all;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn probes_that_come_together_share_a_check() {
        let (readiness, checks) = (Readiness::default(), AtomicUsize::new(0));
        let check = async || {
            let number = checks.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Err(format!("check {number}"))
        };
        let probes = join_all((0..100).map(|_| readiness.ask(check()))).await;
        assert!(probes.iter().all(|answer| *answer == Err("check 0".into())));
        tokio::time::advance(FRESH).await;
        assert_eq!(readiness.ask(check()).await, Err("check 1".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_given_up_leaves_the_next_one_alone() {
        let readiness = Readiness::default();
        let hangs = readiness.ask(std::future::pending());
        let given_up = tokio::time::timeout(FRESH, hangs).await;
        assert!(given_up.is_err());
        assert_eq!(readiness.ask(async { Ok(()) }).await, Ok(()));
    }
}
