//! Traces: a span for each request and for what it waits for, sent to an OpenTelemetry collector (OTLP over HTTP, Protobuf).
//!
//! They are spans of `tracing` with the target [`TARGET`], at the lowest level, so that without a collector they do not
//! exist. A trace goes on if the request has a valid `traceparent` (W3C Trace Context) and begins otherwise; whether it is
//! recorded is the caller's decision where there is one. Spans wait in a bounded queue for a thread that sends them in batches;
//! what does not fit is dropped, and the log says so.

mod statements;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::rt::TokioExecutor;
use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider,
};
use tokio::runtime::Handle;
use tracing::Span;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use crate::trace::TraceParent;

/// The target of spans that are exported. They are at the level `TRACE`.
pub const TARGET: &str = "otlp";

/// How many spans wait to be sent.
const QUEUE: usize = 4096;
/// How many are sent at a time, and how often at least.
const BATCH: usize = 512;
const INTERVAL: Duration = Duration::from_secs(2);
/// Timeout of a request to the collector.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The largest response that is read.
const MAX_RESPONSE: usize = 64 * 1024;
/// How long the last spans may take to be sent.
const FLUSH: Duration = Duration::from_secs(2);
/// The longest `tracestate` that goes on, in bytes: what W3C Trace Context asks for at least.
const MAX_STATE: usize = 512;

/// Where spans go.
#[derive(Clone)]
pub struct Destination {
    /// The collector's URL; `/v1/traces` is appended.
    pub endpoint: String,
    /// Headers for it, which may be secret.
    pub headers: Vec<(String, String)>,
    /// The program: `service.name`.
    pub service: &'static str,
    /// Its version.
    pub version: &'static str,
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Destination")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// Sends spans.
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
    service: &'static str,
}

impl Traces {
    /// Sends what [`crate::log::init`] collects for it, by tasks of this runtime.
    ///
    /// # Errors
    /// The endpoint is not a URL, or there are no CA certificates for https.
    pub fn start(destination: &Destination, runtime: Handle) -> anyhow::Result<Self> {
        let endpoint = destination.endpoint.trim_end_matches('/');
        let exporter = SpanExporter::builder()
            .with_http()
            .with_shared_http_client(client(endpoint, runtime)?)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{endpoint}/v1/traces"))
            .with_headers(HashMap::from_iter(destination.headers.iter().cloned()))
            .with_timeout(TIMEOUT)
            .build()
            .context("cannot send traces")?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(INTERVAL);
        let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches.build());
        let mut resource = Resource::builder()
            .with_service_name(destination.service)
            .with_attribute(KeyValue::new("service.version", destination.version));
        // In Kubernetes: the pod's name.
        if let Ok(host) = std::env::var("HOSTNAME") {
            resource = resource.with_attribute(KeyValue::new("service.instance.id", host));
        }
        let provider = SdkTracerProvider::builder()
            .with_span_processor(processor.build())
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
            .with_resource(resource.build());
        Ok(Self {
            provider: provider.build(),
            service: destination.service,
        })
    }

    /// Collects spans.
    pub(crate) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: tracing::Subscriber + for<'span> LookupSpan<'span>,
    {
        let tracer = self.provider.tracer(self.service);
        let spans = tracing_opentelemetry::layer()
            .with_tracer(tracer.clone())
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_target(false)
            .with_filter(filter_fn(|of| of.is_span() && of.target() == TARGET));
        spans.and_then(statements::layer(tracer))
    }

    /// Sends what waits, and no more.
    pub fn stop(&self) {
        if let Err(error) = self.provider.shutdown_with_timeout(FLUSH) {
            tracing::warn!(%error, "the last traces are lost");
        }
    }
}

/// The span of a request that this program answers; disabled where no spans are collected.
pub fn request_span(method: &Method, route: &str, port: &'static str, headers: &HeaderMap) -> Span {
    let span = tracing::trace_span!(
        target: TARGET,
        "request",
        otel.name = format!("{} {route}", known(method)),
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = known(method),
        http.route = route,
        http.response.status_code = Empty,
        mcpauth.outcome = Empty,
        port,
    );
    if !span.is_disabled()
        && let Some(caller) = RemoteSpan::of(headers)
    {
        // A span that has just begun can have a parent.
        let _ = span.set_parent(caller.context());
    }
    span
}

/// The span of a request that this program sends, below the span that it is in; disabled outside of one that is collected.
pub fn call_span(name: &'static str) -> Span {
    if !is_collected(&Span::current()) {
        return Span::none();
    }
    tracing::trace_span!(
        target: TARGET,
        "call",
        otel.name = name,
        otel.kind = "client",
        otel.status_code = Empty,
        http.response.status_code = Empty,
    )
}

/// Moves a span that has just begun to the trace of `caller`, with a link to where it would be otherwise.
pub fn move_to(span: &Span, caller: &RemoteSpan) {
    if span.is_disabled() {
        return;
    }
    let here = Span::current().context();
    let _ = span.set_parent(caller.context());
    span.add_link(here.span().span_context().clone());
}

fn is_collected(span: &Span) -> bool {
    let metadata = span.metadata();
    metadata.is_some_and(|metadata| metadata.target() == TARGET)
}

/// What can be asked for is a known number of things.
fn known(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        "PATCH" => "PATCH",
        _ => "_OTHER",
    }
}

/// Notes in a request's span what came of it.
pub fn answered(span: &Span, status: u16) {
    span.record("http.response.status_code", status);
    if status >= 500 {
        span.record("otel.status_code", "ERROR");
    }
}

/// Nobody answered what this program sent.
pub fn failed(span: &Span) {
    span.record("otel.status_code", "ERROR");
}

/// A span of another program (W3C Trace Context).
#[derive(Clone, Debug, PartialEq)]
pub struct RemoteSpan(SpanContext);

