//! What the end-to-end suites share: commands, bounded waits, a small OAuth client and a small MCP
//! client. The suites talk to the product only as its users do: kubectl, helm, HTTP.

pub mod command;
pub mod mcp;
pub mod oauth;
pub mod scenario;
pub mod wait;

use std::path::PathBuf;

/// The folder of the checkout.
#[must_use]
pub fn top() -> PathBuf {
    let mut path = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    path.pop();
    path
}
