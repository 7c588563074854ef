//! One request on a connection of its own, from an address of its own.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::{Method, header};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::server::{FORM, query};

/// An answer as it came.
pub(super) struct Raw {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Raw {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub fn ticket(&self) -> String {
        let (_, rest) = self.body.split_once(r#"name="ticket" value=""#).unwrap();
        rest.split('"').next().unwrap().to_owned()
    }
}

/// The ports of the server.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub public: SocketAddr,
    pub internal: SocketAddr,
}

pub(super) async fn connect(from: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((IpAddr::from(from), 0).into())?;
    socket.connect(to).await
}

/// One request on a connection of its own.
pub(super) async fn ask(
    from: Ipv4Addr,
    to: SocketAddr,
    (method, path): (Method, &str),
    headers: &[(header::HeaderName, &str)],
    body: &str,
) -> io::Result<Raw> {
    let mut stream = connect(from, to).await?;
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    stream
        .write_all(format!("{request}\r\n{body}").as_bytes())
        .await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.get(9..12).and_then(|status| status.parse().ok());
    Ok(Raw {
        status: status.ok_or(io::ErrorKind::InvalidData)?,
        head: head.to_owned(),
        body: body.to_owned(),
    })
}

pub(super) async fn post(
    from: Ipv4Addr,
    to: SocketAddr,
    path: &str,
    authorization: &str,
    form: &[(&str, &str)],
) -> io::Result<Raw> {
    let headers = [
        (header::CONTENT_TYPE, FORM),
        (header::AUTHORIZATION, authorization),
    ];
    let headers = if authorization.is_empty() {
        &headers[..1]
    } else {
        &headers
    };
    ask(from, to, (Method::POST, path), headers, &query(form)).await
}
