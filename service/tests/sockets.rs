//! Ports, as clients meet them.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use mcpauth_service::health::Health;
use mcpauth_service::listener::{Limits, Listener};
use mcpauth_service::shutdown::Shutdown;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::Instant;

const ASK: &str = "GET /quick HTTP/1.1\r\nHost: localhost\r\n\r\n";
const ASK_SLOWLY: &str = "GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// A server that answers at once, or on `/slow` when it is told to.
struct Server {
    address: SocketAddr,
    shutdown: Shutdown,
    serving: JoinHandle<()>,
    state: Arc<State>,
}

struct State {
    arrived: Notify,
    release: Semaphore,
}

async fn answer(
    state: Arc<State>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() == "/slow" {
        state.arrived.notify_one();
        state.release.acquire().await.unwrap().forget();
    }
    Ok(Response::new(Full::from("answer")))
}

impl Server {
    async fn start(limits: Limits) -> Self {
        let listener = Listener::bind("test", "127.0.0.1:0").await.unwrap();
        let state = Arc::new(State {
            arrived: Notify::new(),
            release: Semaphore::new(0),
        });
        let (address, shutdown) = (listener.address(), Shutdown::default());
        let answers = Arc::clone(&state);
        let serving = listener.serve_http1(limits, shutdown.clone(), move |request, _| {
            answer(Arc::clone(&answers), request)
        });
        Self {
            address,
            shutdown,
            serving: tokio::spawn(serving),
            state,
        }
    }

