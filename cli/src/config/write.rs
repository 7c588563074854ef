//! Writes configuration files with the right permissions.

use std::{
    fs,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use anyhow::Context;

use super::layout::File;

/// Who may read the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Their owner only.
    Owner,
    /// Everyone, because containers run as other users.
    Everybody,
}

/// Writes the files below `root`, overwriting existing ones. `root` itself is accessible only to its owner; containers
/// mount the folders in it directly.
pub fn write(root: &Path, files: &[File], readers: Readers) -> anyhow::Result<()> {
    let (folder_mode, file_mode) = match readers {
        Readers::Owner => (0o700, 0o600),
        Readers::Everybody => (0o755, 0o644),
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(root)
        .with_context(|| format!("cannot create {}", root.display()))?;
    for file in files {
        let folder = root.join(&file.folder);
        let path = folder.join(&file.name);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(folder_mode)
            .create(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(file_mode)
            .open(&path)
            .and_then(|mut opened| opened.write_all(file.text.as_bytes()))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
