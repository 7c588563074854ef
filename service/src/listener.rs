//! Ports: limits on the number and duration of connections, and draining.

use std::convert::Infallible;
use std::error::Error;
use std::fmt::Display;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use crate::connections::{Activity, Connections};
use crate::shutdown::Shutdown;
use crate::stream;
use crate::tls::ServerTls;

pub use crate::stream::Stream;

/// The buffer of a connection, in bytes, which also limits the head of a request: the memory that a client can make
/// the server use before it is authenticated.
pub const MAX_HEAD: usize = 16 * 1024;

/// One of so many connections is free, when idle ones can give way: a new one does not wait until another has ended.
const SPARE: usize = 32;

/// How soon a new connection looks again for an idle one that can give way.
const RETRY: Duration = Duration::from_millis(100);

/// Limits on the clients of a port.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Maximum number of connections. When there are almost as many, an idle one ends for each new one; while none is idle, new
    /// ones wait.
    pub connections: usize,
    /// Timeout for a request's head, and for an idle connection.
    pub idle: Duration,
    /// How long requests under way may take once the port is closed. Less than the grace period that Kubernetes
    /// gives.
    pub drain: Duration,
}

impl Limits {
    /// For ports that only programs of this project call. With the largest heads and forms 2048 connections hold
    /// 190 MB, less than the memory limit that the operator sets.
    pub const INTERNAL: Self = Self {
        connections: 2048,
        idle: Duration::from_secs(30),
        drain: Duration::from_secs(20),
    };
    /// Longer than load balancers keep idle connections (mostly 60 s): otherwise one of them could send a request on a
    /// connection that is about to close.
    pub const PUBLIC: Self = Self {
        idle: Duration::from_secs(75),
        ..Self::INTERNAL
    };
}

/// A listener that cannot be opened. The text is one line: the key that configures it, the address, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{key}: cannot listen on {address}: {}", advice(.reason))]
pub struct ListenError {
    /// The key in the configuration, or the option.
    pub key: &'static str,
    /// The address.
    pub address: String,
    /// The system's error.
    pub reason: io::Error,
}

fn advice(reason: &io::Error) -> String {
    match reason.kind() {
        io::ErrorKind::AddrInUse => {
            "the port is in use; stop the program that listens on it, or choose another port".into()
        }
        io::ErrorKind::PermissionDenied => "permission denied; choose a port from 1024 up".into(),
        io::ErrorKind::AddrNotAvailable => {
            "this machine does not have that address; choose one that it has, or [::] for all"
                .into()
        }
        _ => format!("{reason}; choose another address"),
    }
}

/// An open port.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    tls: Option<ServerTls>,
}

impl Listener {
    /// Listens on `address`, which `key` configures. `[::]` is every address of both IP families, and of IPv4
    /// alone where the host has no IPv6.
    ///
    /// # Errors
    /// The port is in use, or permission is denied.
    pub async fn bind(
        key: &'static str,
        address: impl ToSocketAddrs + Display,
    ) -> Result<Self, ListenError> {
        let text = address.to_string();
        let bound = async {
            let socket = bind_any(address).await?;
            let address = socket.local_addr()?;
            Ok(Self {
                socket,
                address,
                tls: None,
            })
        };
        bound.await.map_err(|reason| ListenError {
            key,
            address: text,
            reason,
        })
    }

    /// Speaks TLS, and nothing else.
    #[must_use]
    pub fn with_tls(self, tls: ServerTls) -> Self {
        Self {
            tls: Some(tls),
            ..self
        }
    }

    /// Where it listens: for port 0, the port that the system chose.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts connections until `shutdown` closes, then lets in-flight requests finish, for at most
    /// [`Limits::drain`]. When this returns every connection has ended.
    ///
    /// `handle` serves one connection, and counts its requests: without any, it is idle, as it is during the TLS handshake.
    /// It is to end soon after its [`Watcher`] says so; what watches the hyper connection with it does.
    pub async fn serve<F, E>(
        self,
        limits: Limits,
        shutdown: Shutdown,
        handle: impl Fn(Stream, SocketAddr, Watcher, Activity) -> F + Clone + Send + 'static,
    ) where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Display,
    {
        let places = Arc::new(Semaphore::new(limits.connections));
        let open = Connections::default();
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        let accepting = async {
            loop {
                let (stream, peer) = accept(&self.socket).await;
                let place = place(&places, limits.connections / SPARE, &open).await;
                let entry = open.enter(peer);
                let (tls, closing) = (self.tls.clone(), shutdown.closing().clone());
                let (handle, watcher) = (handle.clone(), graceful.watcher());
                let activity = entry.activity.clone();
                let connection = async move {
                    let opened = tokio::select! {
                        biased;
                        opened = stream::open(stream, tls.as_ref()) => opened,
                        () = closing.cancelled() => return Ok(()),
                    };
                    let stream = opened.map_err(|error| error.to_string())?;
                    let ended = handle(stream, peer, watcher, activity).await;
                    ended.map_err(|error| error.to_string())
                };
                connections.spawn(async move {
                    tokio::select! {
                        ended = connection => if let Err(error) = ended {
                            tracing::debug!(%error, %peer, "a connection ended with an error");
                        },
                        () = entry.evicted.cancelled() => {
                            tracing::debug!(%peer, "an idle connection gives way to a new one");
                        }
                    }
                    drop(place);
                });
                while connections.try_join_next().is_some() {}
            }
        };
        tokio::select! {
            () = accepting => {}
            () = shutdown.closing().cancelled() => {}
        }
        drop(self.socket);
        let ended = tokio::select! {
            ended = tokio::time::timeout(limits.drain, graceful.shutdown()) => ended.is_ok(),
            () = shutdown.is_cut().cancelled() => false,
        };
        if !ended {
            tracing::warn!(address = %self.address, "aborting the requests that are still in progress");
        }
        connections.shutdown().await;
    }

