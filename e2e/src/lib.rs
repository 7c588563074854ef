//! What the end-to-end suites share besides `mcpauth-test-support`: commands and scenarios. The suites talk to the product only as its users do: kubectl, helm, HTTP.

pub mod command;
pub mod local;
pub mod scenario;

use std::path::PathBuf;

/// The folder of the checkout. Asked when it runs: a binary that was built in another clone with the same target folder is not
/// built again in this one.
#[must_use]
pub fn top() -> PathBuf {
    let mut path = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    path.pop();
    path
}