impl RemoteSpan {
    /// The caller's, by the headers of its request.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let parent = TraceParent::of(headers)?;
        let mut states = headers.get_all("tracestate").iter();
        let state = match (states.next(), states.next()) {
            (Some(state), None) => state.to_str().ok(),
            _ => None,
        };
        Some(Self::new(&parent, state))
    }

    /// With a `tracestate`, which is left out where it is malformed or too long.
    pub fn new(parent: &TraceParent<'_>, state: Option<&str>) -> Self {
        // They are hex: see `TraceParent`.
        let trace = TraceId::from_hex(parent.trace_id).unwrap_or(TraceId::INVALID);
        let span = SpanId::from_hex(parent.parent_id).unwrap_or(SpanId::INVALID);
        let flags = TraceFlags::default().with_sampled(parent.sampled);
        let state = state.filter(|state| state.len() <= MAX_STATE);
        let state = state.and_then(|state| state.parse().ok());
        let state: TraceState = state.unwrap_or_default();
        Self(SpanContext::new(trace, span, flags, true, state))
    }

    fn context(&self) -> Context {
        Context::new().with_remote_span_context(self.0.clone())
    }
}

/// The `traceparent` for what is done in a span; none where no spans are collected.
pub fn traceparent(span: &Span) -> Option<HeaderValue> {
    headers_of(span).map(|(parent, _)| parent)
}

/// Puts the headers of a trace on a request that is sent in a span. Where no spans are collected, they stay as they are.
pub fn pass_on(span: &Span, headers: &mut HeaderMap) {
    let Some((parent, state)) = headers_of(span) else {
        return;
    };
    headers.insert("traceparent", parent);
    match state {
        Some(state) => headers.insert("tracestate", state),
        None => headers.remove("tracestate"),
    };
}

fn headers_of(span: &Span) -> Option<(HeaderValue, Option<HeaderValue>)> {
    if !is_collected(span) {
        return None;
    }
    let context = span.context();
    let span = context.span();
    let context = span.span_context();
    let (trace, id) = (context.trace_id(), context.span_id());
    let parent = format!("00-{trace}-{id}-{:02x}", context.trace_flags());
    let parent = context.is_valid().then(|| parent.parse().ok()).flatten()?;
    let state = context.trace_state().header();
    let state = (!state.is_empty()).then(|| state.parse().ok()).flatten();
    Some((parent, state))
}

fn client(endpoint: &str, runtime: Handle) -> anyhow::Result<Arc<dyn HttpClient>> {
    if endpoint.starts_with("https:") {
        let connector = HttpsConnectorBuilder::new().with_native_roots();
        let connector = connector.context("cannot verify the collector's certificate")?;
        let connector = connector.https_only().enable_http1().build();
        return Ok(Arc::new(Sender::new(connector, runtime)));
    }
    Ok(Arc::new(Sender::new(HttpConnector::new(), runtime)))
}

/// Sends the batches. They come from a thread that has no runtime.
struct Sender<C> {
    client: Client<C, Full<Bytes>>,
    runtime: Handle,
}

impl<C: Connect + Clone> Sender<C> {
    fn new(connector: C, runtime: Handle) -> Self {
        Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            runtime,
        }
    }
}

impl<C> fmt::Debug for Sender<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender")
    }
}

#[async_trait]
impl<C: Connect + Clone + Send + Sync + 'static> HttpClient for Sender<C> {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sent = self.client.request(request.map(Full::new));
        let exchange = async move {
            let (parts, body) = sent.await?.into_parts();
            let body = Limited::new(body, MAX_RESPONSE).collect().await?;
            Ok::<_, HttpError>(Response::from_parts(parts, body.to_bytes()))
        };
        // Whoever calls has no runtime, and so no timer.
        let task = self
            .runtime
            .spawn(async move { tokio::time::timeout(TIMEOUT, exchange).await });
        task.await??
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_callers_span_is_the_parent() {
        let headers = HeaderMap::from_iter([(
            "traceparent".parse().unwrap(),
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
                .parse()
                .unwrap(),
        )]);
        let RemoteSpan(context) = RemoteSpan::of(&headers).unwrap();
        assert_eq!(
            context.trace_id().to_string(),
            "4bf92f3577b34da6a3ce929d0e0e4736"
        );
        assert_eq!(context.span_id().to_string(), "00f067aa0ba902b7");
        assert!(context.is_remote() && !context.is_sampled());
    }

    #[test]
    fn a_state_goes_on_if_it_can() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let state = |state: &str| {
            let parent = TraceParent::parse(parent).unwrap();
            RemoteSpan::new(&parent, Some(state))
                .0
                .trace_state()
                .header()
        };
        assert_eq!(state("a=1,b=2"), "a=1,b=2");
        assert_eq!(state("no state"), "");
        assert_eq!(state(&format!("a={}", "x".repeat(MAX_STATE))), "");
    }

    #[test]
    fn without_a_collector_there_are_no_spans() {
        let span = request_span(&Method::GET, "/", "public", &HeaderMap::new());
        assert!(span.is_disabled());
        assert_eq!(traceparent(&span), None);
        let mut headers =
            HeaderMap::from_iter([("traceparent".parse().unwrap(), "x".parse().unwrap())]);
        let before = headers.clone();
        pass_on(&call_span("call"), &mut headers);
        assert_eq!(headers, before);
        answered(&span, 200);
    }

    #[test]
    fn debug_shows_no_header() {
        let destination = Destination {
            endpoint: "http://localhost:4318".into(),
            headers: vec![("authorization".into(), "hunter2".into())],
            service: "test",
            version: "0",
        };
        assert!(!format!("{destination:?}").contains("hunter2"));
    }
}
