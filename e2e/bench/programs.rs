//! The processes that are measured: started on free ports of loopback, ended with this program.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
};

use mcp_auth_e2e::wait::until;

/// Who introspects.
pub const CREDENTIAL: &str = "bench";
/// Its secret, of this run's loopback only.
pub const SECRET: &str = "a-secret-of-this-run-on-loopback-only";

/// A process that listens on a port.
pub struct Program {
    child: Child,
    /// Where it listens.
    pub port: u16,
    /// Its files, which live as long as it.
    _files: Option<TempDir>,
}

impl Program {
    /// One of the servers in this program itself.
    pub async fn own(name: &str) -> Result<Self> {
        let port = free_port()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args([name, &port.to_string()]);
        Self::start(command, port, None).await
    }

    async fn start(mut command: Command, port: u16, files: Option<TempDir>) -> Result<Self> {
        let name = format!("{:?}", command.as_std().get_program());
        let child = command
            .env("RUST_LOG", "warn")
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        until(&format!("{name} listens"), 30, || async {
            Ok(TcpStream::connect(("127.0.0.1", port)).await?)
        })
        .await?;
        Ok(Self {
            child,
            port,
            _files: files,
        })
    }

    /// Resident memory, its children's included, in MB.
    pub fn resident_megabytes(&self) -> Result<f64> {
        let mut bytes = 0.0;
        for id in self.family()? {
            bytes += resident(id)?;
        }
        Ok(bytes / 1e6)
    }

    /// The process and its children.
    fn family(&self) -> Result<Vec<u32>> {
        let id = self.child.id().context("the process has ended")?;
        let mut family = vec![id];
        for task in fs::read_dir(format!("/proc/{id}/task"))? {
            let children = fs::read_to_string(task?.path().join("children"))?;
            for child in children.split_whitespace() {
                family.push(child.parse()?);
            }
        }
        Ok(family)
    }
}

impl Drop for Program {
    /// The process would be killed with its handle; its children would go on (nginx's workers do). It
    /// goes first, so that it cannot start others in their place.
    fn drop(&mut self) {
        if let Ok(family) = self.family() {
            let ids = family.iter().map(u32::to_string);
            let _ = std::process::Command::new("kill")
                .arg("-9")
                .args(ids)
                .status();
        }
    }
}

/// Resident bytes of one process.
fn resident(id: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line
        .and_then(|line| line.trim().strip_suffix(" kB"))
        .context("no VmRSS")?;
    Ok(kibibytes.trim().parse::<f64>()? * 1024.0)
}

/// A port of loopback that nobody listens on.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The program that cargo put beside this one.
fn beside(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    ensure!(
        path.exists(),
        "{} is missing: `make bench` builds it",
        path.display()
    );
    Ok(path)
}

fn write(dir: &Path, name: &str, text: &str) -> Result<String> {
    let path = dir.join(name);
    fs::write(&path, text)?;
    Ok(path.display().to_string())
}

/// JSON is YAML.
fn configured(program: &str, dir: &Path, config: &Value) -> Result<Command> {
    let path = write(dir, "config.yaml", &config.to_string())?;
    let mut command = Command::new(beside(program)?);
    command.args(["--config", &path]);
    Ok(command)
}

/// An authorization server.
pub struct Authserver {
    /// Its process, which listens on the public port.
    pub program: Program,
    /// Its issuer.
    pub issuer: String,
    /// Its internal port.
    pub internal: u16,
}

impl Authserver {
    /// One that keeps tokens in memory.
    pub async fn in_memory(resource: &str) -> Result<Self> {
        Self::start(resource, None).await
    }

    /// One on the database that `url` names.
    pub async fn on_postgres(resource: &str, url: &str) -> Result<Self> {
        Self::start(resource, Some(url)).await
    }

