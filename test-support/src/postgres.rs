//! A PostgreSQL of the tests' own: a fresh cluster in a temporary folder, reached by its Unix socket
//! only, gone when the tests are gone, however they ended.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says so when it fails"
)]

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::certificates::Authority;
use crate::process::{Keeper, signal};
use crate::run::Run;
use crate::wait::eventually;

/// A role of this name is asked for its password; all others are trusted.
pub const ROLE_WITH_PASSWORD: &str = "locked";

/// What makes a server quick that loses nothing of worth when the machine fails.
const QUICK: &str = "-c listen_addresses= -c fsync=off -c full_page_writes=off -c max_connections=300 \
                     -c shared_buffers=32MB";

/// How a server keeps its log of transactions small.
const SMALL_LOG: &str = "-c min_wal_size=32MB -c max_wal_size=32MB";

/// A running server.
pub struct Postgres {
    bin: PathBuf,
    dir: PathBuf,
    options: String,
    databases: AtomicU32,
    // None where another test of the run has started the server.
    _keeper: Option<Keeper>,
}

impl Postgres {
    /// The instance that this test binary's tests share; each takes a database of its own.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(|| match Run::current("postgres") {
            None => Self::start(),
            Some(run) => Self::of_run(&run),
        })
    }

    fn of_run(run: &Run) -> Self {
        let turn = run.turn().unwrap();
        if turn.is_made() {
            return Self {
                bin: find_binaries(),
                dir: run.folder().to_owned(),
                options: QUICK.to_owned(),
                databases: AtomicU32::new(0),
                _keeper: None,
            };
        }
        let postgres = Self::start_in(run.folder().to_owned(), QUICK, Some(run));
        turn.made().unwrap();
        postgres
    }

    /// An instance for a test that kills it.
    pub fn start() -> Self {
        Self::with_options(QUICK)
    }

    /// An instance with these options of the server.
    pub fn with_options(options: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap().keep(), options, None)
    }

    /// An instance that is reached at `localhost` and a port as well, and the URL of its database `postgres` there. With
    /// an authority, it has a certificate for `localhost`.
    pub fn on_tcp(authority: Option<&Authority>) -> (Self, String) {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let mut options = format!("{QUICK} -c listen_addresses=127.0.0.1 -c port={port}");
        if let Some(authority) = authority {
            let (certificate, key) = authority.certify("localhost");
            if let Some(user) = unprivileged_user() {
                run(Command::new("chown")
                    .args(["-R", user])
                    .arg(authority.folder()));
            }
            let files = [("ssl_cert_file", certificate), ("ssl_key_file", key)];
            let files = files.map(|(name, file)| format!(" -c {name}={}", file.display()));
            options = format!("{options} -c ssl=on{}", files.concat());
        }
        let url = format!("postgres://postgres@localhost:{port}/postgres");
        (Self::with_options(&options), url)
    }

    /// An instance whose data have a disk of their own of this size, in megabytes. None where no disk can be mounted: that
    /// takes root and `CAP_SYS_ADMIN`.
    pub fn on_small_disk(size: u32) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap().keep();
        let data = dir.join("data");
        std::fs::create_dir(&data).unwrap();
        let user = unprivileged_user()?;
        let options = format!("size={size}m,mode=0700,uid={user}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(&data)
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then(|| Self::start_in(dir, &format!("{QUICK} {SMALL_LOG}"), None))
    }

    fn start_in(dir: PathBuf, options: &str, shared_by: Option<&Run>) -> Self {
        let postgres = Self::in_folder(dir, options, shared_by);
        postgres.initialise();
        assert!(postgres.try_start(), "{}", postgres.log());
        postgres
    }

    fn in_folder(dir: PathBuf, options: &str, shared_by: Option<&Run>) -> Self {
        let bin = find_binaries();
        let mut end = r#""$1" -D "$2/data" stop -m immediate"#.to_owned();
        if let Some(user) = unprivileged_user() {
            run(Command::new("chown").arg(user).arg(&dir));
            end = format!(r#"runuser -u {user} -- {end}; umount -l "$2/data""#);
        }
        let end = end + r#"; rm -rf "$2""#;
        let keeper = Keeper::start(&end, &[bin.join("pg_ctl"), dir.clone()], shared_by);
        Self {
            bin,
            dir,
            options: options.to_owned(),
            databases: AtomicU32::new(0),
            _keeper: Some(keeper),
        }
    }

    /// A standby, which has confirmed each commit of this server before that is answered.
    pub async fn standby(&self) -> Self {
        let standby = Self::in_folder(tempfile::tempdir().unwrap().keep(), &self.options, None);
        run(command(self.program("pg_basebackup"), &standby.dir)
            .args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync"])
            .args(["--username=postgres", "--host"])
            .arg(&self.dir)
            .arg("--pgdata")
            .arg(standby.dir.join("data")));
        assert!(standby.try_start(), "{}", standby.log());
        let mut session = self.connect("postgres").await;
        for statement in [
            "ALTER SYSTEM SET synchronous_standby_names = '*'",
            "SELECT pg_reload_conf()",
        ] {
            session.execute(statement).await.unwrap();
        }
        let session = tokio::sync::Mutex::new(session);
        eventually("the standby confirms commits", async || {
            let confirms = "SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'";
            let session = &mut *session.lock().await;
            let confirms: bool = sqlx::query_scalar(confirms)
                .fetch_one(session)
                .await
                .unwrap();
            confirms.then_some(())
        })
        .await;
        standby
    }

    /// Makes a standby the primary.
    pub async fn promote(&self) {
        let mut session = self.connect("postgres").await;
        let promoted: bool = sqlx::query_scalar("SELECT pg_promote()")
            .fetch_one(&mut session)
            .await
            .unwrap();
        assert!(promoted, "{}", self.log());
    }

    /// The server's socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join(".s.PGSQL.5432")
    }

    /// Fills the disk of [`Postgres::on_small_disk`].
    pub fn fill_disk(&self) {
        let mut file = std::fs::File::create(self.ballast()).unwrap();
        for size in [1 << 20, 1 << 12, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    /// There is room again.
    pub fn free_disk(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.dir.join("data/ballast")
    }

    /// Sends a signal to the server and all its processes: STOP, and it hangs.
    pub fn signal_all(&self, name: &str) {
        let server = self.server_process();
        let children = Command::new("ps")
            .args(["-o", "pid=", "--ppid", &server])
            .output();
        let children = String::from_utf8(children.unwrap().stdout).unwrap();
        let mut all = vec![server];
        all.extend(children.split_whitespace().map(str::to_owned));
        signal(name, &all);
    }

    fn server_process(&self) -> String {
        let pid = std::fs::read_to_string(self.dir.join("data/postmaster.pid")).unwrap();
        pid.lines().next().unwrap().to_owned()
    }

    /// Ends the server and all its processes at once, if it still runs; what was not committed is lost.
    pub fn stop(&self) {
        command(self.program("pg_ctl"), &self.dir)
            .arg("-D")
            .arg(self.dir.join("data"))
            .args(["stop", "-w", "-m", "immediate"])
            .stderr(Stdio::null())
            .status()
            .unwrap();
    }

    fn initialise(&self) {
        let data = self.dir.join("data");
        run(command(self.bin.join("initdb"), &self.dir)
            .args(["--no-sync", "--auth=trust", "--username=postgres"])
            .args(["--encoding=UTF8", "--locale=C"])
            .arg(&data));
        let hba = data.join("pg_hba.conf");
        let rules = std::fs::read_to_string(&hba).unwrap();
        let rule = format!("local all {ROLE_WITH_PASSWORD} scram-sha-256\n");
        std::fs::write(&hba, rule + &rules).unwrap();
    }

    fn try_start(&self) -> bool {
        let options = format!("-k {} {}", self.dir.display(), self.options);
        command(self.bin.join("pg_ctl"), &self.dir)
            .arg("-D")
            .arg(self.dir.join("data"))
            .args(["start", "-w", "-l"])
            .arg(self.dir.join("log"))
            .args(["-o", &options])
            .status()
            .unwrap()
            .success()
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// The path of a program of the same version, such as `pgbench`.
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// The URL of a new, empty database.
    pub async fn create_database(&self) -> String {
        let number = self.databases.fetch_add(1, Ordering::SeqCst);
        // Tests may be processes of their own.
        let name = format!("test_{}_{number}", std::process::id());
        let mut connection = self.connect("postgres").await;
        let statement = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
        connection.execute(statement).await.unwrap();
        self.url("postgres", &name)
    }

    /// The URL of a database, for a role.
    pub fn url(&self, user: &str, database: &str) -> String {
        format!(
            "postgres://{user}@localhost/{database}?host={}",
            self.dir.display()
        )
    }

    /// A connection to a database, as the administrator.
    pub async fn connect(&self, database: &str) -> PgConnection {
        PgConnection::connect(&self.url("postgres", database))
            .await
            .unwrap()
    }

    /// Waits until so many sessions wait for a lock, and gives their processes.
    pub async fn wait_for_blocked(&self, connection: &mut PgConnection, count: usize) -> Vec<i32> {
        let what = format!("{count} sessions wait for a lock");
        // Not pg_stat_activity, which a transaction sees as it was at its first look.
        let statement = "SELECT DISTINCT pid FROM pg_locks WHERE NOT granted";
        let connection = tokio::sync::Mutex::new(connection);
        eventually(&what, || async {
            let connection = &mut **connection.lock().await;
            let blocked = sqlx::query_scalar(statement).fetch_all(connection).await;
            let blocked: Vec<i32> = blocked.unwrap();
            if blocked.len() == count {
                Ok(blocked)
            } else {
                Err(format!("{blocked:?}"))
            }
        })
        .await
    }

    /// SIGKILL to the server, as the kernel does it when memory is short.
    pub fn kill(&self) {
        signal("KILL", &[self.server_process()]);
    }

    /// Starts it after [`Postgres::kill`]: the server refuses as long as one of the old one's
    /// processes is about to end.
    pub async fn restart(&self) {
        eventually("the server starts again", || async {
            if self.try_start() {
                Ok(())
            } else {
                Err(self.log())
            }
        })
        .await;
    }
}

/// Runs a shell script that uses PostgreSQL's programs, as the unprivileged user when we are root.
pub fn script(script: &str) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = command("sh", Path::new("/"));
    command.args(["-c", script]);
    command.env("PATH", format!("{}:{path}", find_binaries().display()));
    command
}

/// As [`script`], but when we are root, as a uid that no `/etc/passwd` knows, in the group 0: who a platform that sets
/// uids runs containers as.
pub fn script_of_a_stranger(script: &str) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = match unprivileged_user() {
        None => Command::new("sh"),
        Some(_) => {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=1000650000", "--regid=0", "--clear-groups", "sh"]);
            command
        }
    };
    command.args(["-c", script]).current_dir("/");
    command.stdout(Stdio::null()).env_remove("HOME");
    command.env("PATH", format!("{}:{path}", find_binaries().display()));
    command
}

/// `POSTGRES_BIN`, or the newest that Debian's package has installed.
fn find_binaries() -> PathBuf {
    if let Ok(bin) = std::env::var("POSTGRES_BIN") {
        return bin.into();
    }
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join("bin/initdb").exists())
        .max_by_key(|path| version(path))
        .map(|path| path.join("bin"))
        .expect("no PostgreSQL: apt-get install postgresql, or set POSTGRES_BIN to the folder of initdb")
}

/// PostgreSQL refuses to run as root; its package's user or else nobody takes over.
fn unprivileged_user() -> Option<&'static str> {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|meta| {
        use std::os::unix::fs::MetadataExt as _;
        meta.uid() == 0
    });
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let packaged = users.lines().any(|line| line.starts_with("postgres:"));
    is_root.then_some(if packaged { "postgres" } else { "nobody" })
}

/// A command in that folder, by the unprivileged user when we are root.
fn command(program: impl AsRef<OsStr>, dir: &Path) -> Command {
    let mut command = match unprivileged_user() {
        None => Command::new(program),
        Some(user) => {
            let mut command = Command::new("runuser");
            command.args(["-u", user, "--"]).arg(program);
            command
        }
    };
    command.current_dir(dir).stdout(Stdio::null());
    command
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
}
