//! The programs of a manifest, as processes on this machine: what `make demo` runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use mcpauth_test_support::process::Process;
use tempfile::TempDir;

/// How long the programs may take to start.
const START: Duration = Duration::from_secs(60);

/// The running programs. They end when this is dropped.
#[derive(Debug)]
pub struct Local {
    _process: Process,
    _files: TempDir,
}

impl Local {
    /// Starts them, and waits until they are ready.
    ///
    /// # Errors
    /// They do not become ready.
    pub fn start(manifest: &str) -> Result<Self> {
        let files = tempfile::tempdir()?;
        let (file, log) = (files.path().join("manifest.yaml"), files.path().join("log"));
        fs::write(&file, manifest)?;
        let mut command = Command::new(program()?);
        command.args(["local", "-f"]).arg(file);
        let process = Process::logging(&mut command, &log);
        wait_for(&log, "claude mcp add")?;
        Ok(Self {
            _process: process,
            _files: files,
        })
    }
}

/// The program, built beside this one.
fn program() -> Result<PathBuf> {
    let exe = std::env::current_exe()?;
    let folder = exe.ancestors().nth(2).context("this program's folder")?;
    Ok(folder.join("kubectl-mcpauth"))
}

fn wait_for(log: &Path, text: &str) -> Result<()> {
    let tries = START.as_millis() / 100;
    for _ in 0..tries {
        if fs::read_to_string(log).is_ok_and(|log| log.contains(text)) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    bail!(
        "no {text:?} in the log:\n{}",
        fs::read_to_string(log).unwrap_or_default()
    )
}
