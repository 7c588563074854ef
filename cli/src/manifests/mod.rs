//! Reads manifests from a file: checks for unknown fields, and resolves the references between objects.

mod error;
mod objects;
mod parse;
mod unknown_fields;

use std::{fs, path::Path};

use anyhow::Context;

pub use error::ManifestError;
pub use objects::{Manifests, namespace_of};
pub use parse::parse;

/// Reads manifests from a YAML file.
///
/// # Errors
/// When the file cannot be read, or with the first [`ManifestError`].
pub fn read(file: &Path) -> anyhow::Result<Manifests> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    parse(&text).with_context(|| file.display().to_string())
}
