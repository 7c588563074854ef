//! A small MCP server that keeps what it was sent.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};

/// The id of every session that this server opens.
pub const SESSION: &str = "session.1";
/// The state that a client gets from the tool `asks`, until it answers `{"again": false}`.
pub const STATE: &str = "state/1";

/// The id of the task that the tools `begin` and `begin_stateless` begin.
pub const TASK: &str = "task-1";

#[derive(Clone)]
pub struct McpServer {
    pub address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    received: Mutex<Vec<Received>>,
    streams: Mutex<Vec<Stream>>,
    opened: Count,
    hanging: Count,
    abandoned: Count,
}

struct Count(Semaphore);

impl Default for Count {
    fn default() -> Self {
        Self(Semaphore::new(0))
    }
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Received {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// The server's end of an event stream.
pub type Stream = mpsc::Sender<io::Result<Frame<Bytes>>>;

impl McpServer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::default(),
        };
        let state = Arc::clone(&server.state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&state);
                let service = service_fn(move |request| answer(Arc::clone(&state), request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        server
    }

    /// Everything that arrived.
    pub fn received(&self) -> Vec<Received> {
        self.state.received.lock().unwrap().clone()
    }

    /// The only request that arrived.
    pub fn only(&self) -> Received {
        let received = self.received();
        assert_eq!(received.len(), 1, "{received:?}");
        received.into_iter().next().unwrap()
    }

    /// Waits for the next event stream that a client opens.
    pub async fn stream(&self) -> Stream {
        self.state.opened.0.acquire().await.unwrap().forget();
        self.state.streams.lock().unwrap().remove(0)
    }

    /// Waits until there is a request that this server hangs at.
    pub async fn arrived(&self) {
        self.state.hanging.0.acquire().await.unwrap().forget();
    }

    /// Waits until a request that this server hangs at was given up.
    pub async fn abandoned(&self) {
        self.state.abandoned.0.acquire().await.unwrap().forget();
    }
}

struct Channel(mpsc::Receiver<io::Result<Frame<Bytes>>>);

impl Body for Channel {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(context)
    }
}

type Answer = Response<Either<Full<Bytes>, Channel>>;

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    state.received.lock().unwrap().push(Received {
        method: parts.method.clone(),
        uri: parts.uri,
        headers: parts.headers,
        body: body.clone(),
    });
    Ok(match parts.method {
        Method::GET => stream(&state),
        Method::DELETE => plain(StatusCode::NO_CONTENT, ""),
        _ => message(&state, &body).await,
    })
}

async fn message(state: &Arc<State>, body: &[u8]) -> Answer {
    let message: Value = serde_json::from_slice(body).unwrap();
    let method = message["method"].as_str().unwrap_or_default();
    match (
        method,
        message["params"]["name"].as_str().unwrap_or_default(),
    ) {
        ("initialize", _) => {
            let mut answer = json_answer(&json!({"protocolVersion": "2025-06-18"}));
            answer
                .headers_mut()
                .insert("mcp-session-id", SESSION.parse().unwrap());
            answer
        }
        ("tools/call", "begin") => {
            json_answer(&json!({"task": {"taskId": TASK, "status": "working"}}))
        }
        ("tools/call", "begin_stateless") => {
            json_answer(&json!({"resultType": "task", "taskId": TASK, "status": "working"}))
        }
        // The second is what a server answers that mixed up two requests with the same id.
        ("tools/list", _) | (_, "lists") => json_answer(&json!({
            "tools": [
                {"name": "read", "inputSchema": {"properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}},
                {"name": "create_note"},
            ],
            "nextCursor": "c", "cacheScope": "public",
        })),
        ("resources/list", "stream") => stream(state),
        ("prompts/list", encoding @ ("gzip" | "identity")) => {
            let mut answer = json_answer(&json!({"prompts": []}));
            let encoding = encoding.parse().unwrap();
            answer.headers_mut().insert("content-encoding", encoding);
            answer
        }
        ("notifications/initialized", _) => plain(StatusCode::ACCEPTED, ""),
        ("unknown", _) => plain(StatusCode::BAD_REQUEST, r#"{"error":"of the server"}"#),
        ("tools/call", "stream") | ("subscriptions/listen", _) => stream(state),
        ("tools/call", name) if name.starts_with("fails") => {
            json_answer(&json!({"content": [], "isError": true}))
        }
        ("tools/call", name) if name.starts_with("nothing") => plain(StatusCode::NO_CONTENT, ""),
        ("tools/call", "asks") if message["params"]["inputResponses"]["again"] != json!(false) => {
            json_answer(
                &json!({"resultType": "input_required", "inputRequests": {}, "requestState": STATE}),
            )
        }
        ("tools/call", "hang") => {
            let _abandoned = Abandoned(Arc::clone(state));
            state.hanging.0.add_permits(1);
            std::future::pending().await
        }
        _ => json_answer(&json!({"content": []})),
    }
}

struct Abandoned(Arc<State>);

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.abandoned.0.add_permits(1);
    }
}

fn stream(state: &State) -> Answer {
    let (sender, receiver) = mpsc::channel(1);
    state.streams.lock().unwrap().push(sender);
    state.opened.0.add_permits(1);
    Response::builder()
        .header("content-type", "text/event-stream")
        .header("connection", "keep-alive, x-internal")
        .header("x-internal", "1")
        .header("access-control-allow-origin", "*")
        .body(Either::Right(Channel(receiver)))
        .unwrap()
}

fn json_answer(result: &Value) -> Answer {
    let body = json!({"jsonrpc": "2.0", "id": 1, "result": result}).to_string();
    let mut answer = plain(StatusCode::OK, "");
    *answer.body_mut() = Either::Left(Full::from(body));
    answer
}

fn plain(status: StatusCode, body: &'static str) -> Answer {
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(Either::Left(Full::from(body)))
        .unwrap()
}
