//! Traces: what a real collector receives, of a call that goes through the proxy, the authorization server and its database.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use http::{HeaderMap, Method, Request, StatusCode};
use mcpauth_test_support::collector::Collector;
use mcpauth_test_support::postgres::Postgres;
use mcpauth_test_support::process::Process;
use mcpauth_test_support::wait::eventually;
use serde_json::{Value, json};

use crate::common::introspection::active;
use crate::common::programs::{program, start};
use crate::common::{Answer, RESOURCE, World, tool_call};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const PARENT: &str = "00f067aa0ba902b7";
const SERVER: &str = "MCP server";
/// The key of SECRET's digest is nobody's business, so any will do.
const PEPPER: &str = "1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n";

/// The programs, with a collector, a database, and the MCP server of `world`.
struct Stack {
    world: World,
    collector: Collector,
    proxy: String,
    token: String,
    _processes: [Process; 2],
}

impl Stack {
    async fn start() -> Self {
        let world = World::new().await;
        let collector = Collector::default();
        let url = Postgres::shared().create_database().await;
        let write = |name: &str, content: &str| {
            let path = world.directory.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        let telemetry = json!({ "otlp": { "endpoint": collector.endpoint } });
        let client = json!({
            "clientId": "robot", "tokenEndpointAuthMethod": "client_secret_post", "clientSecret": SECRET,
            "grantTypes": ["client_credentials"], "namespace": "team",
            "resources": [{ "uri": RESOURCE, "scopes": ["notes:read"] }],
        });
        let config = json!({
            "issuer": "http://localhost:9000",
            "listen": { "public": "127.0.0.1:0", "internal": "127.0.0.1:0", "health": "127.0.0.1:0" },
            "keysFile": write("pepper", PEPPER),
            "storage": { "postgres": { "urlFile": write("url", &url), "maxConnections": 4 } },
            "login": { "developmentAutoApprove": { "subject": "developer" } },
            "signingKeys": { "algorithms": ["ES256"] },
            "internal": { "credentials": [{ "id": "proxy", "secretFile": write("secret", SECRET) }] },
            "resources": [{
                "id": "notes", "resource": RESOURCE, "name": "notes", "introspectors": ["credential:proxy"],
                "allowedClients": { "namespaces": ["team"] }, "scopes": [{ "name": "notes:read" }],
            }],
            "clients": [client],
            "telemetry": telemetry,
        });
        let file = write("authserver.yaml", &config.to_string());
        let (authserver, at) = start(program("mcp-authserver").arg("--config").arg(file));
        let internal = at["internal"].as_str().unwrap();
        let credential =
            json!({ "id": "proxy", "secretFile": world.directory.path().join("secret") });
        let config = world.configuration(&format!(
            "listen: {{ proxy: '127.0.0.1:0', health: '127.0.0.1:0' }}\n\
             introspection: {{ endpoint: http://{internal}/introspect, basic: {credential}, cacheMilliseconds: 0 }}\n\
             telemetry: {telemetry}"
        ));
        let file = write("proxy.yaml", &config);
        let (proxy, serving) = start(program("mcp-resource-proxy").arg("--config").arg(file));
        let token = token(&world, at["public"].as_str().unwrap()).await;
        Self {
            proxy: serving["proxy"].as_str().unwrap().to_owned(),
            world,
            collector,
            token,
            _processes: [authserver, proxy],
        }
    }

    /// Calls a tool, with these headers and this `_meta`; what the MCP server got.
    async fn call(&self, headers: &[(&str, &str)], meta: &Value) -> HeaderMap {
        let mut call = tool_call("read");
        call["params"]["_meta"] = meta.clone();
        let request = self.world.request(Method::POST, Some(&self.token));
        let mut request = request.uri(format!("http://{}/mcp", self.proxy));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = self.world.send(request, call.to_string()).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let received = self.world.mcp.received().pop().unwrap();
        assert_eq!(received.body, call.to_string(), "bodies go on as they are");
        received.headers
    }

    /// The spans of a trace, once it has those with these names: each program sends its own.
    async fn trace(&self, trace: &str, names: &[&str]) -> Vec<Value> {
        eventually("the trace is there", async || {
            let spans = self.collector.spans().into_iter();
            let spans: Vec<_> = spans.filter(|span| span["traceId"] == trace).collect();
            let is_there = |name: &&str| spans.iter().any(|span| span["name"] == **name);
            match names.iter().all(is_there) {
                true => Ok(spans),
                false => Err(format!("{spans:?}")),
            }
        })
        .await
    }
}

async fn token(world: &World, public: &str) -> String {
    let form = format!("grant_type=client_credentials&client_id=robot&client_secret={SECRET}");
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://{public}/token"))
        .header("content-type", "application/x-www-form-urlencoded");
    let answer: Answer = world.send(request, form).await;
    answer.json()["access_token"].as_str().unwrap().to_owned()
}

/// The span with this name below this one.
fn below<'a>(spans: &'a [Value], parent: &str, name: &str) -> &'a Value {
    let is_it = |span: &&Value| {
        span["name"] == name && span["parentSpanId"].as_str().unwrap_or_default() == parent
    };
    let found = spans.iter().find(is_it);
    found.unwrap_or_else(|| panic!("no {name} below {parent:?}: {spans:#?}"))
}

