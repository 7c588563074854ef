//! The port for MCP clients.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::Watcher;
use mcpauth_service::connections::Activity;
use mcpauth_service::listener::{Limits, Listener, MAX_HEAD};
use mcpauth_service::shutdown::Shutdown;

use crate::http::connection::{IDLE_TIMEOUT, Tracked, idle};
use crate::proxy::Proxy;

/// With the largest heads 2048 connections hold 80 MB, less than the memory limit that the operator sets.
const LIMITS: Limits = Limits {
    connections: 2048,
    idle: IDLE_TIMEOUT,
    // Less than the 30 s that Kubernetes gives.
    drain: Duration::from_secs(25),
};
/// The HTTP/2 flow-control window, in bytes: how much a client may send before it is read. This is the minimum.
const UNREAD: u32 = 65_535;
/// [`MAX_HEAD`] for settings of HTTP/2.
const MAX_HEADER_LIST: u32 = MAX_HEAD as u32;

/// Serves MCP clients, over HTTP/1.1 or HTTP/2 without TLS, until `shutdown` closes; then lets the requests
/// in flight end.
pub async fn serve(listener: Listener, proxy: Arc<Proxy>, shutdown: Shutdown) {
    let builder = builder();
    let connection = move |stream, _, watcher: Watcher, activity: Activity| {
        let (builder, proxy) = (builder.clone(), Arc::clone(&proxy));
        async move {
            let connection = proxy.runtime().drain.connection(activity);
            let requests = connection.activity.clone();
            let service = service_fn(move |request| {
                let (proxy, in_flight) = (Arc::clone(&proxy), requests.begin());
                // hyper would keep its memory as long as the connection.
                Box::pin(async move {
                    let response = proxy.handle(request).await;
                    Ok::<_, Infallible>(response.map(|body| Tracked::new(body, in_flight)))
                })
            });
            let serving = builder.serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                ended = watcher.watch(serving) => ended,
                () = idle(&connection.activity) => {
                    tracing::debug!("an idle connection is closed");
                    Ok(())
                }
            }
        }
    };
    listener.serve(LIMITS, shutdown, connection).await;
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIMEOUT)
        .max_buf_size(MAX_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(30))
        .max_concurrent_streams(128)
        // How much of a body a client may send before capacity is reserved for it.
        .initial_stream_window_size(UNREAD)
        .initial_connection_window_size(UNREAD)
        .max_header_list_size(MAX_HEADER_LIST)
        .max_send_buf_size(2 * MAX_HEAD);
    builder
}
