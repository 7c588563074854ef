//! Connections, as no HTTP library uses them.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::server::{Setup, TestServer};

const ASK: &str = "GET /jwks HTTP/1.1\r\nHost: localhost\r\n\r\n";

async fn connect(to: SocketAddr, sent: &str) -> TcpStream {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(sent.as_bytes()).await.unwrap();
    stream
}

/// The beginning of what comes next, with the status.
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

/// On a paused clock the time for a request passes at once; that of the test is longer.
#[tokio::test(start_paused = true)]
async fn a_client_that_sends_no_request_holds_no_place() {
    let server = TestServer::start().await;
    for at in [server.public, server.internal] {
        for sent in [
            "",
            "P",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "POST /token HTTP/1.1\r\n",
            // Answered, and then idle.
            ASK,
        ] {
            let stream = connect(at, sent).await;
            let closed = tokio::time::timeout(Duration::from_secs(90), read_to_end(stream));
            assert!(closed.await.is_ok(), "{sent:?}");
        }
    }
}

#[tokio::test]
async fn a_head_that_is_too_large() {
    let server = TestServer::start().await;
    let line = format!("X-A: {}\r\n", "a".repeat(1000));
    for (lines, expected) in [
        (line.repeat(8), "HTTP/1.1 200"),
        (line.repeat(40), "HTTP/1.1 431"),
        ("X-A: b\r\n".repeat(200), "HTTP/1.1 431"),
    ] {
        let request = ASK.replace("\r\n\r\n", "\r\nConnection: close\r\n") + &lines + "\r\n";
        let answer = read_to_end(connect(server.public, &request).await).await;
        assert!(answer.starts_with(expected), "{expected}\n{answer}");
    }
}

/// 2,048 idle sockets kept everybody else waiting (A4).
#[tokio::test]
async fn idle_sockets_keep_nobody_waiting() {
    let server = TestServer::with(Setup {
        connections: 64,
        ..Setup::default()
    })
    .await;
    let mut idle = Vec::new();
    for _ in 0..256 {
        idle.push(connect(server.public, "").await);
    }
    let mut stream = connect(server.public, ASK).await;
    let answer = tokio::time::timeout(Duration::from_secs(5), read_some(&mut stream)).await;
    assert!(answer.unwrap().starts_with("HTTP/1.1 200"));
}

/// A client that does not read is cut off, and holds no place.
#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_cut_off() {
    let server = TestServer::start().await;
    let mut stream = connect(server.public, "").await;
    let requests = ASK.repeat(64);
    let floods = async {
        // Until the buffers of both sides are full, and then until the server closes.
        while stream.write_all(requests.as_bytes()).await.is_ok() {}
    };
    let cut = tokio::time::timeout(Duration::from_secs(120), floods).await;
    assert!(cut.is_ok(), "the connection is still open");
}
