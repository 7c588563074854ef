//! Requests from an address of its own, each on its own connection or all on one.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::Bytes;
use http::{Method, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::server::{FORM, query};

/// An answer as it came.
pub(crate) struct Raw {
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
pub(crate) struct Target {
    pub public: SocketAddr,
    pub internal: SocketAddr,
}

pub(crate) async fn connect(from: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((IpAddr::from(from), 0).into())?;
    socket.connect(to).await
}

/// One request on a connection of its own.
pub(crate) async fn ask(
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

pub(crate) async fn post(
    from: Ipv4Addr,
    to: SocketAddr,
    path: &str,
    authorization: &str,
    form: &[(&str, &str)],
) -> io::Result<Raw> {
    let headers = form_headers(authorization);
    ask(from, to, (Method::POST, path), &headers, &query(form)).await
}

/// A connection that is kept from one request to the next.
pub(crate) struct Line {
    from: Ipv4Addr,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Line {
    pub const fn new(from: Ipv4Addr) -> Self {
        Self { from, sender: None }
    }

    pub async fn ask(
        &mut self,
        to: SocketAddr,
        (method, path): (Method, &str),
        headers: &[(header::HeaderName, &str)],
        body: &str,
    ) -> io::Result<Raw> {
        let mut request = http::Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let request = request.header(header::HOST, "x");
        let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes())));
        let request = request.map_err(io::Error::other)?;
        let mut sender = match self.sender.take().filter(|sender| !sender.is_closed()) {
            Some(sender) => sender,
            None => self.connect(to).await?,
        };
        sender.ready().await.map_err(io::Error::other)?;
        let answer = sender.send_request(request).await;
        let (head, body) = answer.map_err(io::Error::other)?.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        self.sender = Some(sender);
        Ok(Raw {
            status: head.status.as_u16(),
            head: String::new(),
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    }

    pub async fn post(
        &mut self,
        to: SocketAddr,
        path: &str,
        authorization: &str,
        form: &[(&str, &str)],
    ) -> io::Result<Raw> {
        let headers = form_headers(authorization);
        self.ask(to, (Method::POST, path), &headers, &query(form))
            .await
    }

    async fn connect(&self, to: SocketAddr) -> io::Result<SendRequest<Full<Bytes>>> {
        let stream = connect(self.from, to).await?;
        let opened = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = opened.map_err(io::Error::other)?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

fn form_headers(authorization: &str) -> Vec<(header::HeaderName, &str)> {
    let mut headers = vec![(header::CONTENT_TYPE, FORM)];
    if !authorization.is_empty() {
        headers.push((header::AUTHORIZATION, authorization));
    }
    headers
}
