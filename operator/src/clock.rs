//! The one place where the operator reads the wall clock.

use std::sync::Arc;

use jiff::Timestamp;

/// Where the time comes from: [`system`] in the program, anything else in tests.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The system's wall clock.
pub fn system() -> Clock {
    Arc::new(Timestamp::now)
}
