//! The program itself: its configuration errors, its ports, its signals, its log.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use mcpauth_test_support::postgres::Postgres;
use mcpauth_test_support::process::Process;
use sqlx::Executor as _;
use tempfile::TempDir;

use crate::server::configuration;

fn program(files: &TempDir, text: &str) -> Command {
    let path: PathBuf = files.path().join("authserver.yaml");
    std::fs::File::create(&path)
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    // A release build, when something is measured.
    let release = std::env::var_os("AUTHSERVER_PROGRAM");
    let mut command = Command::new(release.unwrap_or(env!("CARGO_BIN_EXE_mcp-authserver").into()));
    command
        .arg("--config")
        .arg(path)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn usual(files: &TempDir, issuer: &str) -> String {
    configuration(files, issuer, false, "")
}

/// A configuration that is refused: exit status 2, one line, with the key.
fn refused(text: &str, key: &str) {
    let files = tempfile::tempdir().unwrap();
    let text = text.replace("FILES", files.path().to_str().unwrap());
    let usual = usual(&files, "http://localhost:9000");
    std::fs::write(files.path().join("url"), "postgres://u:p@db/d").unwrap();
    std::fs::write(files.path().join("weak"), "changeme").unwrap();
    let name = text.split(':').next().unwrap();
    let kept = usual
        .lines()
        .filter(|line| !line.starts_with(&format!("{name}:")));
    let text = kept.chain(text.lines()).collect::<Vec<_>>().join("\n");
    let output = program(&files, &text).arg("--check").output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}\n{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    let expected = format!("authserver.yaml: {key}");
    assert!(
        stderr.starts_with("mcp-authserver: ") && stderr.contains(&expected),
        "{stderr}"
    );
}

#[test]
fn configuration_ok() {
    let files = tempfile::tempdir().unwrap();
    let text = usual(&files, "http://localhost:9000");
    let output = program(&files, &text).arg("--check").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(output.stdout, b"configuration ok\n");
}

fn hash_password(input: &str) -> std::process::Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_mcp-authserver"))
        .arg("hash-password")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap()
}

#[test]
fn a_password_hash_is_made_for_the_users_file() {
    let output = hash_password("correct horse\n");
    assert!(output.status.success(), "{output:?}");
    let hash = String::from_utf8(output.stdout).unwrap();
    let users = format!("users:\n- name: alice\n  passwordHash: {hash}");
    assert!(
        mcp_authserver::login::users::parse(&users).is_ok(),
        "{hash}"
    );

    let output = hash_password("\n");
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("the password is empty"), "{stderr}");
}

#[test]
fn configuration_errors_name_the_key() {
    refused("issuer: http://auth.example", "issuer: expected https");
    refused(
        "issuer: https://auth.example/",
        "issuer: expected no trailing slash",
    );
    refused("isuer: x", "isuer: unknown field");
    refused(
        "listen: { public: 8080, internal: '127.0.0.1:1', health: '127.0.0.1:2' }",
        "listen.public: ",
    );
    refused(
        "listen: { public: localhost, internal: '127.0.0.1:1', health: '127.0.0.1:2' }",
        "listen.public: expected ADDRESS:PORT",
    );
    refused("keysFile: FILES/missing", "keysFile: ");
    refused("keysFile: FILES/operator", "keysFile: line 1");
    refused("storage: {}", "storage: ");
    refused(
        "storage: { memory: {}, postgres: { urlFile: x } }",
        "storage: ",
    );
    refused(
        "storage: { postgres: {} }",
        "storage.postgres: missing field `urlFile`",
    );
    refused(
        "storage: { postgres: { urlFile: FILES/operator } }",
        "storage.postgres.urlFile: ",
    );
    refused(
        "storage: { postgres: { urlFile: FILES/url, caFile: FILES/missing } }",
        "storage.postgres.caFile: ",
    );
    refused(
        "storage: { postgres: { urlFile: FILES/url, caFile: FILES/operator } }",
        "storage.postgres.caFile: expected certificates in PEM",
    );
    refused(
        "login: { localUsers: { file: FILES/missing } }",
        "login.localUsers.file: ",
    );
    refused(
        "registration: { dynamic: {}, allowedRedirectSchemes: [javascript] }",
        "registration.allowedRedirectSchemes[0]: ",
    );
    refused(
        "registration: { dynamic: { initialAccessTokenFile: FILES/missing } }",
        "registration.dynamic.initialAccessTokenFile: ",
    );
    refused(
        "registration: { dynamic: { initialAccessTokenFile: FILES/weak } }",
        "registration.dynamic.initialAccessTokenFile: a random secret is required",
    );
    refused(
        "tokens: { accessTokenSeconds: 0 }",
        "tokens.accessTokenSeconds: ",
    );
    refused(
        "internal: { credentials: [{ id: x, secretFile: FILES/missing }] }",
        "internal.credentials[0].secretFile: ",
    );
    refused(
        "internal: { tls: { certFile: FILES/missing, keyFile: FILES/operator } }",
        "internal.tls: ",
    );
    refused(
        "internal: { tls: { certFile: FILES/operator, keyFile: FILES/operator } }",
        "internal.tls: certFile ",
    );
    refused(
        "resources: [{ id: a, resource: /mcp, name: a }]",
        "resources[0].resource: ",
    );
    refused(
        "clients: [{ clientId: a, tokenEndpointAuthMethod: none, grantTypes: [client_credentials] }]",
        "clients[0].grantTypes: ",
    );
    refused(
        "telemetry: { otlp: { endpoint: 'http://localhost:4318', headersFile: FILES/missing } }",
        "telemetry.otlp.headersFile: ",
    );
    refused(
        "telemetry: { otlp: { endpoint: 'http://localhost:4318', headersFile: FILES/weak } }",
        "telemetry.otlp.headersFile: line 1: expected NAME: VALUE",
    );
    refused("issuer: [", "not valid YAML");
}

