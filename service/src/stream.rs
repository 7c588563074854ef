//! The byte stream of a connection, with or without TLS.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::tls::ServerTls;

/// How long a client may leave what is sent to it unread, when the system's buffers are full.
const UNREAD: Duration = Duration::from_secs(30);
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How much of a request without TLS is read, so that its client gets the answer.
const MAX_CLEAR: u64 = 16 * 1024;
/// What a client without TLS gets.
const USE_TLS: &str = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 34\r\n\
                       Connection: close\r\n\r\nthis port expects TLS: use https\r\n";

/// A connection whose client must read.
pub type Clear = Pin<Box<TimeoutStream<TcpStream>>>;

/// A connection.
#[derive(Debug)]
pub enum Stream {
    /// Without TLS.
    Clear(Clear),
    /// With TLS.
    Tls(Box<TlsStream<Clear>>),
}

/// The stream of a new connection, after its TLS handshake if the port has a certificate.
pub(crate) async fn open(stream: TcpStream, tls: Option<&ServerTls>) -> io::Result<Stream> {
    let Some(tls) = tls else {
        return Ok(Stream::Clear(bounded_writes(stream)));
    };
    match tokio::time::timeout(HANDSHAKE, shake_hands(stream, tls)).await {
        Ok(shaken) => shaken,
        Err(_) => {
            let text = format!("no TLS handshake within {} s", HANDSHAKE.as_secs());
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        }
    }
}

async fn shake_hands(stream: TcpStream, tls: &ServerTls) -> io::Result<Stream> {
    let mut first = [0];
    stream.peek(&mut first).await?;
    // The methods of HTTP begin with a letter, a handshake with 22.
    if first[0].is_ascii_alphabetic() {
        return refuse_clear(stream).await;
    }
    let acceptor = TlsAcceptor::from(tls.config());
    let stream = acceptor.accept(bounded_writes(stream)).await?;
    Ok(Stream::Tls(Box::new(stream)))
}

/// Says what is wrong, and reads on for a moment: a connection that is closed with unread bytes is reset, and the answer
/// lost.
async fn refuse_clear(mut stream: TcpStream) -> io::Result<Stream> {
    stream.write_all(USE_TLS.as_bytes()).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(MAX_CLEAR), &mut tokio::io::sink()).await?;
    Err(io::Error::other("a request without TLS"))
}

fn bounded_writes(stream: TcpStream) -> Clear {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(UNREAD));
    Box::pin(stream)
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => stream.as_mut().poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Clear(stream) => stream.as_mut().poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => stream.as_mut().poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => stream.as_mut().poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Clear(stream) => stream.as_mut().poll_write_vectored(context, parts),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Clear(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
