//! The program's clock in the form that Kubernetes objects have.

use jiff::Timestamp;
use mcpauth_service::clock::Clock;

/// The time now.
pub fn now(clock: &Clock) -> Timestamp {
    // A clock beyond the year 9999 reads as its last moment.
    Timestamp::from_millisecond(clock.now().as_millis()).unwrap_or(Timestamp::MAX)
}
