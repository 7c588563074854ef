//! The audit of calls, and the metrics by rule that say the same in numbers.

use std::io::{self, BufRead as _, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Method, StatusCode};
use mcpauth_service::audit::{Audit, Counted, budget};
use mcpauth_service::clock::{Clock, UnixTime};
use mcpauth_test_support::process::Process;
use mcpauth_test_support::wait::eventually;
use serde_json::{Value, json};

use crate::common::introspection::CREDENTIAL;
use crate::common::upstream::{SESSION, TASK};
use crate::common::{NOW, World, tool_call};

const PATIENCE: Duration = Duration::from_secs(10);
const TOKEN: &str = "mat_token-of-alice";
const SECRET: &str = "hunter2";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
const CALLS: &str = "mcpauth_proxy_calls_total";

/// What is written, with its proxy.
struct Audited {
    world: World,
    audit: Audit,
    written: Kept,
}

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Audited {
    /// `alice` may read.
    async fn with(more: &str) -> Self {
        let clock = Clock::manual(UnixTime::from_seconds(NOW));
        let written = Kept::default();
        let audit = Audit::start(written.clone(), clock.clone(), Counted::default()).unwrap();
        let world = World::audited(clock, more, audit.clone()).await;
        world.introspection.grant(TOKEN, "notes:read");
        Self {
            world,
            audit,
            written,
        }
    }

    fn text(&self) -> String {
        assert!(self.audit.flush(PATIENCE));
        String::from_utf8(self.written.0.lock().unwrap().clone()).unwrap()
    }

    fn lines(&self) -> Vec<Value> {
        let text = self.text();
        let lines = text.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The last line, without its time.
    fn last(&self) -> Value {
        let mut line = self.lines().pop().unwrap();
        line.as_object_mut().unwrap().remove("time");
        line
    }

    async fn session(&self) -> String {
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize"});
        let answer = self.world.post(TOKEN, &message).await;
        answer.header("mcp-session-id").to_owned()
    }
}

#[tokio::test]
async fn a_call_is_a_line_that_says_who_what_where_and_why() {
    let audited = Audited::with("").await;
    let world = &audited.world;
    let session = audited.session().await;
    assert!(audited.lines().is_empty(), "initialize is no call");
    let call = || {
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": {"name": "read", "arguments": {"password": SECRET}}});
        let request = world
            .request(Method::POST, Some(TOKEN))
            .header("mcp-session-id", &session)
            .header("traceparent", format!("00-{TRACE}-{PARENT}-01"));
        world.send(request, call.to_string())
    };
    assert_eq!(call().await.status, StatusCode::OK);
    let mut line = audited.last();
    let fingerprint = line["session"].take();
    assert_eq!(
        line,
        json!({
            "event": "call", "outcome": "allowed", "subject": "alice", "client_id": "client",
            "method": "tools/call", "tool": "read", "session": null,
            "rule": "access.rules[1]", "pattern": "read", "requires": ["notes:read"],
            "status": 200, "trace_id": TRACE,
        })
    );
    assert_eq!(fingerprint.as_str().unwrap().len(), 16);
    call().await;
    assert_eq!(
        audited.last()["session"],
        fingerprint,
        "the same for the same session"
    );
    let text = audited.text();
    for secret in [TOKEN, SECRET, CREDENTIAL, SESSION, &session] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    assert_eq!(
        world.metric(&format!("{CALLS}{{rule=\"1\",outcome=\"allowed\"}}")),
        2.0
    );
    let duration = "mcpauth_proxy_call_duration_seconds_count{rule=\"1\"}";
    assert_eq!(world.metric(duration), 2.0);
}

#[tokio::test]
async fn a_refused_call_says_which_rule_and_which_scopes() {
    let audited = Audited::with("").await;
    let world = &audited.world;
    let answer = world.call(TOKEN, "create_note").await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert_eq!(
        audited.last(),
        json!({
            "event": "call", "outcome": "refused", "subject": "alice", "client_id": "client",
            "method": "tools/call", "tool": "create_note",
            "rule": "access.rules[0]", "pattern": "create_*", "requires": ["notes:write"],
            "error": "insufficient_scope",
            "reason": "access.rules[0], the rule for create_* requires the scopes notes:write; the token lacks notes:write",
            "status": 403,
        })
    );
    world.reconfigure("access: { unmatched: Deny }");
    world
        .post(TOKEN, &json!({"id": 1, "method": "acme/export"}))
        .await;
    let line = audited.last();
    assert_eq!(
        (&line["outcome"], &line["error"]),
        (&json!("refused"), &json!("denied"))
    );
    assert_eq!(
        (&line["method"], &line["rule"]),
        (&json!("acme/export"), &json!("access.unmatched"))
    );
    assert_eq!(line["requires"], Value::Null, "no scope would help");
    let unmatched = format!("{CALLS}{{rule=\"unmatched\",outcome=\"refused\"}}");
    assert_eq!(world.metric(&unmatched), 1.0);
}

#[tokio::test]
async fn every_call_of_a_batch_has_a_line() {
    let audited = Audited::with("").await;
    let batch = json!([
        tool_call("read"),
        {"jsonrpc": "2.0", "id": 2, "method": "tools/list"},
        {"jsonrpc": "2.0", "id": 3, "method": "prompts/get", "params": {"name": "p"}},
    ]);
    let answer = audited.world.post(TOKEN, &batch).await;
    assert_eq!(answer.status, StatusCode::OK);
    let lines = audited.lines();
    let told: Vec<_> = lines
        .iter()
        .map(|line| {
            (
                line["method"].as_str().unwrap(),
                line["tool"].as_str().or(line["prompt"].as_str()),
            )
        })
        .collect();
    assert_eq!(
        told,
        [("tools/call", Some("read")), ("prompts/get", Some("p"))]
    );
}

#[tokio::test]
async fn names_are_bounded_and_a_uri_is_told_without_its_query() {
    let audited = Audited::with("").await;
    let world = &audited.world;
    let read = |uri: &str| {
        let message =
            json!({"jsonrpc": "2.0", "id": 1, "method": "resources/read", "params": {"uri": uri}});
        async move { world.post(TOKEN, &message).await }
    };
    read("notes://a/b?key=hunter2").await;
    assert_eq!(audited.last()["resource"], "notes://a/b?…");
    read(&format!("notes://a/{}", "x".repeat(5000))).await;
    let told = audited.last()["resource"].as_str().unwrap().len();
    assert!((500..600).contains(&told), "{told}");
    world.call(TOKEN, &"t".repeat(1000)).await;
    let told = audited.last()["tool"].as_str().unwrap().len();
    assert!((120..140).contains(&told), "{told}");
    assert!(!audited.text().contains(SECRET));
}

#[tokio::test]
async fn a_task_is_told_by_the_call_that_began_it() {
    let audited = Audited::with("").await;
    let world = &audited.world;
    let begin = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": "begin", "arguments": {}, "task": {}}});
    assert_eq!(world.post(TOKEN, &begin).await.status, StatusCode::OK);
    let get = |id: &str| json!({"jsonrpc": "2.0", "id": 2, "method": "tasks/get", "params": {"taskId": id}});
    assert_eq!(world.post(TOKEN, &get(TASK)).await.status, StatusCode::OK);
    let line = audited.last();
    assert_eq!(
        (&line["method"], &line["tool"], &line["outcome"]),
        (&json!("tasks/get"), &json!("begin"), &json!("allowed"))
    );
    world.post(TOKEN, &get("task-of-another")).await;
    let line = audited.last();
    assert_eq!(
        (&line["outcome"], &line["error"], &line["rule"]),
        (&json!("refused"), &json!("denied"), &Value::Null)
    );
    let text = audited.text();
    assert!(
        !text.contains(TASK) && !text.contains("task-of-another"),
        "{text}"
    );
    let none = format!("{CALLS}{{rule=\"none\",outcome=\"refused\"}}");
    assert_eq!(world.metric(&none), 1.0);
}

#[tokio::test]
async fn what_the_server_does_not_answer_has_failed() {
    let audited = Audited::with("").await;
    let world = &audited.world;
    world
        .post(
            TOKEN,
            &json!({"jsonrpc": "2.0", "id": 1, "method": "unknown"}),
        )
        .await;
    let line = audited.last();
    assert_eq!(
        (&line["outcome"], &line["status"]),
        (&json!("failed"), &json!(400))
    );
    world.reconfigure("upstream: { url: http://127.0.0.1:1/mcp }");
    world.call(TOKEN, "read").await;
    let line = audited.last();
    assert_eq!(
        (&line["outcome"], &line["status"], &line["error"]),
        (
            &json!("failed"),
            &json!(502),
            &json!("upstream_unavailable")
        )
    );
    let failed = format!("{CALLS}{{rule=\"1\",outcome=\"failed\"}}");
    assert_eq!(world.metric(&failed), 1.0);
}

/// Nobody gets around the audit by not waiting for the answer.
#[tokio::test]
async fn a_call_whose_client_is_gone_is_told_too() {
    let audited = Audited::with("").await;
    let world = &audited.world;
    let request = world.request(Method::POST, Some(TOKEN));
    let call = tool_call("hang").to_string();
    tokio::select! {
        _ = world.begin(request, call) => panic!("it hangs"),
        () = world.mcp.arrived() => {}
    }
    world.mcp.abandoned().await;
    eventually("there is a line", async || {
        (!audited.text().is_empty()).then_some(())
    })
    .await;
    let line = audited.last();
    assert_eq!(
        (&line["outcome"], &line["tool"], &line["status"]),
        (&json!("abandoned"), &json!("hang"), &Value::Null)
    );
}

#[tokio::test]
async fn friction_is_told_in_milliseconds() {
    let friction = "friction: { rate: { calls: 1, periodSeconds: 1 }, warmupCalls: 2, maxDelayMilliseconds: 5000 }";
    let audited = Audited::with(friction).await;
    for _ in 0..100 {
        audited.world.call(TOKEN, "read").await;
    }
    let lines = audited.lines();
    assert_eq!(lines.len(), 100);
    assert_eq!(lines[0]["delay_ms"], Value::Null);
    let told: u64 = lines
        .iter()
        .filter_map(|line| line["delay_ms"].as_u64())
        .sum();
    let sum = audited
        .world
        .metric("mcpauth_proxy_friction_delay_seconds_sum{tool=\"read\"}");
    assert!(sum > 1.0, "{sum}");
    #[expect(clippy::cast_precision_loss, reason = "a few seconds")]
    let told = told as f64 / 1000.0;
    assert!((sum - told).abs() < 0.1, "{told} instead of {sum}");

    let limit = "friction: { rate: { calls: 100, periodSeconds: 1 }, hardLimit: { calls: 1, periodSeconds: 60 } }";
    let audited = Audited::with(limit).await;
    audited.world.call(TOKEN, "read").await;
    audited.world.call(TOKEN, "read").await;
    assert_eq!(audited.last()["outcome"], "limited");
}

#[tokio::test]
async fn a_flood_of_refused_calls_is_a_number_and_allowed_ones_are_all_told() {
    let audited = Audited::with("").await;
    let world = &audited.world;
    world.introspection.grant_to("mat_bob", "client", "bob");
    for _ in 0..budget::PER_SOURCE + 15 {
        world.call(TOKEN, "create_note").await;
        world.call(TOKEN, "read").await;
    }
    world.reconfigure("access: { unmatched: Deny }");
    world.call("mat_bob", "read").await;
    let lines = audited.lines();
    let number = |subject: &str, outcome: &str| {
        let is_it = |line: &&Value| line["subject"] == subject && line["outcome"] == outcome;
        u32::try_from(lines.iter().filter(is_it).count()).unwrap()
    };
    assert_eq!(number("alice", "refused"), budget::PER_SOURCE);
    assert_eq!(number("alice", "allowed"), budget::PER_SOURCE + 15);
    assert_eq!(number("bob", "refused"), 1);
    let omitted = lines
        .iter()
        .find(|line| line["event"] == "omitted")
        .unwrap();
    assert_eq!(omitted["subject"], "alice");
    assert_eq!(omitted["omitted_event"], "call");
    assert_eq!(omitted["count"], 15);
}

/// The program writes it on standard output, where the log is not, unless it is told not to.
#[tokio::test]
async fn the_program_keeps_the_audit_apart_from_the_log() {
    let world = World::new().await;
    world.introspection.grant(TOKEN, "notes:read");
    for (telemetry, expected) in [("{}", 1), ("{ audit: { enabled: false } }", 0)] {
        let more = format!(
            "listen: {{ proxy: '127.0.0.1:0', health: '127.0.0.1:0' }}\ntelemetry: {telemetry}"
        );
        let file = world.directory.path().join("proxy.yaml");
        // Another clock than the test's judges the token.
        let mut answer = crate::common::introspection::active("notes:read");
        answer.as_object_mut().unwrap().remove("exp");
        world.introspection.set(TOKEN, &answer);
        std::fs::write(&file, world.configuration(&more)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-resource-proxy"));
        command.arg("--config").arg(&file);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Process::start(&mut command);
        let mut log = BufReader::new(process.stderr()).lines();
        let serving: Value = serde_json::from_str(&log.next().unwrap().unwrap()).unwrap();
        let address = serving["proxy"].as_str().unwrap();
        let request = world.request(Method::POST, Some(TOKEN));
        let request = request.uri(format!("http://{address}/mcp"));
        let answer = world.send(request, tool_call("read").to_string()).await;
        assert_eq!(answer.status, StatusCode::OK);
        process.signal("TERM");
        let lines: Vec<_> = BufReader::new(process.stdout()).lines().collect();
        assert_eq!(lines.len(), expected, "{lines:?}");
        for line in lines {
            let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
            assert_eq!(line["event"], "call");
        }
        let rest: Vec<_> = log.map(Result::unwrap).collect();
        assert!(
            rest.iter().all(|line| !line.contains("\"event\"")),
            "{rest:?}"
        );
    }
}
