//! A PostgreSQL of its own, and pgbench.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
};

use mcp_auth_e2e::wait::until;

use crate::{load::Sample, programs::free_port};

/// A running server, whose data goes with it.
pub struct Postgres {
    bin: PathBuf,
    files: TempDir,
    port: u16,
    _server: Child,
}

impl Postgres {
    /// Makes a cluster of databases, starts the server and fills pgbench's tables.
    pub async fn start() -> Result<Self> {
        let bin = std::env::var_os("POSTGRES_BIN")
            .context("POSTGRES_BIN is not set: the folder with initdb and pgbench; make sets it")?;
        let bin = PathBuf::from(bin);
        let files = tempfile::tempdir()?;
        own(files.path())?;
        let data = files.path().join("data").display().to_string();
        let initdb = ["-D", &data, "-U", "bench", "-A", "trust", "--no-sync"];
        let output = unprivileged(&bin.join("initdb"))
            .args(initdb)
            .output()
            .await?;
        ensure!(
            output.status.success(),
            "initdb: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let port = free_port()?;
        let server = unprivileged(&bin.join("postgres"))
            .args(["-D", &data, "-p", &port.to_string()])
            .args([
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "log_min_messages=fatal",
            ])
            .args([
                "-c",
                &format!("unix_socket_directories={}", files.path().display()),
            ])
            .kill_on_drop(true)
            .spawn()
            .context("cannot start postgres")?;
        until("postgres listens", 30, || async {
            Ok(TcpStream::connect(("127.0.0.1", port)).await?)
        })
        .await?;
        let postgres = Self {
            bin,
            files,
            port,
            _server: server,
        };
        until("pgbench fills its tables", 60, || {
            postgres.pgbench(&["-i", "-q"])
        })
        .await?;
        Ok(postgres)
    }

    /// The connection URL.
    pub fn url(&self) -> String {
        format!(
            "postgres://bench@127.0.0.1:{}/postgres?sslmode=disable",
            self.port
        )
    }

    /// pgbench's lookups by primary key, prepared statements, so many connections.
    pub async fn select_only(&self, connections: usize, lookups: usize) -> Result<Sample> {
        let log = self.files.path().join("log").display().to_string();
        let each = (lookups / connections).to_string();
        let clients = connections.to_string();
        let printed = self
            .pgbench(&[
                "-S",
                "-M",
                "prepared",
                "-n",
                "-c",
                &clients,
                "-j",
                "2",
                "-t",
                &each,
                "-l",
                "--log-prefix",
                &log,
            ])
            .await?;
        let rate = printed
            .lines()
            .find_map(|line| line.strip_prefix("tps = "))
            .and_then(|rest| rest.split_whitespace().next())
            .context("pgbench told no rate")?
            .parse::<f64>()?;
        let mut latencies = Vec::new();
        for file in fs::read_dir(self.files.path())? {
            let path = file?.path();
            if path.display().to_string().starts_with(&format!("{log}.")) {
                // client, transaction, microseconds, …
                let text = fs::read_to_string(&path)?;
                let third = |line: &str| line.split(' ').nth(2)?.parse::<u64>().ok();
                latencies.extend(text.lines().filter_map(third));
                fs::remove_file(path)?;
            }
        }
        let sample = Sample::of(latencies, 1.0)?;
        Ok(Sample { rate, ..sample })
    }

    async fn pgbench(&self, arguments: &[&str]) -> Result<String> {
        let output = unprivileged(&self.bin.join("pgbench"))
            .args([
                "-h",
                "127.0.0.1",
                "-p",
                &self.port.to_string(),
                "-U",
                "bench",
            ])
            .args(arguments)
            .arg("postgres")
            .current_dir(self.files.path())
            .output()
            .await?;
        ensure!(
            output.status.success(),
            "pgbench: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    }
}

const NOBODY: u32 = 65534;

/// postgres refuses to run as root.
fn unprivileged(program: &Path) -> Command {
    let mut command = Command::new(program);
    if is_root() {
        command.uid(NOBODY).gid(NOBODY).current_dir("/");
    }
    command
}

fn own(dir: &Path) -> Result<()> {
    if is_root() {
        std::os::unix::fs::chown(dir, Some(NOBODY), Some(NOBODY))?;
    }
    Ok(())
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}
