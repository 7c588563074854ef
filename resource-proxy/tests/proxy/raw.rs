//! What no HTTP library sends.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Frame;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::common::World;

/// Sends bytes, and reads until the proxy closes the connection.
async fn exchange(world: &World, request: &str) -> String {
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    read_to_end(stream).await
}

/// Sends bytes, and no more.
async fn break_off(world: &World, request: &str) -> String {
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    read_to_end(stream).await
}

async fn read_to_end(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset says the same as an end.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

const PING: &str = r#"{"method":"ping"}"#;
const SMUGGLED: &str = "POST /inner HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";

async fn world() -> World {
    let world = World::new().await;
    world.introspection.grant("good", "notes:read");
    world
}

fn head(more: &str) -> String {
    let start = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nConnection: close";
    format!("{start}\r\nAuthorization: Bearer good\r\n{more}\r\n")
}

#[tokio::test]
async fn a_plain_request_gets_through() {
    let world = world().await;
    let length = PING.len();
    let request = head(&format!(
        "Content-Length: {length}\r\nConnection: close\r\n"
    )) + PING;
    let answer = exchange(&world, &request).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// Removed on the way, they would not be what was checked.
#[tokio::test]
async fn connection_names_no_header_that_was_checked() {
    let world = world().await;
    let length = PING.len();
    for name in [
        "Mcp-Session-Id",
        "close, mcp-protocol-version",
        "X-Mcp-Subject",
        "content-type",
        "last-event-id",
    ] {
        let request = head(&format!(
            "Content-Length: {length}\r\nConnection: {name}\r\n"
        )) + PING;
        let answer = exchange(&world, &request).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{name}: {answer}");
        assert!(
            answer.contains("Connection names a header"),
            "{name}: {answer}"
        );
    }
    assert!(world.mcp.received().is_empty());
}

#[tokio::test]
async fn request_smuggling() {
    let length = PING.len();
    let chunked = format!("{length:x}\r\n{PING}\r\n0\r\n\r\n");
    for (name, request) in [
        (
            "Content-Length with Transfer-Encoding",
            head(&format!(
                "Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n"
            )) + &chunked,
        ),
        (
            "two lengths",
            head(&format!(
                "Content-Length: {length}\r\nContent-Length: 0\r\n"
            )) + PING,
        ),
        (
            "a length that is a list",
            head(&format!("Content-Length: {length}, {length}\r\n")) + PING,
        ),
        (
            "a length with a sign",
            head(&format!("Content-Length: +{length}\r\n")) + PING,
        ),
        (
            "chunked is not last",
            head("Transfer-Encoding: chunked, identity\r\n") + &chunked,
        ),
        (
            "space before the colon",
            head("Transfer-Encoding : chunked\r\n") + &chunked,
        ),
        (
            "obs-fold",
            head(&format!(
                "X-A: b\r\n Content-Length: 0\r\nContent-Length: {length}\r\n"
            )) + PING,
        ),
        (
            "obs-fold of Transfer-Encoding",
            head("Transfer-Encoding:\r\n chunked\r\n") + &chunked,
        ),
        (
            "bare CR in a value",
            head(&format!(
                "X-A: b\rTransfer-Encoding: chunked\r\nContent-Length: {length}\r\n"
            )) + PING,
        ),
        (
            "bare CR as an end of line",
            head("").replace("\r\n", "\r") + PING,
        ),
        (
            "NUL in a value",
            head(&format!("X-A: a\0b\r\nContent-Length: {length}\r\n")) + PING,
        ),
        (
            "a chunk size that overflows",
            head("Transfer-Encoding: chunked\r\n") + "10000000000000001\r\n" + PING,
        ),
        (
            "an end of a chunk without CR",
            head("Transfer-Encoding: chunked\r\n") + &format!("{length:x}\n{PING}\n0\n\n"),
        ),
    ] {
        let world = world().await;
        let answer = exchange(&world, &request).await;
        let received = world.mcp.received();
        // Either it is refused, or it is read as the one request that RFC 9112 says it is, and goes
        // on with one length of our own. Never does anything of it become a second request.
        let heads = answer.matches("HTTP/1.1 ").count();
        assert!(heads <= 1, "{name}\n{answer}");
        match received.as_slice() {
            [] => assert!(!answer.starts_with("HTTP/1.1 2"), "{name}\n{answer}"),
            [one] => {
                assert_eq!(one.body, PING, "{name}");
                assert!(!one.headers.contains_key("transfer-encoding"), "{name}");
                assert_eq!(one.headers["content-length"], length.to_string(), "{name}");
            }
            more => panic!("{name}\n{more:?}"),
        }
    }
}

#[tokio::test]
async fn content_length_with_transfer_encoding_is_the_last_request_of_its_connection() {
    let chunked = format!("{:x}\r\n{PING}\r\n0\r\n\r\n", PING.len());
    for lengths in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
    ] {
        let world = world().await;
        let request = head(lengths).replace("Connection: close\r\n", "") + &chunked + SMUGGLED;
        let answer = exchange(&world, &request).await;
        assert!(answer.contains("connection: close"), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        assert_eq!(world.mcp.only().body, PING);
    }
}

#[tokio::test]
async fn a_request_behind_a_refused_one_is_judged_for_itself() {
    let world = world().await;
    let refused =
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 61\r\n\r\n";
    let answer = exchange(&world, &format!("{refused}{SMUGGLED}")).await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert!(world.mcp.received().is_empty());
}

#[tokio::test]
async fn a_body_that_breaks_off_reaches_nobody() {
    let world = world().await;
    break_off(&world, &(head("Content-Length: 100\r\n") + PING)).await;
    break_off(
        &world,
        &(head("Transfer-Encoding: chunked\r\n") + "5\r\n{\"a\""),
    )
    .await;
    assert!(world.mcp.received().is_empty());
}

/// On a paused clock the time for a request passes at once; that of the test is longer.
#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_or_breaks_off_holds_no_place() {
    for sent in [
        "",
        "P",
        "PRI * HTTP/2.0\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        "POST /mcp HTTP/1.1\r\n",
    ] {
        let world = world().await;
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let closed = tokio::time::timeout(Duration::from_secs(45), read_to_end(stream)).await;
        assert!(closed.is_ok(), "{sent:?}");
    }
}

/// An HTTP/2 connection, and the end of it.
async fn http_2(world: &World) -> (SendRequest<Full<Bytes>>, impl Future<Output = ()>) {
    let stream = TcpStream::connect(world.address).await.unwrap();
    let shaken = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (client, connection) = shaken.unwrap();
    let end = tokio::spawn(connection);
    (client, async { drop(end.await.unwrap()) })
}

#[tokio::test]
async fn an_idle_http_2_connection_holds_no_place() {
    let world = world().await;
    let (mut client, end) = http_2(&world).await;
    for token in [None, Some("good")] {
        let request = world.request(Method::POST, token);
        let request = request.body(Full::from(PING)).unwrap();
        let response = client.send_request(request).await.unwrap();
        response.into_body().collect().await.unwrap();
    }
    tokio::time::pause();
    let end = tokio::time::timeout(Duration::from_secs(600), end).await;
    assert!(end.is_ok());
}

#[tokio::test]
async fn a_connection_with_a_silent_stream_is_not_idle() {
    let world = world().await;
    let (mut client, end) = http_2(&world).await;
    let request = world.request(Method::GET, Some("good"));
    let request = request.body(Full::default()).unwrap();
    let (response, stream) = tokio::join!(client.send_request(request), world.mcp.stream());
    let mut response = response.unwrap();
    tokio::time::pause();
    let end = tokio::time::timeout(Duration::from_secs(600), end).await;
    assert!(end.is_err());
    let event = Frame::data(Bytes::from_static(b"data: 1\n\n"));
    stream.send(Ok(event)).await.unwrap();
    let frame = response.frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "data: 1\n\n");
}

