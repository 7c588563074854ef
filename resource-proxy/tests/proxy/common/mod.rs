//! What every test needs: the proxy and the two servers behind it.

pub mod introspection;
pub mod programs;
pub mod upstream;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use mcp_resource_proxy::client::{self, HttpClient};
use mcp_resource_proxy::compiled::Runtime;
use mcp_resource_proxy::config::Config;
use mcp_resource_proxy::drain::Drain;
use mcp_resource_proxy::metrics::Metrics;
use mcp_resource_proxy::proxy::Proxy;
use mcp_resource_proxy::server;
use mcpauth_service::audit::Audit;
use mcpauth_service::clock::{Clock, UnixTime};
use mcpauth_service::listener::Listener;
use mcpauth_service::shutdown::Shutdown;
use mcpauth_wire::proxy_keys::ProxyKeys;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use introspection::IntrospectionServer;
use upstream::McpServer;

/// The time at which tests start, in seconds since the epoch.
pub const NOW: i64 = 1_800_000_000;
/// The resource that the proxy protects.
pub const RESOURCE: &str = "http://localhost:9001/mcp";

/// A proxy with its surroundings. It ends with the test.
pub struct World {
    pub introspection: IntrospectionServer,
    pub mcp: McpServer,
    pub proxy: Arc<Proxy>,
    pub clock: Clock,
    pub address: std::net::SocketAddr,
    pub directory: TempDir,
    pub shutdown: Shutdown,
    pub serving: JoinHandle<()>,
    client: HttpClient,
}

/// A response that was read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }
}

impl World {
    /// With two scopes, `create_*` for `notes:write`, `read` for `notes:read`, the rest for
    /// everybody.
    pub async fn new() -> Self {
        Self::with("").await
    }

    /// With `more` at the end of the configuration, in place of the same keys.
    pub async fn with(more: &str) -> Self {
        Self::at(Clock::manual(UnixTime::from_seconds(NOW)), more).await
    }

    /// With this clock.
    pub async fn at(clock: Clock, more: &str) -> Self {
        Self::audited(clock, more, Audit::off()).await
    }

