//! Traces: what a real collector receives, and that nobody waits for one.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::time::Duration;

use mcpauth_test_support::collector::Collector;
use mcpauth_test_support::postgres::Postgres;
use serde_json::{Value, json};

use crate::process::{Running, on_postgres};
use crate::server::{FORM, SECRET, TRACE, configuration, query, text};

const PARENT: &str = "00f067aa0ba902b7";
const FORM_OF_POSTER: [(&str, &str); 3] = [
    ("grant_type", "client_credentials"),
    ("client_id", "poster"),
    ("client_secret", SECRET),
];

/// A request for a token, in a trace. The response.
fn ask(server: &Running, traceparent: Option<&str>) -> String {
    let trace = traceparent.map_or_else(String::new, |value| format!("traceparent: {value}\r\n"));
    let headers = format!("content-type: {FORM}\r\n{trace}");
    let answer = server.ask(0, "POST", "/token", &headers, &query(&FORM_OF_POSTER));
    let (status, answer) = answer.unwrap();
    assert_eq!(status, 200, "{answer}");
    answer
}

fn named<'a>(spans: &'a [Value], name: &str, parent: &str) -> &'a Value {
    // A span without a parent lacks the field.
    let below = |span: &Value| span["parentSpanId"].as_str().unwrap_or_default() == parent;
    let is_it = |span: &&Value| span["name"] == name && below(span);
    let found = spans.iter().find(is_it);
    found.unwrap_or_else(|| panic!("no {name} below {parent}: {spans:#?}"))
}

fn id(span: &Value) -> String {
    text(&span["spanId"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_a_trace_from_the_caller_to_the_statements() {
    let collector = Collector::default();
    let url = Postgres::shared().create_database().await;
    let files = tempfile::tempdir().unwrap();
    let telemetry = json!({ "otlp": { "endpoint": collector.endpoint } });
    let more = format!("telemetry: {telemetry}");
    let text_of_file = configuration(&files, "http://localhost:9000", false, &more);
    let text_of_file = on_postgres(&files, &text_of_file, &url, 4);
    let mut server = Running::with(files, &text_of_file, "info");

    let unsampled = "11111111111111111111111111111111";
    ask(&server, Some(&format!("00-{unsampled}-{PARENT}-00")));
    let answer = ask(&server, Some(&format!("00-{TRACE}-{PARENT}-01")));
    ask(&server, None);
    let audit = BufReader::new(server.process.stdout()).lines();
    let audited = audit.take(3).map(|line| {
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        assert_eq!(
            (&line["event"], &line["outcome"]),
            (&json!("token"), &json!("issued"))
        );
        text(&line["trace_id"])
    });
    let audited: Vec<_> = audited.collect();
    assert_eq!(audited[..2], [unsampled, TRACE]);
    let begun = &audited[2];

    let of = |trace: &str| {
        let spans = collector.spans().into_iter();
        spans
            .filter(|span| span["traceId"] == trace)
            .collect::<Vec<_>>()
    };
    for _ in 0..200 {
        if !of(begun).is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let spans = of(TRACE);
    let request = named(&spans, "POST /token", PARENT);
    assert_eq!(request["kind"], 2, "a server's: {request}");
    let attributes = request["attributes"].to_string();
    for expected in [
        "http.route",
        "/token",
        "http.response.status_code",
        "200",
        "public",
    ] {
        assert!(attributes.contains(expected), "{expected}: {attributes}");
    }
    let authentication = named(&spans, "authenticate_client", &id(request));
    let client = named(&spans, "store.client", &id(authentication));
    let statement = named(&spans, "SELECT", &id(client));
    assert_eq!(statement["kind"], 3, "a client's: {statement}");
    assert!(statement.to_string().contains("postgresql"));
    let issue = named(&spans, "store.issue_access_token", &id(request));
    assert!(
        spans.iter().any(|span| span["parentSpanId"] == id(issue)),
        "{spans:#?}"
    );

    // A trace that begins here, and one that its caller does not record.
    named(&of(begun), "POST /token", "");
    assert_eq!(of(unsampled), [] as [Value; 0]);

    let received = collector.received();
    assert!(received.contains("mcp-authserver"), "{received}");
    let token = answer.split("\"access_token\":\"").nth(1).unwrap();
    let token = token.split('"').next().unwrap();
    for secret in [SECRET, token, "poster", "secret-of-", url.as_str()] {
        assert!(!received.contains(secret), "{secret}: {received}");
    }
}

/// It accepts what is sent, and never responds.
#[test]
fn nobody_waits_for_a_collector_that_hangs() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let files = tempfile::tempdir().unwrap();
    let headers = files.path().join("headers");
    std::fs::write(&headers, "Authorization: Bearer hunter2\n").unwrap();
    let endpoint = format!("http://{}/otlp/", listener.local_addr().unwrap());
    let telemetry = json!({ "otlp": { "endpoint": endpoint, "headersFile": headers } });
    let more = format!("telemetry: {telemetry}");
    let text_of_file = configuration(&files, "http://localhost:9000", false, &more);
    let server = Running::with(files, &text_of_file, "info");
    for _ in 0..20 {
        ask(&server, None);
    }
    let (mut stream, _) = listener.accept().unwrap();
    let mut head = [0; 300];
    stream.read_exact(&mut head).unwrap();
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    assert!(
        head.starts_with("post /otlp/v1/traces http/1.1\r\n"),
        "{head}"
    );
    assert!(head.contains("authorization: bearer hunter2\r\n"), "{head}");
    assert!(
        head.contains("content-type: application/x-protobuf\r\n"),
        "{head}"
    );
    for _ in 0..20 {
        ask(&server, None);
    }
    server.signal("INT");
    let (status, log) = server.finish();
    assert_eq!(status, Some(0));
    assert!(!log.contains("hunter2"), "{log}");
}
