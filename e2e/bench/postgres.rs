//! A database server, and pgbench, which measures it.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use mcpauth_test_support::postgres::Postgres;
use tempfile::TempDir;
use tokio::process::Command;

use crate::{
    load::Sample,
    programs::{CONNECTIONS, free_port},
};

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

    /// The connection URL of the database that has pgbench's tables.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// A new database's connection URL.
    pub async fn create(&self, name: &str) -> Result<String> {
        self.sql("postgres", &format!("CREATE DATABASE {name}"))
            .await?;
        Ok(self.url_of(name))
    }

    fn url_of(&self, name: &str) -> String {
        let port = self.port;
        format!("postgres://postgres@127.0.0.1:{port}/{name}?sslmode=disable")
    }

    /// Executes statements, each by itself.
    pub async fn sql(&self, database: &str, statements: &str) -> Result<()> {
        let path = self.files.path().join("statements.sql");
        fs::write(&path, statements)?;
        let path = path.display().to_string();
        let options = ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", &path, database];
        self.run("psql", &options).await?;
        Ok(())
    }

    /// pgbench's lookups by primary key.
    pub async fn select_only(&self, lookups: usize) -> Result<Sample> {
        self.measure(&["-S"], lookups).await
    }

    /// The transactions of a script.
    pub async fn script(&self, script: &str, transactions: usize) -> Result<Sample> {
        let path = self.files.path().join("script.sql");
        fs::write(&path, script)?;
        let path = path.display().to_string();
        self.measure(&["-f", &path], transactions).await
    }

    /// Prepared statements, as many connections as others have.
    async fn measure(&self, what: &[&str], transactions: usize) -> Result<Sample> {
        let log = self.files.path().join("log").display().to_string();
        let each = (transactions / CONNECTIONS).to_string();
        let clients = CONNECTIONS.to_string();
        let options = [
            "-M", "prepared", "-n", "-j", "2", "-c", &clients, "-t", &each,
        ];
        let logging = ["-l", "--log-prefix", &log];
        let printed = self.pgbench(&[what, &options, &logging].concat()).await?;
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
        self.run("pgbench", &[arguments, &["postgres"]].concat())
            .await
    }

    async fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let port = self.port.to_string();
        let output = Command::new(self.server.program(program))
            .args(["-h", "127.0.0.1", "-p", &port, "-U", "postgres"])
            .args(arguments)
            .current_dir(self.files.path())
            .output()
            .await?;
        ensure!(
            output.status.success(),
            "{program}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    }
}
