//! What no HTTP library sends.

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
