//! Sockets: the listeners, their connections, and the end of them.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::auth::introspection::HttpClient;
use crate::health::Health;
use crate::http::connection::{Activity, FIRST_TIMEOUT, IDLE_TIMEOUT, Tracked};
use crate::proxy::Proxy;

/// How many clients may be connected to a port at once; further ones wait in the kernel's queue. With
/// the largest heads these hold 80 MB, less than the memory limit that the operator sets.
const MAX_CONNECTIONS: usize = 2048;
/// The buffer of a connection, in bytes; also the longest head of a request or a response. What each
/// client may make us hold before anybody knows who it is, and each stream that nobody reads.
const BUFFER: u32 = 16 * 1024;
/// What a client may send over HTTP/2 before anybody reads it, in bytes. No less is possible.
const UNREAD: u32 = 65_535;
/// How long requests under way may take after the signal to stop: less than the 30 s that
/// Kubernetes gives.
const DRAIN: Duration = Duration::from_secs(25);

/// A port that cannot be listened at. Reads `0.0.0.0:8080 (listen.proxy): …what to do`.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else has it.
    #[error("{address} ({key}): the port is taken; stop what listens there, or give another port")]
    Taken {
        /// The address.
        address: SocketAddr,
        /// Its key in the configuration.
        key: &'static str,
    },
    /// Anything else.
    #[error("{address} ({key}): cannot listen: {reason}")]
    Other {
        /// The address.
        address: SocketAddr,
        /// Its key in the configuration.
        key: &'static str,
        /// What the system says.
        reason: io::Error,
    },
}

/// Listens at `address`, which `key` configures.
///
/// # Errors
/// The port is taken, or not ours to take.
pub async fn bind(address: SocketAddr, key: &'static str) -> Result<TcpListener, BindError> {
    TcpListener::bind(address)
        .await
        .map_err(|reason| match reason.kind() {
            io::ErrorKind::AddrInUse => BindError::Taken { address, key },
            _ => BindError::Other {
                address,
                key,
                reason,
            },
        })
}

/// The client for the MCP server and for the authorization server.
pub fn http_client() -> HttpClient {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(Duration::from_secs(5)));
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        // Common servers close idle connections after 5 s: a request must not meet one that is just
        // closing.
        .pool_idle_timeout(Duration::from_secs(4))
        .pool_max_idle_per_host(64)
        .http1_max_buf_size(BUFFER as usize)
        .build(connector)
}

/// Serves MCP clients until `stop`, then lets the requests under way end.
pub async fn serve(listener: TcpListener, proxy: Arc<Proxy>, stop: impl Future<Output = ()>) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIMEOUT)
        .max_buf_size(BUFFER as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(30))
        .max_concurrent_streams(128)
        // What a client may send of a body before we read it, and it has room.
        .initial_stream_window_size(UNREAD)
        .initial_connection_window_size(UNREAD)
        .max_header_list_size(BUFFER)
        .max_send_buf_size(2 * BUFFER as usize);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let accepting = async {
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            let stream = accept(&listener).await;
            let (builder, watcher) = (builder.clone(), graceful.watcher());
            let proxy = Arc::clone(&proxy);
            tokio::spawn(async move {
                let activity = Activity::default();
                let requests = activity.clone();
                let service = service_fn(move |request| {
                    let (proxy, under_way) = (Arc::clone(&proxy), requests.begin());
                    async move {
                        let response = proxy.handle(request).await;
                        Ok::<_, Infallible>(response.map(|body| Tracked::new(body, under_way)))
                    }
                });
                let connection = builder.serve_connection(TokioIo::new(stream), service);
                tokio::select! {
                    ended = watcher.watch(connection) => {
                        if let Err(error) = ended {
                            tracing::debug!(error, "connection");
                        }
                    }
                    () = activity.idle() => tracing::debug!("an idle connection"),
                }
                drop(place);
            });
        }
    };
    tokio::select! {
        () = accepting => {}
        () = stop => {}
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("requests still under way are cut off");
    }
}

/// Serves the health port.
pub async fn serve_health(listener: TcpListener, health: Health) {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(FIRST_TIMEOUT)
        .max_header_size(BUFFER as usize);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let stream = accept(&listener).await;
        let health = health.clone();
        let service = service_fn(move |request| {
            let response = health.answer(&request);
            async { Ok::<_, Infallible>(response) }
        });
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection");
            }
            drop(place);
        });
    }
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // It only costs latency where it fails.
                let _ = stream.set_nodelay(true);
                return stream;
            }
            Err(error) => {
                // Mostly: no file descriptor left. One may be free in a moment.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
