//! What the end-to-end suites share besides `mcpauth-test-support`: commands and scenarios. The suites talk to the product only as its users do: kubectl, helm, HTTP.

pub mod command;
pub mod scenario;

use std::path::PathBuf;

/// The folder of the checkout.
#[must_use]
pub fn top() -> PathBuf {
    let mut path = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    path.pop();
    path
}
