//! Calls in a tight loop, which are delayed but never rejected.

use std::time::Duration;

use anyhow::Context;
use tokio::time::Instant;

use super::mcp::{Call, Session};
use crate::local::screen::{Screen, sparkline};

const CALLS: usize = 40;
const LONGEST: Duration = Duration::from_secs(15);

/// Calls until the number of calls or the time limit is reached, and prints how long each call took.
pub async fn run(session: &mut Session, call: &Call, screen: &Screen) -> anyhow::Result<()> {
    screen.heading(&format!(
        "Call {} in a tight loop: the proxy delays calls instead of rejecting them",
        call.name
    ));
    let begin = Instant::now();
    let mut milliseconds = Vec::new();
    while milliseconds.len() < CALLS && begin.elapsed() < LONGEST {
        let one = Instant::now();
        session
            .call(call)
            .await
            .with_context(|| format!("call {} of the burst", milliseconds.len() + 1))?;
        milliseconds.push(one.elapsed().as_millis());
    }
    screen.got(&sparkline(&milliseconds));
    let first = milliseconds.first().copied().unwrap_or_default();
    let last = milliseconds.last().copied().unwrap_or_default();
    screen.note(&format!(
        "{} calls in {:.1} s, none rejected; the first took {first} ms, the last {last} ms",
        milliseconds.len(),
        begin.elapsed().as_secs_f64()
    ));
    Ok(())
}
