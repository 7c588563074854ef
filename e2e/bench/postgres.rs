//! pgbench, and the server that it measures.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use mcpauth_test_support::postgres::Postgres;
use tempfile::TempDir;
use tokio::process::Command;

use crate::{load::Sample, programs::free_port};

/// A server with pgbench's tables.
pub struct Database {
    server: Postgres,
    port: u16,
    files: TempDir,
}

impl Database {
    /// Starts a server, with the durability of one in production, and fills the tables.
    pub async fn start() -> Result<Self> {
        let port = free_port();
        let options = format!("-c listen_addresses=127.0.0.1 -p {port} -c log_min_messages=fatal");
        let database = Self {
            server: Postgres::with_options(&options),
            port,
            files: tempfile::tempdir()?,
        };
        database.pgbench(&["-i", "-q"]).await?;
        Ok(database)
    }

    /// The connection URL.
    pub fn url(&self) -> String {
        format!(
            "postgres://postgres@127.0.0.1:{}/postgres?sslmode=disable",
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
        let output = Command::new(self.server.program("pgbench"))
            .args([
                "-h",
                "127.0.0.1",
                "-p",
                &self.port.to_string(),
                "-U",
                "postgres",
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
