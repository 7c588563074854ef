//! Child processes that end when this process does, for whatever reason.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, anyhow};
use tokio::{
    process::{Child, ChildStdin, Command},
    time::timeout,
};

/// Runs its arguments as a command, and ends its whole process group when the command ends or standard input closes. The
/// system closes it when this process ends, even by SIGKILL. The group matters because a command such as npx or uv starts
/// the server as a child, which must not outlive it. SIGTERM first, SIGKILL five seconds later.
///
/// The shell is the leader of that group, so a signal to the group also reaches the shell; hence the traps. Job control
/// would give each command its own group, but not every sh supports it without a terminal.
const SUPERVISE: &str = r#"
end_group() { trap '' TERM; kill 0; sleep 5; kill -9 0; }
trap : TERM
exec 3<&0
"$@" </dev/null 3<&- &
child=$!
{ read -r line <&3; end_group; } >/dev/null 2>&1 &
exec 3<&-
wait "$child"
status=$?
# A signal ends `wait` before the child has ended.
while kill -0 "$child" 2>/dev/null; do
    wait "$child"
    status=$?
done
end_group >/dev/null 2>&1 &
exit "$status"
"#;
/// A little longer than the shell needs.
const STOP: Duration = Duration::from_secs(7);
const LOG_LINES: usize = 12;

/// A program to run.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its name, for messages and its log file.
    pub name: String,
    /// Its executable.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Environment variables, in addition to the inherited ones.
    pub env: Vec<(String, String)>,
}

/// A running program.
#[derive(Debug)]
struct Process {
    name: String,
    log: PathBuf,
    child: Child,
    /// Closing it ends the program.
    stdin: Option<ChildStdin>,
}

/// The running programs. Dropping it ends them all.
#[derive(Debug, Default)]
pub struct Processes {
    running: Vec<Process>,
}

impl Processes {
    /// Starts a program; its output goes to a file in `logs`.
    pub fn start(&mut self, program: &Program, logs: &Path) -> anyhow::Result<()> {
        let log = logs.join(format!("{}.log", program.name));
        let output =
            File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut child = Command::new("/bin/sh")
            .args(["-c", SUPERVISE, "supervise"])
            .arg(&program.path)
            .args(&program.args)
            .envs(program.env.iter().cloned())
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {}", program.path.display()))?;
        let stdin = child.stdin.take();
        self.running.push(Process {
            name: program.name.clone(),
            log,
            child,
            stdin,
        });
        Ok(())
    }

    /// Waits until one of the programs ends, and returns an error with its name and the end of its log.
    pub async fn any_end(&mut self) -> anyhow::Error {
        if self.running.is_empty() {
            return std::future::pending().await;
        }
        let ends = self
            .running
            .iter_mut()
            .map(|process| Box::pin(process.child.wait()));
        let (status, index, _) = futures::future::select_all(ends).await;
        self.running
            .get(index)
            .map_or_else(|| anyhow!("a program exited"), |p| p.ended(status))
    }

    /// Ends all programs and waits for them.
    pub async fn stop(&mut self) {
        // In reverse order of starting, so that the proxy drains before the programs that it needs end.
        while let Some(mut process) = self.running.pop() {
            drop(process.stdin.take());
            let _ = timeout(STOP, process.child.wait()).await;
        }
    }
}

impl Process {
    fn ended(&self, status: std::io::Result<ExitStatus>) -> anyhow::Error {
        let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let end = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n  ");
        anyhow!(
            "{} exited ({status}); last lines of {}:\n  {end}",
            self.name,
            self.log.display()
        )
    }
}

/// Finds an executable: next to our own, then in PATH.
///
/// # Errors
/// When it is in neither.
pub fn find(name: &str) -> anyhow::Result<PathBuf> {
    if name.contains('/') {
        return Ok(PathBuf::from(name));
    }
    let own = env::current_exe()
        .ok()
        .and_then(|exe| exe.parent().map(Path::to_owned));
    let path = env::var_os("PATH").unwrap_or_default();
    own.into_iter()
        .chain(env::split_paths(&path))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| {
            anyhow!("cannot find the program {name} next to kubectl-mcpauth or in PATH: build it with `make build`, or install it")
        })
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn shell(name: &str, script: &str) -> Program {
        Program {
            name: name.to_owned(),
            path: PathBuf::from("/bin/sh"),
            args: vec!["-c".to_owned(), script.to_owned()],
            env: vec![("GREETING".to_owned(), "hello".to_owned())],
        }
    }

    #[tokio::test]
    async fn a_program_that_ends_is_named_with_its_log() {
        let logs = tempfile::tempdir().unwrap();
        let mut processes = Processes::default();
        processes
            .start(&shell("quiet", "exec sleep 600"), logs.path())
            .unwrap();
        processes
            .start(&shell("broken", "echo $GREETING; exit 3"), logs.path())
            .unwrap();
        let error = processes.any_end().await.to_string();
        assert!(
            error.starts_with("broken exited (exit status: 3)"),
            "{error}"
        );
        assert!(error.ends_with("hello"), "{error}");
        processes.stop().await;
    }

    /// Starts a script that opens `$1` for writing, and waits until it is open. Reading it ends once all
    /// processes that have it open are gone.
    async fn start_with_fifo(processes: &mut Processes, logs: &Path, script: &str) -> File {
        let fifo = logs.join("open-while-it-runs");
        let made = Command::new("mkfifo").arg(&fifo).status().await;
        assert!(made.unwrap().success());
        let mut program = shell("child", script);
        program
            .args
            .extend(["sh".to_owned(), fifo.display().to_string()]);
        processes.start(&program, logs).unwrap();
        tokio::task::spawn_blocking(move || File::open(fifo))
            .await
            .unwrap()
            .unwrap()
    }

    async fn is_closed(mut fifo: File) {
        let read = tokio::task::spawn_blocking(move || fifo.read(&mut [0]));
        let read = timeout(Duration::from_secs(120), read).await;
        assert_eq!(
            read.expect("a process still has it open").unwrap().unwrap(),
            0
        );
    }

    #[tokio::test]
    async fn a_program_ends_when_its_parent_lets_go() {
        let logs = tempfile::tempdir().unwrap();
        let mut processes = Processes::default();
        let script = "exec 9>\"$1\"; exec sleep 600";
        let fifo = start_with_fifo(&mut processes, logs.path(), script).await;
        drop(processes);
        is_closed(fifo).await;
    }

    #[tokio::test]
    async fn what_a_program_started_ends_with_it() {
        let logs = tempfile::tempdir().unwrap();
        let mut processes = Processes::default();
        let script = "exec 9>\"$1\"; sleep 600 & wait";
        let fifo = start_with_fifo(&mut processes, logs.path(), script).await;
        processes.stop().await;
        is_closed(fifo).await;
    }

    #[tokio::test]
    async fn what_a_program_leaves_behind_ends_with_it() {
        let logs = tempfile::tempdir().unwrap();
        let mut processes = Processes::default();
        let script = "exec 9>\"$1\"; sleep 600 & exit 3";
        let fifo = start_with_fifo(&mut processes, logs.path(), script).await;
        let ended = processes.any_end().await.to_string();
        assert!(
            ended.starts_with("child exited (exit status: 3)"),
            "{ended}"
        );
        is_closed(fifo).await;
    }

    #[test]
    fn a_program_that_is_missing_is_named() {
        let error = find("no-such-program-anywhere").unwrap_err().to_string();
        assert!(
            error.contains("cannot find the program no-such-program-anywhere"),
            "{error}"
        );
    }
}
