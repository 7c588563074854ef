//! A port with a certificate, as clients meet it.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use mcpauth_service::listener::{Limits, Listener};
use mcpauth_service::shutdown::Shutdown;
use mcpauth_service::tls::{Ca, Connector, ServerTls, TlsError};
use mcpauth_test_support::certificates::Authority;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const HOST: &str = "auth.internal";

type TlsClient = Client<Connector, Empty<Bytes>>;

struct Port {
    address: SocketAddr,
    tls: ServerTls,
    authority: Authority,
    shutdown: Shutdown,
    serving: tokio::task::JoinHandle<()>,
}

fn certificate(authority: &Authority) -> (Vec<u8>, Vec<u8>) {
    let (certificate, key) = authority.certify(HOST);
    let read = |path| std::fs::read(path).unwrap();
    (read(certificate), read(key))
}

fn client(authority: &Authority, name: &str) -> TlsClient {
    let ca = Ca::parse(&std::fs::read(authority.ca()).unwrap()).unwrap();
    let connector = ca.connector(Some(name), HttpConnector::new()).unwrap();
    Client::builder(TokioExecutor::new()).build(connector)
}

impl Port {
    async fn start(limits: Limits) -> Self {
        let authority = Authority::new();
        let (certificate, key) = certificate(&authority);
        let tls = ServerTls::new(&certificate, &key).unwrap();
        let listener = Listener::bind("test", "127.0.0.1:0").await.unwrap();
        let listener = listener.with_tls(tls.clone());
        let (address, shutdown) = (listener.address(), Shutdown::default());
        let answer =
            |_, _| async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("answer"))) };
        let serving = listener.serve_http1(limits, shutdown.clone(), answer);
        Self {
            address,
            tls,
            authority,
            shutdown,
            serving: tokio::spawn(serving),
        }
    }

    async fn ask(&self, client: &TlsClient) -> Result<String, String> {
        let request = Request::get(format!("https://{}/", self.address));
        let answer = client.request(request.body(Empty::new()).unwrap()).await;
        let answer = answer.map_err(|error| format!("{error:?}"))?;
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        Ok(String::from_utf8(body.to_vec()).unwrap())
    }

    /// What comes after these bytes until the server closes.
    async fn answer_to(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }
}

#[tokio::test]
async fn only_who_trusts_the_ca_and_expects_the_name_gets_an_answer() {
    let port = Port::start(Limits::INTERNAL).await;
    let good = client(&port.authority, HOST);
    assert_eq!(port.ask(&good).await.unwrap(), "answer");
    let other_name = client(&port.authority, "other.internal");
    let error = port.ask(&other_name).await.unwrap_err();
    assert!(error.contains("NotValidForName"), "{error}");
    let other_ca = client(&Authority::new(), HOST);
    let error = port.ask(&other_ca).await.unwrap_err();
    assert!(error.contains("InvalidCertificate"), "{error}");
}

#[tokio::test]
async fn a_request_without_tls_is_told_what_to_do() {
    let port = Port::start(Limits::INTERNAL).await;
    for request in [
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        format!(
            "POST / HTTP/1.1\r\nContent-Length: 9000\r\n\r\n{}",
            "x".repeat(9000)
        ),
    ] {
        let answer = port.answer_to(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, "this port expects TLS: use https\r\n");
        assert!(
            head.contains(&format!("Content-Length: {}\r\n", body.len())),
            "{head}"
        );
    }
    // Noise gets no such answer.
    let answer = port.answer_to(&[0x16, 3, 1, 0xff, 0xff, 0]).await;
    assert!(!answer.contains("HTTP"), "{answer}");
}

/// On a paused clock the time for a handshake passes at once; that of the test is longer.
#[tokio::test(start_paused = true)]
async fn a_handshake_that_does_not_end_is_cut_off() {
    let port = Port::start(Limits::INTERNAL).await;
    for bytes in [
        &b""[..],
        &[0x16],
        &[0x16, 3, 1, 1, 0],
        b"G",
        b"GET / HTTP/1.1\r\n",
    ] {
        let answer = tokio::time::timeout(Duration::from_secs(11), port.answer_to(bytes));
        assert!(answer.await.is_ok(), "{bytes:?}");
    }
}

#[tokio::test]
async fn handshakes_that_do_not_end_keep_nobody_waiting() {
    let limits = Limits {
        connections: 16,
        ..Limits::INTERNAL
    };
    let port = Port::start(limits).await;
    let mut half_open = Vec::new();
    for _ in 0..64 {
        let mut stream = TcpStream::connect(port.address).await.unwrap();
        stream.write_all(&[0x16, 3, 1]).await.unwrap();
        half_open.push(stream);
    }
    let client = client(&port.authority, HOST);
    let answer = tokio::time::timeout(Duration::from_secs(5), port.ask(&client));
    assert_eq!(answer.await.unwrap().unwrap(), "answer");
}

#[tokio::test]
async fn a_handshake_does_not_delay_the_end() {
    let port = Port::start(Limits::INTERNAL).await;
    let _half_open = TcpStream::connect(port.address).await.unwrap();
    // Its connection was accepted after the other one.
    let client = client(&port.authority, HOST);
    port.ask(&client).await.unwrap();
    port.shutdown.close();
    let ended = tokio::time::timeout(Duration::from_secs(5), port.serving);
    ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_certificate_is_replaced_while_connections_go_on() {
    let port = Port::start(Limits::INTERNAL).await;
    let old = client(&port.authority, HOST);
    port.ask(&old).await.unwrap();
    let next = Authority::new();
    let (certificate, key) = certificate(&next);
    for (certificate, key, error) in [
        (&certificate[..], &b"x"[..], TlsError::NoKey),
        (b"x", &key, TlsError::NoCertificate),
    ] {
        assert_eq!(port.tls.replace(certificate, key), Err(error));
    }
    let stays = client(&port.authority, HOST);
    port.ask(&stays).await.unwrap();

    port.tls.replace(&certificate, &key).unwrap();
    // Its connection is open; who connects now meets the new one.
    port.ask(&old).await.unwrap();
    port.ask(&client(&next, HOST)).await.unwrap();
    let error = port.ask(&client(&port.authority, HOST)).await.unwrap_err();
    assert!(error.contains("InvalidCertificate"), "{error}");
}