    /// As [`Self::serve`], for HTTP/1.1 and a function that answers requests.
    ///
    /// Browsers and OAuth clients speak HTTP/2 over TLS, with whoever ends TLS before us; in the clear it would
    /// only add what one connection can make us hold.
    pub async fn serve_http1<F, B>(
        self,
        limits: Limits,
        shutdown: Shutdown,
        answer: impl Fn(Request<Incoming>, SocketAddr) -> F + Clone + Send + 'static,
    ) where
        F: Future<Output = Result<Response<B>, Infallible>> + Send + 'static,
        B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(limits.idle)
            .max_buf_size(MAX_HEAD);
        self.serve(limits, shutdown, move |stream, peer, watcher, activity| {
            let answer = answer.clone();
            let turn = Turn::default();
            let of_connection = turn.clone();
            let service = service_fn(move |request| {
                let (answer, in_flight) = (answer(request, peer), activity.begin());
                let turn = of_connection.clone();
                async move {
                    turn.wait().await;
                    let response = answer.await;
                    turn.end();
                    // Its body is complete; a client that does not read it has no request in flight.
                    drop(in_flight);
                    response
                }
            });
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            turn.each_poll(watcher.watch(connection))
        })
        .await;
    }
}

/// The turn of a connection: one request is answered in it, then it is that of other connections. hyper would answer sixteen,
/// if a client has sent so many without waiting.
#[derive(Clone, Debug, Default)]
struct Turn(Arc<AtomicBool>);

impl Turn {
    /// Waits for the next turn, if this one is over.
    async fn wait(&self) {
        if self.0.load(Ordering::Relaxed) {
            tokio::task::yield_now().await;
        }
    }

    /// The request of this turn is answered.
    fn end(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// A turn begins whenever the runtime comes to this connection.
    async fn each_poll<F: Future>(self, connection: F) -> F::Output {
        let mut connection = pin!(connection);
        poll_fn(|context| {
            self.0.store(false, Ordering::Relaxed);
            connection.as_mut().poll(context)
        })
        .await
    }
}

/// A place for a new connection, once there is one: idle connections give way when there are only so many places.
async fn place(
    places: &Arc<Semaphore>,
    spare: usize,
    open: &Connections,
) -> Option<OwnedSemaphorePermit> {
    loop {
        if places.available_permits() <= spare {
            open.evict();
        }
        let place = Arc::clone(places).acquire_owned();
        // Those that are busy become idle.
        if let Ok(place) = tokio::time::timeout(RETRY, place).await {
            // The semaphore is never closed.
            return place.ok();
        }
    }
}

async fn bind_any(address: impl ToSocketAddrs) -> io::Result<TcpListener> {
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host(address).await?.collect();
    match TcpListener::bind(addresses.as_slice()).await {
        Err(error) if has_no_ipv6(&error) => {
            let ports = addresses.iter().filter(|a| a.ip() == Ipv6Addr::UNSPECIFIED);
            let ipv4 = ports.map(|a| SocketAddr::from((Ipv4Addr::UNSPECIFIED, a.port())));
            let ipv4: Vec<SocketAddr> = ipv4.collect();
            if ipv4.is_empty() {
                return Err(error);
            }
            TcpListener::bind(ipv4.as_slice()).await
        }
        bound => bound,
    }
}

/// What the system says of `[::]` when IPv6 is not compiled in, or is switched off.
fn has_no_ipv6(error: &io::Error) -> bool {
    /// `EAFNOSUPPORT`, of Linux and of macOS.
    const NO_FAMILY: [i32; 2] = [97, 47];
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error
            .raw_os_error()
            .is_some_and(|code| NO_FAMILY.contains(&code))
}

async fn accept(socket: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => {
                // Without it, small responses can wait for an acknowledgement. A failure is harmless.
                let _ = stream.set_nodelay(true);
                return (stream, peer);
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                // Usually out of file descriptors: they are freed when other connections end.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_address_is_of_both_ip_families() {
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        let listener = Listener::bind("listen", any).await.unwrap();
        let port = listener.address().port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .await
            .unwrap();
        if listener.address().is_ipv6() {
            TcpStream::connect((Ipv6Addr::LOCALHOST, port))
                .await
                .unwrap();
        }
    }

    #[tokio::test]
    async fn an_idle_connection_gives_way_before_its_place_is_needed() {
        let (places, open) = (Arc::new(Semaphore::new(4)), Connections::default());
        let mut connections = Vec::new();
        for port in 1..=3 {
            place(&places, 1, &open).await.unwrap().forget();
            connections.push(open.enter(SocketAddr::from((Ipv4Addr::LOCALHOST, port))));
        }
        let given_way = || {
            let evicted = connections.iter().map(|open| open.evicted.is_cancelled());
            evicted.collect::<Vec<_>>()
        };
        assert_eq!(given_way(), [false; 3]);
        drop(place(&places, 1, &open).await.unwrap());
        assert_eq!(given_way(), [true, false, false]);
    }

    #[test]
    fn a_host_without_ipv6_is_recognised() {
        assert!(has_no_ipv6(&io::Error::from_raw_os_error(97)));
        assert!(has_no_ipv6(&io::ErrorKind::AddrNotAvailable.into()));
        assert!(!has_no_ipv6(&io::ErrorKind::AddrInUse.into()));
    }
}
