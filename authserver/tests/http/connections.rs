//! Connections, as no HTTP library uses them.

use std::io;
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

#[tokio::test]
async fn further_clients_wait_until_one_leaves() {
    let server = TestServer::with(Setup {
        connections: 2,
        ..Setup::default()
    })
    .await;
    let mut first = connect(server.public, ASK).await;
    let mut second = connect(server.public, ASK).await;
    read_some(&mut first).await;
    read_some(&mut second).await;
    let mut third = connect(server.public, ASK).await;
    // Time enough for the third, if it were let in.
    for _ in 0..10 {
        first.write_all(ASK.as_bytes()).await.unwrap();
        read_some(&mut first).await;
    }
    let early = third.try_read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(early, Err(io::ErrorKind::WouldBlock));
    drop(first);
    assert!(read_some(&mut third).await.starts_with("HTTP/1.1 200"));
}
