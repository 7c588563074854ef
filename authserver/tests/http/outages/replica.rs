//! A running program, and the requests to it.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use crate::process::{Running, on_postgres};
use crate::server::{Answer, FORM, authorize_path, basic, configuration, query};

/// No request takes longer. The store gives an operation up after four seconds, and the listener a request after thirty.
const BOUND: Duration = Duration::from_secs(25);
const PUBLIC: usize = 0;
const INTERNAL: usize = 1;
const HEALTH: usize = 2;
const MORE: &str = "registration: { dynamic: {} }
tokens: { authorizationCodeSeconds: 600 }
rateLimit: { clientRequestsPerMinute: 1000000, addressFailuresPerMinute: 1000000 }";

pub struct Replica {
    running: Running,
    http: Client<HttpConnector, Full<Bytes>>,
}

impl Replica {
    /// With so many connections to the database, besides those for introspection and readiness.
    pub fn start(url: &str, max_connections: u32) -> Self {
        let files = tempfile::tempdir().unwrap();
        let text = configuration(&files, "http://localhost:9000", false, MORE);
        let text = on_postgres(&files, &text, url, max_connections);
        Self {
            running: Running::with(files, &text, "warn,mcp_authserver=info"),
            http: Client::builder(TokioExecutor::new()).build_http(),
        }
    }

    async fn send(
        &self,
        port: usize,
        method: Method,
        path: &str,
        headers: &[(header::HeaderName, String)],
        body: String,
    ) -> Answer {
        let uri = format!("http://{}{path}", self.running.addresses[port]);
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let response = self.http.request(request.body(body.into()).unwrap());
        let answer = async { Answer::of(response.await.unwrap()).await };
        let answer = tokio::time::timeout(BOUND, answer).await;
        answer.unwrap_or_else(|_| panic!("no answer to {path}"))
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(PUBLIC, Method::GET, path, &[], String::new())
            .await
    }

    pub async fn ready(&self) -> Answer {
        self.send(HEALTH, Method::GET, "/readyz", &[], String::new())
            .await
    }

    pub async fn post(&self, path: &str, form: &[(&str, &str)]) -> Answer {
        let headers = [(header::CONTENT_TYPE, FORM.to_owned())];
        self.send(PUBLIC, Method::POST, path, &headers, query(form))
            .await
    }

    pub async fn post_json(&self, path: &str, document: &Value) -> Answer {
        let headers = [(header::CONTENT_TYPE, "application/json".to_owned())];
        self.send(PUBLIC, Method::POST, path, &headers, document.to_string())
            .await
    }

    pub async fn put(&self, path: &str, document: &Value) -> Answer {
        let headers = [(
            header::AUTHORIZATION,
            basic("operator", "secret-of-operator"),
        )];
        self.send(INTERNAL, Method::PUT, path, &headers, document.to_string())
            .await
    }

    pub async fn introspect(&self, token: &str) -> Answer {
        let headers = [
            (
                header::AUTHORIZATION,
                basic("notes-proxy", "secret-of-notes-proxy"),
            ),
            (header::CONTENT_TYPE, FORM.to_owned()),
        ];
        let form = query(&[("token", token)]);
        self.send(INTERNAL, Method::POST, "/introspect", &headers, form)
            .await
    }

    pub async fn is_active(&self, token: &str) -> bool {
        self.introspect(token).await.ok()["active"] == json!(true)
    }

    pub async fn authorize(&self) -> Answer {
        self.get(&authorize_path(&[])).await
    }

    pub async fn code(&self) -> String {
        let answer = self.authorize().await;
        let code = answer.location_param("code");
        code.unwrap_or_else(|| panic!("{answer:?}"))
    }
}