#[test]
fn development_mode_refuses_to_start_off_loopback() {
    let files = tempfile::tempdir().unwrap();
    let text = usual(&files, "https://auth.example");
    let output = program(&files, &text).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr.contains("login.developmentAutoApprove: "),
        "{stderr}"
    );
}

#[test]
fn a_missing_pepper_is_no_start() {
    let files = tempfile::tempdir().unwrap();
    let text = usual(&files, "http://localhost:9000");
    std::fs::write(files.path().join("pepper"), "").unwrap();
    let output = program(&files, &text).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_taken_port_is_named_with_what_to_do() {
    let files = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let text = usual(&files, "http://localhost:9000").replacen("127.0.0.1:0", &address, 1);
    let output = program(&files, &text).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(
        stderr.contains(&address) && stderr.contains("is in use") && stderr.contains("listen."),
        "{stderr}"
    );
}

/// The same configuration, on this database with so many connections.
pub fn on_postgres(files: &TempDir, text: &str, url: &str, max_connections: u32) -> String {
    let file = files.path().join("url");
    std::fs::write(&file, url).unwrap();
    let postgres =
        serde_json::json!({ "postgres": { "urlFile": file, "maxConnections": max_connections } });
    let memory = r#"storage: {"memory":{}}"#;
    assert!(text.contains(memory), "{text}");
    text.replacen(memory, &format!("storage: {postgres}"), 1)
}

/// A running program.
pub struct Running {
    pub process: Process,
    /// Public, internal, health: as the log says.
    pub addresses: [String; 3],
    log: JoinHandle<String>,
    _files: TempDir,
}

impl Running {
    fn start() -> Self {
        let files = tempfile::tempdir().unwrap();
        let text = usual(&files, "http://localhost:9000");
        Self::with(files, &text, "trace")
    }

    /// What it logs is kept in memory.
    pub fn with(files: TempDir, text: &str, log: &str) -> Self {
        let mut process = Process::start(program(&files, text).env("RUST_LOG", log));
        let mut lines = BufReader::new(process.stderr()).lines();
        let mut log = String::new();
        let serving = loop {
            let line = lines.next().unwrap_or_else(|| panic!("{log}")).unwrap();
            log += &line;
            let entry: serde_json::Value = serde_json::from_str(&line).unwrap();
            if entry["message"] == "serving" {
                break entry;
            }
        };
        let addresses =
            ["public", "internal", "health"].map(|port| crate::server::text(&serving[port]));
        let rest = move || log + &lines.map(Result::unwrap).collect::<Vec<_>>().join("\n");
        Self {
            process,
            addresses,
            log: std::thread::spawn(rest),
            _files: files,
        }
    }

    /// One request; the status and everything else of the answer.
    pub fn ask(
        &self,
        port: usize,
        method: &str,
        path: &str,
        headers: &str,
        body: &str,
    ) -> Option<(u16, String)> {
        let mut stream = std::net::TcpStream::connect(&self.addresses[port]).ok()?;
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
        );
        stream.write_all(format!("{head}{body}").as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some((answer.get(9..12)?.parse().ok()?, answer))
    }

    pub fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// Its exit status and its log.
    pub fn finish(mut self) -> (Option<i32>, String) {
        let status = self.process.wait();
        let log = std::mem::replace(&mut self.log, std::thread::spawn(String::new));
        (status.code(), log.join().unwrap())
    }
}

#[test]
fn sigterm_drains_in_two_stages_and_exits_0() {
    let running = Running::start();
    running.signal("TERM");
    // First stage: not ready, still serving.
    while running.ask(2, "GET", "/readyz", "", "").unwrap().0 != 503 {}
    assert_eq!(running.ask(0, "GET", "/jwks", "", "").unwrap().0, 200);
    assert_eq!(running.ask(2, "GET", "/livez", "", "").unwrap().0, 200);
    // A second signal ends the first stage.
    running.signal("TERM");
    assert_eq!(running.finish().0, Some(0));
}

#[test]
fn sigint_exits_0() {
    let running = Running::start();
    running.signal("INT");
    assert_eq!(running.finish().0, Some(0));
}

#[test]
fn no_token_in_logs_or_metrics() {
    let running = Running::start();
    let form = "content-type: application/x-www-form-urlencoded\r\n";
    let path = crate::server::authorize_path(&[("scope", "notes:read openid")]);
    let (_, answer) = running.ask(0, "GET", &path, "", "").unwrap();
    let after = |text: &str, mark: &str| {
        let (_, rest) = text
            .split_once(mark)
            .unwrap_or_else(|| panic!("{mark}: {text}"));
        rest.split(['"', '&', '\r']).next().unwrap().to_owned()
    };
    let code = after(&answer, "code=");
    let verifier = crate::server::VERIFIER;
    let body =
        format!("grant_type=authorization_code&client_id=app&code={code}&code_verifier={verifier}");
    let (status, answer) = running.ask(0, "POST", "/token", form, &body).unwrap();
    assert_eq!(status, 200, "{answer}");
    let tokens = ["access_token", "refresh_token", "id_token"]
        .map(|name| after(&answer, &format!("\"{name}\":\"")));
    let caller = crate::server::basic("notes-proxy", "secret-of-notes-proxy");
    let headers = format!("{form}authorization: {caller}\r\n");
    let (status, _) = running
        .ask(
            1,
            "POST",
            "/introspect",
            &headers,
            &format!("token={}", tokens[0]),
        )
        .unwrap();
    assert_eq!(status, 200);
    let (_, metrics) = running.ask(2, "GET", "/metrics", "", "").unwrap();
    for expected in [
        r#"mcpauth_authserver_tokens_issued_total{grant_type="authorization_code"} 1"#,
        r#"mcpauth_authserver_introspections_total{outcome="active"} 1"#,
        r#"mcpauth_authserver_requests_total{port="public",route="/token",status="200"} 1"#,
    ] {
        assert!(metrics.contains(expected), "{expected}\n{metrics}");
    }
    running.signal("INT");
    let (_, log) = running.finish();
    assert!(log.contains("serving"), "{log}");
    let mut secrets = tokens.to_vec();
    secrets.extend([
        code,
        verifier.to_owned(),
        "secret-of-notes-proxy".to_owned(),
        caller,
    ]);
    for secret in secrets {
        assert!(
            !log.contains(&secret) && !metrics.contains(&secret),
            "{secret}"
        );
    }
}

#[test]
fn nobody_waits_for_a_reader_of_the_audit() {
    // Its standard output is a pipe that nobody reads until the end.
    let mut running = Running::start();
    let form = "content-type: application/x-www-form-urlencoded\r\n";
    let body = "grant_type=client_credentials&client_id=poster&client_secret=s3cret%2Bwith%3Aodd%25characters";
    let path = crate::server::authorize_path(&[]);
    // A pipe holds 64 KiB.
    for _ in 0..300 {
        let (status, answer) = running.ask(0, "POST", "/token", form, body).unwrap();
        assert_eq!(status, 200, "{answer}");
        assert_eq!(running.ask(0, "GET", &path, "", "").unwrap().0, 303);
    }
    assert_eq!(running.ask(2, "GET", "/readyz", "", "").unwrap().0, 200);
    let mut stdout = running.process.stdout();
    running.signal("INT");
    let mut audit = String::new();
    stdout.read_to_string(&mut audit).unwrap();
    assert_eq!(running.finish().0, Some(0));
    let lines: Vec<serde_json::Value> = audit
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 600);
}

