//! What the tests against a real API server share.

pub mod authserver;
pub mod cluster;
pub mod faults;
pub mod world;

use std::future::Future;
use std::time::Duration;

/// Waits until `check` gives something. The bound is not what is tested: it only ends a test that fails.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, check: impl Fn() -> F) -> T {
    for _ in 0..1200 {
        if let Some(found) = check().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it did not come to pass that {what}");
}
