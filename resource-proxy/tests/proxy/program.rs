//! The program itself.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use mcp_resource_proxy::drain;
use mcpauth_test_support::process::Process;
use mcpauth_wire::proxy_health;

use crate::common::introspection::{CREDENTIAL, active};
use crate::common::{RESOURCE, World, tool_call};

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_mcp-resource-proxy"))
}

fn run(config: &Path, more: &[&str]) -> Output {
    program()
        .arg("--config")
        .arg(config)
        .args(more)
        .output()
        .unwrap()
}

fn written(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

fn minimal(listen: &str) -> String {
    format!(
        "listen: {listen}\nresource: {RESOURCE}\nauthorizationServers: [http://localhost:9000]\n\
         upstream: {{ url: http://127.0.0.1:8000/mcp }}\n\
         introspection: {{ endpoint: http://127.0.0.1:8081/introspect, tokenFile: /nowhere }}\n"
    )
}

#[test]
fn check_says_whether_a_configuration_can_be_used() {
    let good = written(&minimal("{}"));
    let output = run(good.path(), &["--check"]);
    assert!(output.status.success());
    assert_eq!(output.stdout, b"configuration ok\n");

    for (text, problem) in [
        (
            minimal("{ proxy: x }"),
            "line 1, column 11: listen.proxy: invalid socket address syntax",
        ),
        (
            minimal("{}").replace("url: http:", "url: https:"),
            "line 4, column 13: upstream.url: expected an http:// URL",
        ),
        (
            minimal("{}") + "colour: red\n",
            "line 6, column 1: colour: unknown field `colour`",
        ),
    ] {
        let bad = written(&text);
        let output = run(bad.path(), &[]);
        assert_eq!(output.status.code(), Some(2));
        let error = String::from_utf8(output.stderr).unwrap();
        let prefix = format!("mcp-resource-proxy: {}: {problem}", bad.path().display());
        assert!(error.starts_with(&prefix), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    let output = run(Path::new("/nowhere/proxy.yaml"), &["--check"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let config = written(&minimal(&format!(
        "{{ proxy: '127.0.0.1:0', health: '{address}' }}"
    )));
    let output = run(config.path(), &[]);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    let message = format!(
        "mcp-resource-proxy: listen.health: cannot listen on {address}: the port is in use; stop"
    );
    assert!(error.starts_with(&message), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[test]
fn a_signal_to_stop_ends_it_in_peace() {
    for signal in ["TERM", "INT"] {
        let config = written(&minimal("{ proxy: '127.0.0.1:0', health: '127.0.0.1:0' }"));
        let mut command = program();
        command.arg("--config").arg(config.path());
        let mut process = Process::start(command.stderr(Stdio::piped()));
        let mut lines = BufReader::new(process.stderr()).lines();
        let first = lines.next().unwrap().unwrap();
        assert!(
            first.starts_with('{') && first.contains("serving"),
            "{first}"
        );
        process.signal(signal);
        assert_eq!(process.wait().code(), Some(0));
        assert!(lines.any(|line| line.unwrap().contains("stopped")));
    }
}

#[tokio::test]
async fn a_request_under_way_ends_before_the_proxy_does() {
    let world = World::new().await;
    world.introspection.grant("good", "notes:read");
    let request = world.request(http::Method::POST, Some("good"));
    let call = tool_call("stream").to_string();
    let (response, stream) = tokio::join!(world.begin(request, call), world.mcp.stream());
    world.shutdown.close();
    // Whoever comes now is not let in any more; the listener is gone when connecting fails.
    while tokio::net::TcpStream::connect(world.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let last = hyper::body::Frame::data(bytes::Bytes::from_static(b"data: last\n\n"));
    stream.send(Ok(last)).await.unwrap();
    drop(stream);
    let body = http_body_util::BodyExt::collect(response.into_body())
        .await
        .unwrap();
    assert_eq!(body.to_bytes(), "data: last\n\n");
    world.serving.await.unwrap();
}

#[tokio::test]
async fn the_health_port_says_which_configuration_is_in_force_and_when_it_has_drained() {
    let world = World::new().await;
    let listen = "listen: { proxy: '127.0.0.1:0', health: '127.0.0.1:0' }";
    let text = world.configuration(listen);
    let config = written(&text);
    let mut command = program();
    command.arg("--config").arg(config.path());
    let mut process = Process::start(command.stderr(Stdio::piped()));
    let mut lines = BufReader::new(process.stderr()).lines();
    let serving = lines.next().unwrap().unwrap();
    let fields: serde_json::Value = serde_json::from_str(&serving).unwrap();
    let health = fields["health"].as_str().unwrap().to_owned();
    let ask = async |path: &str| {
        let request = world.request(http::Method::GET, None);
        world
            .send(request.uri(format!("http://{health}{path}")), "")
            .await
    };
    let first = ask(proxy_health::CONFIGURATION).await.json();
    assert_eq!(
        first,
        serde_json::json!({ "hash": proxy_health::hash(&text) })
    );
    let bad = text.clone() + "\ncolour: red\n";
    std::fs::write(config.path(), &bad).unwrap();
    let rejected = lines.find(|line| line.as_ref().unwrap().contains("is invalid"));
    assert!(rejected.is_some());
    let second: proxy_health::InForce =
        serde_json::from_value(ask(proxy_health::CONFIGURATION).await.json()).unwrap();
    assert_eq!(second.hash, proxy_health::hash(&text));
    let rejected = second.rejected.unwrap();
    assert_eq!(rejected.hash.unwrap(), proxy_health::hash(&bad));
    assert!(
        rejected
            .reason
            .contains(", column 1: colour: unknown field"),
        "{}",
        rejected.reason
    );

    let ready = ask("/readyz").await;
    assert_eq!(ready.status, 200, "{ready:?}");
    let signalled = tokio::time::Instant::now();
    process.signal("USR1");
    assert_eq!(ask(proxy_health::DRAINED).await.body, "drained\n");
    assert!(signalled.elapsed() >= drain::ELSEWHERE);
    assert_eq!(ask("/readyz").await.status, 503);
    assert_eq!(ask("/livez").await.status, 200);
    process.signal("TERM");
    assert!(process.wait().success());
}

#[test]
fn only_a_proxy_that_is_process_1_is_asked_to_drain() {
    let output = program().arg("drain").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("process 1 is not mcp-resource-proxy"),
        "{error}"
    );
}

#[tokio::test]
async fn no_token_in_logs_or_metrics() {
    let world = World::new().await;
    let mut good = active("notes:read");
    good["exp"] = serde_json::json!(null);
    world.introspection.set("mat_good", &good);
    let listen = "listen: { proxy: '127.0.0.1:0', health: '127.0.0.1:0' }";
    let config = written(&world.configuration(listen));
    let mut command = program();
    command
        .arg("--config")
        .arg(config.path())
        .env("RUST_LOG", "trace");
    let mut process = Process::start(command.stderr(Stdio::piped()));
    let mut lines = BufReader::new(process.stderr()).lines();
    let serving = lines
        .find(|line| line.as_ref().unwrap().contains("serving"))
        .unwrap()
        .unwrap();
    let fields: serde_json::Value = serde_json::from_str(&serving).unwrap();
    let address = |key: &str| fields[key].as_str().unwrap().to_owned();
    let reader = std::thread::spawn(move || lines.map(Result::unwrap).collect::<Vec<_>>());
    for (token, status) in [("mat_good", 200), ("mat_unknown", 401), ("mat bad", 400)] {
        let request = world.request(http::Method::POST, Some(token));
        let request = request.uri(format!("http://{}/mcp", address("proxy")));
        let answer = world.send(request, tool_call("read").to_string()).await;
        assert_eq!(answer.status, status, "{token}");
    }
    let request = world.request(http::Method::GET, None);
    let request = request.uri(format!("http://{}/metrics", address("health")));
    let metrics = world.send(request, "").await;
    assert!(metrics.body.starts_with(b"# HELP"));
    process.signal("TERM");
    assert!(process.wait().success());
    let log = reader.join().unwrap();
    assert!(log.len() > 10, "{log:?}");
    for line in log
        .iter()
        .map(String::as_str)
        .chain(std::str::from_utf8(&metrics.body))
    {
        for secret in ["mat_good", "mat_unknown", "mat bad", CREDENTIAL] {
            assert!(!line.contains(secret), "{line}");
        }
    }
}
