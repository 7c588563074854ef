//! The program's clock, as timestamps of Kubernetes objects.

use jiff::Timestamp;
use mcpauth_service::clock::Clock;

/// The time now.
pub fn now(clock: &Clock) -> Timestamp {
    // Times after the year 9999 are clamped to its last moment.
    Timestamp::from_millisecond(clock.now().as_millis()).unwrap_or(Timestamp::MAX)
}
