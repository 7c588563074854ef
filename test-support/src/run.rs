//! One service for a test program, also where each of its tests is a process of its own (cargo-nextest).
//!
//! The first test that needs the service starts it, the others find it in a folder that they all know. It ends
//! when nextest does, however that ends.

use std::fs::File;
use std::path::{Path, PathBuf};

/// What the service's keeper, a shell, waits for before it stops the service and removes its folder: the end of
/// the program that started it, by the end of standard input.
const PROGRAM_ENDS: &str = "read _";

/// The tests of one program in one run of nextest.
#[derive(Debug)]
pub struct Run {
    folder: PathBuf,
    runner: u32,
}

/// The service is looked for, or made: nobody else does that meanwhile.
#[derive(Debug)]
pub struct Turn<'a> {
    run: &'a Run,
    // The lock ends with it.
    _lock: File,
}

impl Run {
    /// The run that this process is a test of, with a folder for `service`. `None` under `cargo test`, where the
    /// tests of a program are one process and share what is in it.
    #[must_use]
    pub fn current(service: &str) -> Option<Self> {
        let run = std::env::var("NEXTEST_RUN_ID").ok()?;
        let program = std::env::var("NEXTEST_BINARY_ID").ok()?;
        // A socket's path has hardly more than a hundred characters.
        let run = run.get(..8).unwrap_or(&run);
        let name = format!("mcp-auth-{service}-{run}-{}", program.replace("::", "-"));
        Some(Self {
            folder: std::env::temp_dir().join(name),
            runner: std::os::unix::process::parent_id(),
        })
    }

    /// Where the service has its files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Waits until no other test of the run starts the service.
    ///
    /// # Errors
    /// The folder for temporary files cannot be written.
    pub fn turn(&self) -> std::io::Result<Turn<'_>> {
        std::fs::create_dir_all(&self.folder)?;
        let lock = File::create(self.folder.join("lock"))?;
        lock.lock()?;
        let turn = Turn {
            run: self,
            _lock: lock,
        };
        if !turn.is_made() {
            turn.run.remove_what_is_half_made()?;
        }
        Ok(turn)
    }

    /// By a test that failed while it started the service.
    fn remove_what_is_half_made(&self) -> std::io::Result<()> {
        for entry in std::fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.is_dir() {
                std::fs::remove_dir_all(path)?;
            } else if !path.ends_with("lock") {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

impl Turn<'_> {
    fn mark(&self) -> PathBuf {
        self.run.folder.join("made")
    }

    /// Whether the service runs already.
    #[must_use]
    pub fn is_made(&self) -> bool {
        self.mark().exists()
    }

    /// The service runs, for all that come later.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn made(self) -> std::io::Result<()> {
        File::create(self.mark()).map(drop)
    }
}

/// The command by which a shell waits for the end of the service: that of the run, else of the program whose pipe
/// its standard input is.
#[must_use]
pub fn wait_for_end(run: Option<&Run>) -> String {
    run.map_or_else(
        || PROGRAM_ENDS.to_owned(),
        |run| format!("while ps -p {} >/dev/null; do sleep 0.5; done", run.runner),
    )
}