fn id(span: &Value) -> &str {
    span["spanId"].as_str().unwrap()
}

fn header(headers: &HeaderMap, name: &str) -> String {
    let mut values = headers.get_all(name).iter();
    let value = values.next().map(|value| value.to_str().unwrap());
    assert!(values.next().is_none(), "{name}: {headers:?}");
    value.unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_one_trace_from_the_client_to_the_database() {
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let stack = Stack::start().await;
    let parent = format!("00-{trace}-{PARENT}-01");
    let meta = json!({ "traceparent": format!("00-{}-{PARENT}-01", "e".repeat(32)) });
    let headers = [
        ("traceparent", parent.as_str()),
        ("tracestate", "vendor=1"),
        ("baggage", "user=alice"),
    ];
    let got = stack.call(&headers, &meta).await;

    let spans = stack.trace(trace, &["POST /introspect", "POST /mcp"]).await;
    let request = below(&spans, PARENT, "POST /mcp");
    assert_eq!(request["kind"], 2, "a server's: {request}");
    let attributes = request["attributes"].to_string();
    for expected in ["http.route", "/mcp", "200", "mcpauth.outcome", "forwarded"] {
        assert!(attributes.contains(expected), "{expected}: {attributes}");
    }
    let call = below(&spans, id(request), SERVER);
    assert_eq!(call["kind"], 3, "a client's: {call}");
    assert_eq!(
        header(&got, "traceparent"),
        format!("00-{trace}-{}-01", id(call))
    );
    assert_eq!(header(&got, "tracestate"), "vendor=1");
    assert_eq!(header(&got, "baggage"), "user=alice");
    let question = below(&spans, id(request), "introspection");
    assert_eq!(question["traceState"], "vendor=1");
    let answer = below(&spans, id(question), "POST /introspect");
    assert_eq!(answer["kind"], 2, "a server's: {answer}");
    let statement = spans.iter().find(|span| span["name"] == "SELECT").unwrap();
    let mut above = statement;
    while id(above) != id(answer) {
        let parent = above["parentSpanId"].as_str().unwrap_or_default();
        let found = spans.iter().find(|span| id(span) == parent);
        above = found.unwrap_or_else(|| panic!("no {parent}: {spans:#?}"));
    }

    let received = stack.collector.received();
    for secret in [SECRET, &stack.token, "alice", "robot"] {
        assert!(!received.contains(secret), "{secret}: {received}");
    }
    assert!(received.contains("mcp-resource-proxy") && received.contains("mcp-authserver"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_header_the_call_belongs_to_the_trace_in_the_body() {
    let trace = "c".repeat(32);
    let stack = Stack::start().await;
    let meta =
        json!({ "traceparent": format!("00-{trace}-{PARENT}-01"), "tracestate": "vendor=2" });
    let got = stack.call(&[("tracestate", "vendor=1")], &meta).await;
    let spans = stack.trace(&trace, &[SERVER]).await;
    let call = below(&spans, PARENT, SERVER);
    assert_eq!(
        header(&got, "traceparent"),
        format!("00-{trace}-{}-01", id(call))
    );
    assert_eq!(header(&got, "tracestate"), "vendor=2");
    // The request began before its body was read, so it is a trace of its own, which the call leads to.
    let link = &call["links"][0];
    let own = link["traceId"].as_str().unwrap();
    let spans = stack.trace(own, &["POST /mcp"]).await;
    let request = below(&spans, "", "POST /mcp");
    assert_eq!(link["spanId"], request["spanId"]);
    below(&spans, id(request), "introspection");

    // A malformed one is none, and one that its caller does not record is not recorded.
    let got = stack.call(&[], &json!({ "traceparent": "nonsense" })).await;
    assert_eq!(header(&got, "traceparent").len(), 55);
    let unsampled = "d".repeat(32);
    let parent = format!("00-{unsampled}-{PARENT}-00");
    let got = stack.call(&[("traceparent", &parent)], &json!({})).await;
    assert!(header(&got, "traceparent").starts_with(&format!("00-{unsampled}-")));
    assert!(header(&got, "traceparent").ends_with("-00"));
    let last = "a".repeat(32);
    let parent = format!("00-{last}-{PARENT}-01");
    stack.call(&[("traceparent", &parent)], &json!({})).await;
    stack.trace(&last, &["POST /mcp"]).await;
    let spans = stack.collector.spans();
    assert!(
        spans
            .iter()
            .all(|span| span["traceId"] != unsampled.as_str())
    );
}

#[tokio::test]
async fn without_a_collector_what_the_client_says_goes_on_as_it_is() {
    let world = World::new().await;
    world.introspection.grant("good", "notes:read");
    let parent = format!("00-{}-{PARENT}-01", "b".repeat(32));
    let request = world
        .request(Method::POST, Some("good"))
        .header("traceparent", &parent)
        .header("tracestate", "vendor=1");
    world.send(request, tool_call("read").to_string()).await;
    let got = world.mcp.only().headers;
    assert_eq!(header(&got, "traceparent"), parent);
    assert_eq!(header(&got, "tracestate"), "vendor=1");
}

/// They may be somebody else's Secret, which nobody minds when the policy changes.
#[tokio::test]
async fn without_the_headers_for_the_collector_new_policies_come_into_force_all_the_same() {
    let world = World::new().await;
    let mut good = active("notes:read notes:write");
    good.as_object_mut().unwrap().remove("exp");
    world.introspection.set("good", &good);
    let missing = world.directory.path().join("missing");
    let wrong = world.directory.path().join("wrong");
    std::fs::write(&wrong, "hunter2").unwrap();
    for (headers, reason) in [
        (&missing, "cannot be read"),
        (&wrong, "line 1: expected NAME: VALUE"),
    ] {
        let more = format!(
            "listen: {{ proxy: '127.0.0.1:0', health: '127.0.0.1:0' }}\n\
             telemetry: {{ otlp: {{ endpoint: 'http://127.0.0.1:4318', headersFile: {} }} }}\n",
            headers.display()
        );
        let file = world.directory.path().join("proxy.yaml");
        std::fs::write(&file, world.configuration(&more)).unwrap();
        let mut command = program("mcp-resource-proxy");
        command.arg("--config").arg(&file);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = Process::start(&mut command);
        let mut log = BufReader::new(process.stderr()).lines().map(Result::unwrap);
        let fault = log.next().unwrap();
        assert!(
            fault.contains("traces are not exported") && fault.contains(reason),
            "{fault}"
        );
        assert!(!fault.contains("hunter2"), "{fault}");
        let serving: Value = serde_json::from_str(&log.next().unwrap()).unwrap();
        let address = |name: &str| serving[name].as_str().unwrap().to_owned();
        let metrics = world.request(Method::GET, None);
        let metrics = metrics.uri(format!("http://{}/metrics", address("health")));
        let metrics = world.send(metrics, "").await;
        let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
        assert!(
            metrics.contains("\nmcpauth_proxy_traces_rejected 1\n"),
            "{metrics}"
        );
        let call = async || {
            let request = world.request(Method::POST, Some("good"));
            let request = request.uri(format!("http://{}/mcp", address("proxy")));
            world
                .send(request, tool_call("read").to_string())
                .await
                .json()
        };
        assert_eq!(call().await["error"], Value::Null);
        let denies = format!("{more}access: {{ unmatched: Deny }}\n");
        std::fs::write(&file, world.configuration(&denies)).unwrap();
        let applied = log.find(|line| line.contains("applied the new configuration"));
        assert!(applied.is_some());
        assert_eq!(call().await["error"]["code"], -32602);
    }
}

#[test]
fn a_file_with_headers_that_cannot_be_read_is_named() {
    let files = tempfile::tempdir().unwrap();
    let config = files.path().join("proxy.yaml");
    let text = format!(
        "resource: {RESOURCE}\nauthorizationServers: [http://localhost:9000]\n\
         upstream: {{ url: http://127.0.0.1:8000/mcp }}\n\
         introspection: {{ endpoint: http://127.0.0.1:8081/introspect, tokenFile: /nowhere }}\n\
         telemetry:\n  otlp:\n    endpoint: http://127.0.0.1:4318\n    headersFile: /nowhere\n"
    );
    std::fs::write(&config, text).unwrap();
    let output = program("mcp-resource-proxy")
        .arg("--check")
        .arg("--config")
        .arg(config)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8(output.stderr).unwrap();
    let expected = "line 8, column 5: telemetry.otlp.headersFile: /nowhere cannot be read";
    assert!(error.contains(expected), "{error}");
}