#[test]
fn the_log_and_the_audit_are_apart() {
    let mut running = Running::start();
    running.ask(0, "POST", "/token", "", "").unwrap();
    let mut stdout = running.process.stdout();
    running.signal("INT");
    let mut audit = String::new();
    stdout.read_to_string(&mut audit).unwrap();
    let (_, log) = running.finish();
    assert!(
        audit.lines().count() == 1 && audit.contains("\"outcome\":\"refused\""),
        "{audit}"
    );
    assert!(!log.contains("\"outcome\":\"refused\""), "{log}");

    let files = tempfile::tempdir().unwrap();
    let off = "telemetry: { audit: { enabled: false } }";
    let text = configuration(&files, "http://localhost:9000", false, off);
    let mut running = Running::with(files, &text, "info");
    running.ask(0, "POST", "/token", "", "").unwrap();
    let mut stdout = running.process.stdout();
    running.signal("INT");
    let mut audit = String::new();
    stdout.read_to_string(&mut audit).unwrap();
    running.finish();
    assert_eq!(audit, "");
}

/// 400 connections took the pod out of its Services (A8).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_leaves_probes_and_discovery_alone() {
    let postgres = Postgres::shared();
    let url = postgres.create_database().await;
    let database = url.split(['/', '?']).nth(3).unwrap();
    let files = tempfile::tempdir().unwrap();
    let text = usual(&files, "http://localhost:9000");
    let text = on_postgres(&files, &text, &url, 2);
    let running = Arc::new(Running::with(files, &text, "trace"));
    let mut session = postgres.connect(database).await;
    session
        .execute("BEGIN; LOCK TABLE resources IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();

    let stop = Arc::new(AtomicBool::new(false));
    let flood = || {
        let (running, stop) = (Arc::clone(&running), Arc::clone(&stop));
        std::thread::spawn(move || {
            let path = crate::server::authorize_path(&[]);
            while !stop.load(Ordering::Relaxed) {
                running.ask(0, "GET", &path, "", "");
            }
        })
    };
    let flood: Vec<_> = (0..400).map(|_| flood()).collect();
    // Both connections are in use, and stay so: who waits for one gets it next.
    postgres.wait_for_blocked(&mut session, 2).await;
    for (port, path) in [
        (2, "/readyz"),
        (2, "/livez"),
        (0, "/.well-known/oauth-authorization-server"),
        (0, "/.well-known/openid-configuration"),
        (0, "/jwks"),
    ] {
        let asked = Arc::clone(&running);
        let ask = move || asked.ask(port, "GET", path, "", "").unwrap();
        let (status, answer) = tokio::task::spawn_blocking(ask).await.unwrap();
        assert_eq!(status, 200, "{path}: {answer}");
    }
    stop.store(true, Ordering::Relaxed);
    session.execute("ROLLBACK").await.unwrap();
    for thread in flood {
        thread.join().unwrap();
    }
}

