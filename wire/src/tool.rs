//! Names of tools, and patterns of them.

use crate::invalid::Bounds;

/// The length of a tool's name or pattern, in characters. In a pattern `*` matches any run of characters.
pub const LENGTH: Bounds = Bounds::new(1, 128);
