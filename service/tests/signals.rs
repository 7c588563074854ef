//! Signals to a process, which is this one: so there is one test in it.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::process::Command;
use std::time::Duration;

use mcpauth_service::shutdown::Shutdown;

fn send(signal: &str) {
    let id = std::process::id().to_string();
    let sent = Command::new("kill").args(["-s", signal, &id]).status();
    assert!(sent.unwrap().success());
}

#[tokio::test]
async fn each_further_signal_ends_a_stage() {
    let hour = Duration::from_secs(3600);
    let shutdown = Shutdown::on_signal(hour).unwrap();
    send("TERM");
    shutdown.draining().cancelled().await;
    assert!(!shutdown.closing().is_cancelled(), "the lead time");
    send("TERM");
    shutdown.closing().cancelled().await;
    assert!(!shutdown.is_cut().is_cancelled());
    send("INT");
    shutdown.is_cut().cancelled().await;

    let shutdown = Shutdown::on_signal(hour).unwrap();
    send("INT");
    shutdown.closing().cancelled().await;
    assert!(!shutdown.is_cut().is_cancelled());
    send("INT");
    shutdown.is_cut().cancelled().await;

    let shutdown = Shutdown::on_signal(Duration::from_millis(1)).unwrap();
    send("TERM");
    shutdown.closing().cancelled().await;
}
