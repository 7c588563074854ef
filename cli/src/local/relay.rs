//! A relay between a proxy and the authserver's internal port that records the last introspection,
//! so that the scripted flow can print the actual request and response.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context;
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::Value;
use tokio::net::TcpListener;

/// One introspection.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The caller: the user name of HTTP Basic.
    pub caller: String,
    /// The form that was posted.
    pub form: Vec<(String, String)>,
    /// The response's status.
    pub status: u16,
    /// The response's body.
    pub answer: Value,
}

/// The last introspection.
#[derive(Clone, Debug, Default)]
pub struct Record(Arc<Mutex<Option<Exchange>>>);

impl Record {
    /// Removes and returns the last introspection.
    pub fn take(&self) -> Option<Exchange> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, exchange: Exchange) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(exchange);
    }
}

#[derive(Clone)]
struct Relay {
    endpoint: String,
    client: reqwest::Client,
    record: Record,
}

/// Relays introspections to `endpoint` from a free port on loopback, for as long as this process
/// runs. Returns the relay's URL.
///
/// # Errors
/// When there is no free port.
pub async fn start(endpoint: String, record: Record) -> anyhow::Result<String> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        .await
        .context("no free port on 127.0.0.1")?;
    let url = format!("http://{}/introspect", listener.local_addr()?);
    let relay = Relay {
        endpoint,
        client: reqwest::Client::new(),
        record,
    };
    let app = Router::new()
        .route("/introspect", post(introspect))
        .with_state(relay);
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(url)
}

async fn introspect(State(relay): State<Relay>, headers: HeaderMap, body: Bytes) -> Response {
    match forward(&relay, &headers, body).await {
        Ok(response) => response,
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}

async fn forward(relay: &Relay, headers: &HeaderMap, body: Bytes) -> reqwest::Result<Response> {
    let mut request = relay.client.post(&relay.endpoint).body(body.clone());
    for name in [header::AUTHORIZATION, header::CONTENT_TYPE, header::ACCEPT] {
        if let Some(value) = headers.get(&name) {
            request = request.header(name, value);
        }
    }
    let response = request.send().await?;
    let status = response.status();
    let content_type = response.headers().get(header::CONTENT_TYPE).cloned();
    let answer = response.bytes().await?;
    relay.record.put(Exchange {
        caller: caller(headers).unwrap_or_else(|| "anonymous".to_owned()),
        form: url::form_urlencoded::parse(&body).into_owned().collect(),
        status: status.as_u16(),
        answer: serde_json::from_slice(&answer).unwrap_or_default(),
    });
    let mut response = (status, answer).into_response();
    if let Some(content_type) = content_type {
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, content_type);
    }
    Ok(response)
}

/// The user name in an `Authorization: Basic` header.
fn caller(headers: &HeaderMap) -> Option<String> {
    use base64::{Engine, prelude::BASE64_STANDARD};

    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let decoded = BASE64_STANDARD.decode(value.strip_prefix("Basic ")?).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    Some(text.split_once(':')?.0.to_owned())
}