    async fn start(resource: &str, url: Option<&str>) -> Result<Self> {
        let files = tempfile::tempdir()?;
        let (public, internal, health) = (free_port()?, free_port()?, free_port()?);
        let issuer = format!("http://localhost:{public}");
        let pepper = "1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n";
        let storage = match url {
            None => json!({ "memory": {} }),
            Some(url) => {
                json!({ "postgres": { "urlFile": write(files.path(), "url", url)?, "maxConnections": 16 } })
            }
        };
        let config = json!({
            "issuer": issuer,
            "listen": {
                "public": format!("127.0.0.1:{public}"),
                "internal": format!("127.0.0.1:{internal}"),
                "health": format!("127.0.0.1:{health}"),
            },
            "keysFile": write(files.path(), "pepper", pepper)?,
            "storage": storage,
            "login": { "developmentAutoApprove": { "subject": "developer" } },
            "registration": { "dynamic": true },
            "internal": {
                "credentials": [{ "id": CREDENTIAL, "secretFile": write(files.path(), "secret", SECRET)? }],
                "admins": [],
            },
            "resources": [{
                "id": "bench", "resource": resource, "name": "bench",
                "scopes": [{ "name": "bench:call", "description": "Call" }],
                "introspectors": [format!("credential:{CREDENTIAL}")],
            }],
        });
        let command = configured("mcp-authserver", files.path(), &config)?;
        let program = Program::start(command, public, Some(files)).await?;
        Ok(Self {
            program,
            issuer,
            internal,
        })
    }
}

/// The resource-proxy, with a tool policy, and with friction at a rate that delays nobody here.
pub async fn proxy(
    port: u16,
    resource: &str,
    authserver: &Authserver,
    upstream: u16,
) -> Result<Program> {
    let files = tempfile::tempdir()?;
    let rate = json!({ "calls": 1_000_000, "periodSeconds": 1 });
    let config = json!({
        "listen": { "proxy": format!("127.0.0.1:{port}"), "health": format!("127.0.0.1:{}", free_port()?) },
        "resource": resource,
        "resourceName": "bench",
        "authorizationServers": [authserver.issuer],
        "upstream": { "url": format!("http://127.0.0.1:{upstream}/mcp"), "responseHeaderSeconds": 60 },
        "introspection": {
            "endpoint": format!("http://127.0.0.1:{}/introspect", authserver.internal),
            "basic": { "id": CREDENTIAL, "secretFile": write(files.path(), "secret", SECRET)? },
            "cacheMilliseconds": 900, "cacheEntries": 10_000, "timeoutMilliseconds": 3000,
        },
        "scopes": [{ "name": "bench:call", "description": "Call" }],
        "tools": [
            { "name": "create_*", "scopes": ["bench:call"] },
            { "name": "read_*", "scopes": ["bench:call"] },
        ],
        "friction": {
            "rate": rate, "subjectRate": rate, "resourceRate": rate,
            "halfLifeSeconds": 30, "maxDelayMilliseconds": 30_000, "warmupCalls": 10,
        },
        "limits": { "bodyBytes": 4_194_304 },
    });
    let command = configured("mcp-resource-proxy", files.path(), &config)?;
    Program::start(command, port, Some(files)).await
}

/// nginx as a plain reverse proxy, with kept connections on both sides.
pub async fn nginx(upstream: u16) -> Result<Program> {
    let files = tempfile::tempdir()?;
    let port = free_port()?;
    let dir = files.path().display();
    let config = format!(
        "daemon off; worker_processes auto; pid {dir}/pid; error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
  keepalive_requests 1000000;
  upstream mcp {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://mcp; proxy_http_version 1.1; proxy_set_header Connection \"\"; }}
  }}
}}
"
    );
    let path = write(files.path(), "nginx.conf", &config)?;
    let program = ["/usr/sbin/nginx", "/usr/bin/nginx"]
        .into_iter()
        .find(|path| Path::new(path).exists());
    let program = program.context("nginx is missing: apt-get install nginx-light")?;
    // As root its workers run as `nobody`, who must reach the temporary folders.
    let mut command = Command::new(program);
    command.args(["-c", &path, "-p", &dir.to_string(), "-e", "stderr"]);
    Program::start(command, port, Some(files)).await
}
