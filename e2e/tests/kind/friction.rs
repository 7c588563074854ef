//! A client that goes too fast.

use anyhow::{Result, ensure};
use mcpauth_test_support::{mcp::Session, oauth::Client};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    access::WRITE,
    cluster::{ISSUER, RESOURCE},
    setup,
};

/// Calls per second that [`crate::policy::strict`] set.
const TARGET: f64 = 10.0;

/// Calls without a pause for half a minute. What counts is the rate of the last part, after the
/// controller has settled.
pub(crate) async fn tight_loop() -> Result<()> {
    setup::strict_notes().await?;
    let client = Client::register(ISSUER).await?;
    let tokens = client.authorize(RESOURCE, WRITE).await?;
    let session = Session::begin(RESOURCE, &tokens.access).await?;
    let begin = Instant::now();
    let mut done = Vec::new();
    while begin.elapsed().as_secs() < 30 {
        session.must_call("list_notes", &json!({})).await?;
        done.push(begin.elapsed().as_secs_f64());
    }
    for second in (0..30).step_by(5) {
        let from = f64::from(second);
        let calls = done
            .iter()
            .filter(|at| (from..from + 5.0).contains(*at))
            .count();
        println!(
            "    second {second:>2} to {:>2}: {:.1} calls a second",
            second + 5,
            calls as f64 / 5.0
        );
    }
    let settled = done.iter().filter(|at| (15.0..30.0).contains(*at)).count() as f64 / 15.0;
    println!(
        "    {} calls, none refused; settled at {settled:.1} a second, target {TARGET}",
        done.len()
    );
    ensure!(
        settled < TARGET * 1.15,
        "not slowed to the target: {settled:.1}"
    );
    ensure!(
        settled > TARGET * 0.5,
        "slowed far below the target: {settled:.1}"
    );
    Ok(())
}