/// glibc keeps what threads have freed, so a buffer that is made for each password is never given back.
#[test]
fn logins_leave_no_memory_behind() {
    let files = tempfile::tempdir().unwrap();
    let limits = "rateLimit: { addressFailuresPerMinute: 100000, loginFailuresPerMinute: 100000 }";
    let text = configuration(&files, "https://auth.example", true, limits);
    let hash = mcp_authserver::login::password::hash("correct horse", [7; 16]).unwrap();
    let users = format!("users: [{{ name: alice, passwordHash: '{hash}' }}]");
    std::fs::write(files.path().join("users.yaml"), users).unwrap();
    let running = Running::with(files, &text, "trace");
    let path = crate::server::authorize_path(&[]);
    let (_, page) = running.ask(0, "GET", &path, "", "").unwrap();
    let between = |before: &str, after: &str| {
        let (_, rest) = page.split_once(before).unwrap();
        rest.split_once(after).unwrap().0.to_owned()
    };
    let ticket = between(r#"name="ticket" value=""#, "\"");
    let cookie = between("set-cookie: ", ";");
    let headers =
        format!("content-type: application/x-www-form-urlencoded\r\ncookie: {cookie}\r\n");
    let body = format!("ticket={ticket}&username=alice&password=wrong");
    let log_in = |times: usize| {
        std::thread::scope(|threads| {
            for _ in 0..8 {
                threads.spawn(|| {
                    for _ in 0..times / 8 {
                        let answer = running.ask(0, "POST", "/login", &headers, &body);
                        assert_eq!(answer.unwrap().0, 401);
                    }
                });
            }
        });
        mcpauth_test_support::memory::Memory::of(running.process.id())
            .unwrap()
            .allocated
    };
    let first = log_in(16);
    let later = log_in(200);
    // Two buffers of 20 MB, and room for what is no buffer.
    assert!(
        later < first + 15.0 && later < 80.0,
        "{first} MB, then {later} MB"
    );
}
