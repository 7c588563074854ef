//! Listening, serving and stopping.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulConnection, GracefulShutdown};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// What clients of a port may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many may be connected at once; further ones wait in the kernel's queue.
    pub connections: usize,
    /// How long a request's head may take, and a connection lie idle.
    pub idle: Duration,
}

impl Limits {
    /// With the largest heads and forms 2048 connections hold 190 MB, less than the memory limit that the
    /// operator sets.
    pub const INTERNAL: Self = Self {
        connections: 2048,
        idle: Duration::from_secs(30),
    };
    /// Longer than load balancers keep idle connections (mostly 60 s): else one of them sends a request
    /// into a connection that is just closing.
    pub const PUBLIC: Self = Self {
        idle: Duration::from_secs(75),
        ..Self::INTERNAL
    };
}

/// The buffer of a connection, in bytes; also the longest head of a request.
const MAX_HEAD: usize = 16 * 1024;
/// How long running requests have once the server stops.
const DRAIN_TIME: Duration = Duration::from_secs(20);

/// Binds an address.
///
/// # Errors
/// One line that names the address and what to do.
pub async fn bind(key: &str, address: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => {
                format!("is taken; stop what listens there, or change {key}")
            }
            io::ErrorKind::PermissionDenied => {
                format!("needs privileges; choose a port from 1024 up for {key}")
            }
            io::ErrorKind::AddrNotAvailable => {
                format!("is no address of this machine; change {key}")
            }
            _ => format!("cannot be listened on ({error}); change {key}"),
        };
        anyhow::anyhow!("{address} {hint}")
    })
}

/// Serves connections until `stop` is cancelled, then lets running requests end.
///
/// It speaks HTTP/1.1 only. Browsers and OAuth clients speak HTTP/2 over TLS, with whoever ends TLS
/// before us; in the clear it would only add what one connection can make us hold.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let graceful = GracefulShutdown::new();
    let accepting = async {
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            let (stream, peer) = accept(&listener).await;
            let connection = connection(stream, peer, router.clone(), limits.idle);
            let connection = graceful.watch(connection);
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, %peer, "a connection ended early");
                }
                drop(place);
            });
        }
    };
    tokio::select! {
        () = accepting => {}
        () = stop.cancelled() => {}
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_TIME, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("requests were still running at the end of the drain time");
    }
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                // Out of file descriptors: they come back when other connections end.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    idle: Duration,
) -> impl GracefulConnection<Error = hyper::Error> {
    // Without it small answers can wait for an acknowledgement; when it fails, they do.
    let _ = stream.set_nodelay(true);
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().oneshot(request.map(Body::new))
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(idle)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
}