    async fn send(&self, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    /// A request that the server has, and does not answer.
    async fn begin(&self) -> TcpStream {
        let stream = self.send(ASK_SLOWLY).await;
        self.state.arrived.notified().await;
        stream
    }

    /// Nobody listens any more.
    async fn is_closed(&self) {
        while TcpStream::connect(self.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }
}

async fn read_some(stream: &mut TcpStream) -> String {
    let mut answer = [0; 4096];
    let length = stream.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

/// What comes until the server closes the connection.
async fn read_to_end(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset says the same as an end.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// HTTP/1.1 lets a client send requests before it has the answers. Those of one client are not all answered before those of
/// another: on one thread, with requests whose answers wait for nothing.
#[tokio::test]
async fn a_client_that_sends_many_requests_at_once_is_served_in_turn_with_others() {
    let listener = Listener::bind("test", "127.0.0.1:0").await.unwrap();
    let address = listener.address();
    let (served, mut order) = tokio::sync::mpsc::unbounded_channel();
    let ask = |client: &str| format!("GET /{client} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut clients = Vec::new();
    for requests in [ask("many").repeat(8), ask("one"), ask("another")] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(requests.as_bytes()).await.unwrap();
        clients.push(stream);
    }
    let serving = listener.serve_http1(Limits::PUBLIC, Shutdown::default(), move |request, _| {
        let served = served.clone();
        async move {
            served.send(request.uri().path().to_owned()).unwrap();
            Ok(Response::new(Full::<Bytes>::from("answer")))
        }
    });
    let serving = tokio::spawn(serving);
    let mut all = Vec::new();
    while all.len() < 10 {
        all.push(order.recv().await.unwrap());
    }
    serving.abort();
    let before = |client: &str| all.iter().take_while(|served| *served != client).count();
    assert!(before("/one") < 4 && before("/another") < 4, "{all:?}");
}

#[tokio::test]
async fn idle_clients_give_way_and_busy_ones_are_waited_for() {
    let server = Server::start(Limits {
        connections: 2,
        ..Limits::PUBLIC
    })
    .await;
    let mut idle = server.send(ASK).await;
    read_some(&mut idle).await;
    let mut busy = vec![server.begin().await];
    let mut third = server.send(ASK).await;
    assert!(read_some(&mut third).await.starts_with("HTTP/1.1 200"));
    assert_eq!(read_to_end(idle).await, "");

    busy.push(server.begin().await);
    assert_eq!(read_to_end(third).await, "");
    let mut waits = server.send(ASK).await;
    let early = tokio::time::timeout(Duration::from_millis(300), read_some(&mut waits)).await;
    assert!(early.is_err(), "{early:?}");
    server.state.release.add_permits(1);
    assert!(read_some(&mut waits).await.starts_with("HTTP/1.1 200"));
}

/// On a paused clock the time for a request passes at once; that of the test is longer.
#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_come_and_an_idle_connection_are_closed() {
    let server = Server::start(Limits::INTERNAL).await;
    for sent in ["", "G", "POST / HTTP/1.1\r\n", ASK] {
        let begin = Instant::now();
        let answer = read_to_end(server.send(sent).await).await;
        assert_eq!(answer.contains("200 OK"), sent == ASK, "{sent:?} {answer}");
        let idle = Limits::INTERNAL.idle;
        assert!(
            begin.elapsed() >= idle && begin.elapsed() < 2 * idle,
            "{sent:?}"
        );
    }
}

#[tokio::test]
async fn a_head_that_is_too_large() {
    let server = Server::start(Limits::PUBLIC).await;
    let more = format!("X-A: {}\r\n", "a".repeat(1000));
    for (lines, expected) in [(8, "HTTP/1.1 200"), (40, "HTTP/1.1 431")] {
        let head = ASK.replace("\r\n\r\n", "\r\nConnection: close\r\n");
        let request = head + &more.repeat(lines) + "\r\n";
        let answer = read_to_end(server.send(&request).await).await;
        assert!(answer.starts_with(expected), "{expected}\n{answer}");
    }
}

#[tokio::test]
async fn what_is_under_way_ends_after_the_port_has_closed() {
    let server = Server::start(Limits::PUBLIC).await;
    let mut idle = server.send(ASK).await;
    read_some(&mut idle).await;
    let under_way = server.begin().await;
    server.shutdown.drain();
    assert!(
        read_some(&mut server.send(ASK).await)
            .await
            .starts_with("HTTP/1.1 200"),
        "the lead time"
    );
    server.shutdown.close();
    server.is_closed().await;
    assert_eq!(read_to_end(idle).await, "", "idle connections are closed");
    server.state.release.add_permits(1);
    let answer = read_to_end(under_way).await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("answer"),
        "{answer}"
    );
    server.serving.await.unwrap();
}

#[tokio::test]
async fn draining_ends_within_its_bound_and_so_does_every_connection() {
    let server = Server::start(Limits {
        drain: Duration::from_millis(50),
        ..Limits::PUBLIC
    })
    .await;
    let under_way = server.begin().await;
    server.shutdown.close();
    server.serving.await.unwrap();
    assert_eq!(read_to_end(under_way).await, "");
}

#[tokio::test]
async fn a_cut_waits_for_nobody() {
    let server = Server::start(Limits {
        drain: Duration::from_secs(3600),
        ..Limits::PUBLIC
    })
    .await;
    let under_way = server.begin().await;
    server.shutdown.close();
    server.is_closed().await;
    server.shutdown.cut();
    server.serving.await.unwrap();
    assert_eq!(read_to_end(under_way).await, "");
}

#[tokio::test]
async fn addresses_that_cannot_be_listened_on() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (address, advice) in [
        (taken.as_str(), "the port is in use; stop the program"),
        ("192.0.2.1:1", "this machine does not have that address"),
        ("nowhere.invalid:1", "choose another address"),
    ] {
        let error = Listener::bind("listen.public", address).await.unwrap_err();
        let error = error.to_string();
        let start = format!("listen.public: cannot listen on {address}: ");
        assert!(
            error.starts_with(&start) && error.contains(advice),
            "{error}"
        );
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[tokio::test]
async fn the_health_port_answers_while_the_program_drains() {
    let listener = Listener::bind("test", "127.0.0.1:0").await.unwrap();
    let address = listener.address();
    let shutdown = Shutdown::default();
    let health = Health::new(shutdown.clone(), String::new);
    health.ready();
    let port = health.serve(listener);
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut ready = async || {
        let ask = "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(ask.as_bytes()).await.unwrap();
        read_some(&mut stream).await
    };
    assert!(ready().await.starts_with("HTTP/1.1 200"));
    shutdown.cut();
    let answer = ready().await;
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.ends_with("draining\n"),
        "{answer}"
    );
    port.stop().await;
    assert!(TcpStream::connect(address).await.is_err());
}
