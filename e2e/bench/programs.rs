//! The processes that are measured: started on free ports of loopback, ended with this program.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;

use mcpauth_test_support::{
    process::{Process, free_ports},
    wait::until,
};

/// Connections that are busy at once.
pub const CONNECTIONS: usize = 32;
/// Who introspects.
pub const CREDENTIAL: &str = "bench";
/// Its secret, of this run's loopback only.
pub const SECRET: &str = "a-secret-of-this-run-on-loopback-only";

/// Where the clients are that act for themselves.
const NAMESPACE: &str = "bench";

/// One of the clients that act for themselves; their secret is [`SECRET`], too.
pub fn client_id(number: usize) -> String {
    format!("bench-{number}")
}

/// A process that listens on a port.
pub struct Program {
    // Before its files.
    process: Process,
    /// Where it listens.
    pub port: u16,
    /// Its files, which live as long as it.
    _files: Option<TempDir>,
}

impl Program {
    /// One of the servers in this program itself.
    pub async fn own(name: &str) -> Result<Self> {
        let port = free_port();
        let mut command = Command::new(std::env::current_exe()?);
        command.args([name, &port.to_string()]);
        Self::start(command, port, None).await
    }

    async fn start(mut command: Command, port: u16, files: Option<TempDir>) -> Result<Self> {
        let process = Process::start(command.env("RUST_LOG", "warn"));
        until(&format!("{:?} listens", command.get_program()), || {
            TcpStream::connect(("127.0.0.1", port))
        })
        .await?;
        Ok(Self {
            process,
            port,
            _files: files,
        })
    }

    /// Resident memory, its children's included, in MB.
    pub fn resident_megabytes(&self) -> f64 {
        self.process.memory().resident
    }
}

/// A port of loopback that nobody listens on.
pub fn free_port() -> u16 {
    let [port] = free_ports();
    port
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

    /// Resident memory, in MB.
    pub fn megabytes(&self) -> Option<f64> {
        Some(self.program.resident_megabytes())
    }

    async fn start(resource: &str, url: Option<&str>) -> Result<Self> {
        let files = tempfile::tempdir()?;
        let [public, internal, health] = free_ports();
        let issuer = format!("http://localhost:{public}");
        let pepper = "1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n";
        let storage = match url {
            None => json!({ "memory": {} }),
            Some(url) => {
                json!({ "postgres": { "urlFile": write(files.path(), "url", url)?, "maxConnections": 16 } })
            }
        };
        let clients: Vec<Value> = (0..CONNECTIONS)
            .map(|number| {
                json!({
                    "clientId": client_id(number), "clientName": "bench", "namespace": NAMESPACE,
                    "tokenEndpointAuthMethod": "client_secret_basic", "clientSecret": SECRET,
                    "grantTypes": ["client_credentials"],
                    "resources": [{ "uri": resource, "scopes": ["bench:call"] }],
                })
            })
            .collect();
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
            "registration": { "dynamic": {} },
            // They are counted; nobody is to reach one.
            "rateLimit": { "clientRequestsPerMinute": 1_000_000 },
            "clients": clients,
            "internal": {
                "credentials": [{ "id": CREDENTIAL, "secretFile": write(files.path(), "secret", SECRET)? }],
                "admins": [],
            },
            "resources": [{
                "id": "bench", "resource": resource, "name": "bench",
                "scopes": [{ "name": "bench:call", "description": "Call" }],
                "introspectors": [format!("credential:{CREDENTIAL}")],
                "allowedClients": { "selfRegistered": true, "namespaces": [NAMESPACE] },
            }],
        });
        let mut command = configured("mcp-authserver", files.path(), &config)?;
        // The audit.
        command.stdout(fs::File::create(files.path().join("audit"))?);
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
        "listen": { "proxy": format!("127.0.0.1:{port}"), "health": format!("127.0.0.1:{}", free_port()) },
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
        "access": { "rules": [
            { "tools": ["create_*"], "scopes": ["bench:call"] },
            { "tools": ["read_*"], "scopes": ["bench:call"] },
        ]},
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
    let port = free_port();
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
