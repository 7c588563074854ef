//! How a program begins and ends: its configuration, one line on standard error, its exit status.
//!
//! | status | meaning |
//! |---|---|
//! | 0 | it did what it was asked to, or was stopped by a signal |
//! | 1 | it failed: a port is taken, leadership was lost, … |
//! | 2 | the configuration cannot be used, or an option is wrong |

use std::fmt::{self, Display};
use std::path::Path;
use std::process::ExitCode;

/// Why a program failed.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    status: u8,
    message: String,
}

impl Failure {
    /// The configuration in `file` cannot be used. `problem` names the key and says what is expected.
    pub fn configuration(file: &Path, problem: impl Display) -> Self {
        Self {
            status: 2,
            message: format!("{}: {problem}", file.display()),
        }
    }

    /// Any other failure.
    pub fn other(problem: impl Display) -> Self {
        Self {
            status: 1,
            // The alternate form of `anyhow::Error` includes the causes.
            message: format!("{problem:#}"),
        }
    }

    /// The exit status.
    pub const fn status(&self) -> u8 {
        self.status
    }
}

/// On one line, whatever the message is made of.
impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, line) in self.message.lines().map(str::trim).enumerate() {
            let separator = if at == 0 { "" } else { " " };
            write!(f, "{separator}{line}")?;
        }
        Ok(())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::other(error)
    }
}

/// Reads the configuration in `file` with `load`, and passes it to `run`; with `check`, only reports that it is valid.
///
/// # Errors
/// The configuration cannot be used, or what `run` fails with.
pub fn with_configuration<C, E: Display>(
    file: &Path,
    check: bool,
    load: impl FnOnce(&Path) -> Result<C, E>,
    run: impl FnOnce(C) -> anyhow::Result<()>,
) -> Result<(), Failure> {
    let config = load(file).map_err(|problem| Failure::configuration(file, problem))?;
    if check {
        println!("configuration ok");
        return Ok(());
    }
    Ok(run(config)?)
}

/// The exit status of `program`, with one line on standard error when it failed.
pub fn exit(program: &str, result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{program}: {failure}");
            ExitCode::from(failure.status)
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};

    use super::*;

    #[test]
    fn a_failure_is_one_line_with_its_causes() {
        let failure = Failure::from(
            Err::<(), _>(anyhow!("no\n  route"))
                .context("cannot ask")
                .unwrap_err(),
        );
        assert_eq!(failure.to_string(), "cannot ask: no route");
        assert_eq!(failure.status(), 1);
    }

    #[test]
    fn a_bad_configuration_is_status_2_and_nothing_runs() {
        let load = |_: &Path| Err::<(), _>("listen.public: expected ADDRESS:PORT");
        let run = |()| Err(anyhow!("it ran"));
        for check in [false, true] {
            let failure = with_configuration(Path::new("a.yaml"), check, load, run).unwrap_err();
            assert_eq!(
                failure.to_string(),
                "a.yaml: listen.public: expected ADDRESS:PORT"
            );
            assert_eq!(failure.status(), 2);
        }
    }

    #[test]
    fn check_runs_nothing() {
        let load = |_: &Path| Ok::<_, String>(7);
        let run = |config| Err(anyhow!("it ran with {config}"));
        let file = Path::new("a.yaml");
        assert_eq!(with_configuration(file, true, load, run), Ok(()));
        let failure = with_configuration(file, false, load, run).unwrap_err();
        assert_eq!(failure.to_string(), "it ran with 7");
    }
}