#[tokio::test]
async fn a_head_that_is_too_large() {
    let world = world().await;
    let line = format!("X-A: {}\r\n", "a".repeat(1000));
    for (lines, expected) in [
        (line.repeat(8), "HTTP/1.1 200"),
        (line.repeat(40), "HTTP/1.1 431"),
        ("X-A: b\r\n".repeat(200), "HTTP/1.1 431"),
    ] {
        let length = PING.len();
        let request = head(&format!("Content-Length: {length}\r\n{lines}")) + PING;
        let answer = exchange(&world, &request).await;
        assert!(answer.starts_with(expected), "{expected}\n{answer}");
    }
    assert_eq!(world.mcp.received().len(), 1);
}

/// Sends the head of a request, and waits until its token is known to be good.
async fn begin(world: &World, head: &str) -> TcpStream {
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let good = "mcpauth_proxy_introspections_total{result=\"active\"}";
    while world.metric(good) < 1.0 {
        tokio::task::yield_now().await;
    }
    stream
}

#[tokio::test]
async fn a_body_that_does_not_come_in_time() {
    let world = world().await;
    let stream = begin(&world, &head("Content-Length: 100\r\n")).await;
    tokio::time::pause();
    let answer = read_to_end(stream).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(world.mcp.received().is_empty());
}

#[tokio::test]
async fn a_token_that_is_revoked_while_its_body_comes() {
    let world = world().await;
    let length = PING.len();
    let head = head(&format!("Content-Length: {length}\r\n"));
    let mut stream = begin(&world, &head).await;
    let revoked = json!({"active": false});
    world.introspection.set("good", &revoked);
    world.clock.advance(Duration::from_millis(900));
    stream.write_all(PING.as_bytes()).await.unwrap();
    let answer = read_to_end(stream).await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    assert!(world.mcp.received().is_empty());
}

#[tokio::test]
async fn large_bodies_of_one_subject_wait_for_each_other_and_nobody_for_them() {
    let world = world().await;
    world.introspection.grant_to("bob", "client", "bob");
    let head = head("Content-Length: 4194304\r\nExpect: 100-continue\r\n");
    let mut first = begin(&world, &head).await;
    let mut second = begin(&world, &head).await;
    for stream in [&mut first, &mut second] {
        continued(stream).await;
    }
    let mut third = begin(&world, &head).await;
    // Time enough for the third, if there were room for it.
    for _ in 0..5 {
        let answer = world.call("bob", "read").await;
        assert_eq!(answer.status, StatusCode::OK);
    }
    let early = third.try_read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(early, Err(std::io::ErrorKind::WouldBlock));
    drop(first);
    continued(&mut third).await;
}

/// The proxy begins to read the body.
async fn continued(stream: &mut TcpStream) {
    let mut answer = [0; 100];
    let length = stream.read(&mut answer).await.unwrap();
    assert!(answer[..length].starts_with(b"HTTP/1.1 100"), "{answer:?}");
}