    /// With this audit.
    pub async fn audited(clock: Clock, more: &str, audit: Audit) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let introspection = IntrospectionServer::start().await;
        let mcp = McpServer::start().await;
        std::fs::write(directory.path().join("token"), introspection::CREDENTIAL).unwrap();
        let shutdown = Shutdown::default();
        let runtime = Runtime {
            drain: Drain::new(shutdown.clone(), clock.clone()),
            clock: clock.clone(),
            client: client::new(),
            metrics: Metrics::new(),
            audit,
        };
        let text = configuration(&introspection, &mcp, &token_file(&directory), more);
        let config = Config::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let proxy = Arc::new(Proxy::new(config, runtime, &ProxyKeys::new([7; 32])).unwrap());
        let listener = Listener::bind("test", "127.0.0.1:0").await.unwrap();
        let address = listener.address();
        let serving = server::serve(listener, Arc::clone(&proxy), shutdown.clone());
        let serving = tokio::spawn(serving);
        Self {
            introspection,
            mcp,
            proxy,
            clock,
            address,
            directory,
            shutdown,
            serving,
            client: client::new(),
        }
    }

    /// The text of the configuration, with `more` at its end.
    pub fn configuration(&self, more: &str) -> String {
        configuration(
            &self.introspection,
            &self.mcp,
            &token_file(&self.directory),
            more,
        )
    }

    pub fn token_file(&self) -> PathBuf {
        token_file(&self.directory)
    }

    /// Takes a new version of the configuration.
    pub fn reconfigure(&self, more: &str) {
        let config = Config::parse(&self.configuration(more)).unwrap();
        self.proxy.reconfigure(config).unwrap();
    }

    /// A request to the MCP endpoint.
    pub fn request(&self, method: Method, token: Option<&str>) -> http::request::Builder {
        let builder = Request::builder()
            .method(method)
            .uri(format!("http://{}/mcp", self.address))
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream");
        match token {
            Some(token) => builder.header("authorization", format!("Bearer {token}")),
            None => builder,
        }
    }

    /// Sends a request; the response's body is still to come.
    pub async fn begin(
        &self,
        request: http::request::Builder,
        body: impl Into<Bytes>,
    ) -> Response<Incoming> {
        let request = request.body(Full::new(body.into())).unwrap();
        self.client.request(request).await.unwrap()
    }

    /// Sends a request and reads the response.
    pub async fn send(&self, request: http::request::Builder, body: impl Into<Bytes>) -> Answer {
        let response = self.begin(request, body).await;
        let (parts, body) = response.into_parts();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: body.collect().await.unwrap().to_bytes(),
        }
    }

    /// Posts a message with this token.
    pub async fn post(&self, token: &str, message: &Value) -> Answer {
        let request = self.request(Method::POST, Some(token));
        self.send(request, message.to_string()).await
    }

    /// Posts a request of MCP 2026-07-28 by a client with these capabilities; its answer, or the event that has it.
    pub async fn post_stateless(&self, token: &str, method: &str, capabilities: Value) -> Value {
        let message = json!({
            "jsonrpc": "2.0", "id": 1, "method": method, "params": { "_meta": {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientInfo": { "name": "tests", "version": "1" },
                "io.modelcontextprotocol/clientCapabilities": capabilities,
            } },
        });
        let request = self
            .request(Method::POST, Some(token))
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", method);
        let answer = self.send(request, message.to_string()).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let text = str::from_utf8(&answer.body).unwrap();
        let mut data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        let message = data.rfind(|data| !data.trim().is_empty()).unwrap_or(text);
        serde_json::from_str(message).unwrap_or_else(|_| panic!("{text}"))
    }

    /// Calls a tool with this token.
    pub async fn call(&self, token: &str, tool: &str) -> Answer {
        self.post(token, &tool_call(tool)).await
    }

    /// Something else than the MCP endpoint.
    pub async fn path(&self, method: Method, path: &str, token: Option<&str>) -> Answer {
        let request = self.request(method, token);
        self.send(request.uri(format!("http://{}{path}", self.address)), "")
            .await
    }

    /// The value of a line of the metrics, 0 where it is not there.
    pub fn metric(&self, line: &str) -> f64 {
        let text = self.proxy.runtime().metrics.encode();
        let found = text
            .lines()
            .find_map(|one| one.strip_prefix(line)?.strip_prefix(' '));
        found.map_or(0.0, |value| value.parse().unwrap())
    }
}

/// The message that calls a tool.
pub fn tool_call(tool: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": {}}})
}

fn token_file(directory: &TempDir) -> PathBuf {
    directory.path().join("token")
}

fn configuration(
    introspection: &IntrospectionServer,
    mcp: &McpServer,
    token_file: &std::path::Path,
    more: &str,
) -> String {
    let (introspection, mcp) = (introspection.address, mcp.address);
    let (token_file, mut text) = (token_file.display(), String::new());
    let defaults = [
        ("resource", RESOURCE.to_owned()),
        ("resourceName", "notes".to_owned()),
        ("authorizationServers", "[http://localhost:9000]".to_owned()),
        ("upstream", format!("{{ url: http://{mcp}/inner }}")),
        (
            "introspection",
            format!("{{ endpoint: http://{introspection}/introspect, tokenFile: {token_file} }}"),
        ),
        (
            "scopes",
            "[{ name: notes:read }, { name: notes:write, implies: [notes:read] }]".to_owned(),
        ),
        (
            "access",
            "{ rules: [{ tools: [create_*], scopes: [notes:write] }, { tools: [read], scopes: [notes:read] }], unmatched: AnyToken }"
                .to_owned(),
        ),
    ];
    for (key, value) in defaults {
        if !more
            .lines()
            .any(|line| line.starts_with(&format!("{key}:")))
        {
            text.push_str(&format!("{key}: {value}\n"));
        }
    }
    let more = more
        .replace("URL", &format!("http://{mcp}/inner"))
        .replace("ENDPOINT", &format!("http://{introspection}/introspect"))
        .replace("TOKEN", &token_file.to_string());
    text + &more
}
