//! Programs that tests start: none outlives the tests, however these end.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says so when it fails"
)]

use std::ffi::OsStr;
use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};

use crate::memory::Memory;
use crate::run::{Run, wait_for_end};

/// A shell that waits for the end of this program, or of the run that shares something, and then cleans up.
#[derive(Debug)]
pub struct Keeper {
    // Its standard input ends with this process.
    shell: Child,
    is_shared: bool,
}

impl Keeper {
    /// What is to be done in the end, in sh; the arguments are its `$1`, `$2`, …
    pub fn start<A: AsRef<OsStr>>(end: &str, arguments: &[A], shared_by: Option<&Run>) -> Self {
        let shell = Command::new("sh")
            .args(["-c", &format!("{}; {end}", wait_for_end(shared_by)), "sh"])
            .args(arguments)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C at a terminal ends the tests, and this by its standard input.
            .process_group(0)
            .spawn()
            .unwrap();
        Self {
            shell,
            is_shared: shared_by.is_some(),
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        if !self.is_shared {
            let _ = self.shell.wait();
        }
    }
}

/// A running program, in a process group of its own. The whole group is killed when this is dropped or when the
/// tests end; where the test fails, its log is shown.
#[derive(Debug)]
pub struct Process {
    child: Child,
    // An Option, for Drop.
    keeper: Option<Keeper>,
    log: Option<PathBuf>,
}

impl Process {
    /// Starts a program with the standard output and error that `command` has.
    pub fn start(command: &mut Command) -> Self {
        Self::kept(command, "", Path::new(""), None)
    }

    /// Starts a program that writes into the file `log`.
    pub fn logging(command: &mut Command, log: &Path) -> Self {
        let mut process = Self::start(into(command, log));
        process.log = Some(log.to_owned());
        process
    }

    /// As [`Process::logging`], but it lives as long as the run that shares it, if there is one, and `folder` goes
    /// with it.
    pub fn in_folder(command: &mut Command, folder: &Path, log: &str, run: Option<&Run>) -> Self {
        let log = folder.join(log);
        let mut process = Self::kept(into(command, &log), r#"; rm -rf "$2""#, folder, run);
        process.log = Some(log);
        process
    }

    fn kept(command: &mut Command, then: &str, folder: &Path, run: Option<&Run>) -> Self {
        let child = command.stdin(Stdio::null()).process_group(0).spawn();
        let child = child.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let end = format!(r#"kill -s KILL -- "-$1"{then}"#);
        let arguments =
            [OsStr::new(&child.id().to_string()), folder.as_os_str()].map(OsStr::to_owned);
        Self {
            keeper: Some(Keeper::start(&end, &arguments, run)),
            child,
            log: None,
        }
    }

    /// Its process ID.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its standard output, where that is a pipe.
    pub fn stdout(&mut self) -> ChildStdout {
        self.child.stdout.take().unwrap()
    }

    /// Its standard error, where that is a pipe.
    pub fn stderr(&mut self) -> ChildStderr {
        self.child.stderr.take().unwrap()
    }

    /// Sends it, and not its children, a signal such as `TERM`.
    pub fn signal(&self, name: &str) {
        signal(name, &[self.id()]);
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Whether it has ended already.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Its memory and that of its children.
    pub fn memory(&self) -> Memory {
        Memory::of(self.id()).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The keeper kills the group. It does so before the child is waited for: until then no other process can
        // have the number.
        let is_shared = self.keeper.as_ref().is_some_and(|keeper| keeper.is_shared);
        drop(self.keeper.take());
        if !is_shared {
            let _ = self.child.wait();
        }
        if std::thread::panicking()
            && let Some(log) = &self.log
        {
            let text = std::fs::read_to_string(log).unwrap_or_default();
            let from = text.lines().count().saturating_sub(40);
            let end: Vec<&str> = text.lines().skip(from).collect();
            eprintln!("the end of {}:\n{}", log.display(), end.join("\n"));
        }
    }
}

fn into<'a>(command: &'a mut Command, log: &Path) -> &'a mut Command {
    let file = File::create(log).unwrap_or_else(|error| panic!("{}: {error}", log.display()));
    command.stdout(file.try_clone().unwrap()).stderr(file)
}

/// Sends a signal such as `KILL` to processes.
pub fn signal<I: ToString>(name: &str, ids: &[I]) {
    let ids = ids.iter().map(ToString::to_string);
    let sent = Command::new("kill").args(["-s", name]).args(ids).status();
    assert!(sent.unwrap().success());
}

/// Ports of loopback that nobody listens on.
pub fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};

    use super::*;
    use crate::wait::eventually;

    #[tokio::test]
    async fn the_whole_group_ends() {
        let script = "sleep 1000 & echo $!; wait";
        let mut command = Command::new("sh");
        let mut process = Process::start(command.args(["-c", script]).stdout(Stdio::piped()));
        let mut child = String::new();
        BufReader::new(process.stdout())
            .read_line(&mut child)
            .unwrap();
        let child = Path::new("/proc").join(child.trim()).join("cmdline");
        let runs = || std::fs::read(&child).is_ok_and(|line| line.starts_with(b"sleep"));
        eventually("the other process runs", async || runs().then_some(())).await;
        drop(process);
        // Only the first of the group is ours to wait for. A killed process has no command line before it is gone.
        eventually("the other process ends", async || (!runs()).then_some(())).await;
    }
}
