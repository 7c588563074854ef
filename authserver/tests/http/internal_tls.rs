//! The internal port with a certificate.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use mcp_authserver::config::InternalTls;
use mcp_authserver::http::internal::InternalPort;
use mcp_authserver::http::serve::serve_internal;
use mcp_authserver::internal_tls::Certificate;
use mcp_authserver::metrics::Metrics;
use mcpauth_service::listener::{Limits, Listener};
use mcpauth_service::shutdown::Shutdown;
use mcpauth_service::tls::{Ca, Connector};
use mcpauth_test_support::certificates::Authority;
use mcpauth_test_support::wait::eventually;
use serde_json::Value;

use crate::process::Running;
use crate::server::{FORM, TestServer, basic, configuration, query, text};

const HOST: &str = "auth-authserver-internal.team.svc";

type TlsClient = Client<Connector, Full<Bytes>>;

fn client(authority: &Authority) -> TlsClient {
    let ca = Ca::parse(&std::fs::read(authority.ca()).unwrap()).unwrap();
    let connector = ca.connector(Some(HOST), HttpConnector::new()).unwrap();
    Client::builder(TokioExecutor::new()).build(connector)
}

/// The answer to an introspection by `notes-proxy`.
async fn introspect(client: &TlsClient, at: &str, token: &str) -> Result<Value, String> {
    let request = http::Request::post(format!("https://{at}/introspect"))
        .header(header::CONTENT_TYPE, FORM)
        .header(
            header::AUTHORIZATION,
            basic("notes-proxy", "secret-of-notes-proxy"),
        )
        .body(query(&[("token", token)]).into())
        .unwrap();
    let answer = client.request(request).await;
    let answer = answer.map_err(|error| format!("{error:?}"))?;
    assert_eq!(answer.status(), StatusCode::OK);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    Ok(serde_json::from_slice(&body).unwrap())
}

/// The files of a port, as a Secret is mounted, with what an authority has certified.
fn mounted(folder: &std::path::Path) -> (InternalTls, impl Fn(&Authority) + use<>) {
    let files = InternalTls {
        cert_file: folder.join("tls.crt"),
        key_file: folder.join("tls.key"),
    };
    let to = files.clone();
    let mount = move |authority: &Authority| {
        let (certificate, key): (PathBuf, PathBuf) = authority.certify(HOST);
        std::fs::copy(certificate, &to.cert_file).unwrap();
        std::fs::copy(key, &to.key_file).unwrap();
    };
    (files, mount)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_rotates_under_load_without_a_failed_request() {
    let server = TestServer::start().await;
    let token = text(&server.tokens(&[]).await["access_token"]);
    let folder = tempfile::tempdir().unwrap();
    let (files, mount) = mounted(folder.path());
    let authority = Authority::new();
    mount(&authority);
    let mut certificate = Certificate::load(files.clone()).unwrap();
    let listener = Listener::bind("test", "127.0.0.1:0").await.unwrap();
    let at = listener.address().to_string();
    let listener = listener.with_tls(certificate.tls());
    let port = InternalPort::new(server.app.internal.clone());
    let shutdown = Shutdown::default();
    tokio::spawn(serve_internal(
        listener,
        port,
        Limits::INTERNAL,
        shutdown.clone(),
    ));

    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..4)
        .map(|number| {
            let (stop, at, token) = (Arc::clone(&stop), at.clone(), token.clone());
            let mut client = client(&authority);
            let ca = Ca::parse(&std::fs::read(authority.ca()).unwrap()).unwrap();
            tokio::spawn(async move {
                let mut asked = 0;
                while !stop.load(Ordering::Relaxed) {
                    // Half of them connect for each request.
                    if number % 2 == 0 {
                        let connector = ca.connector(Some(HOST), HttpConnector::new());
                        client = Client::builder(TokioExecutor::new()).build(connector.unwrap());
                    }
                    let answer = introspect(&client, &at, &token).await.unwrap();
                    assert_eq!(answer["active"], true);
                    asked += 1;
                }
                asked
            })
        })
        .collect();
    let metrics = Metrics::default();
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        mount(&authority);
        certificate.look(&metrics);
    }
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        assert!(caller.await.unwrap() > 0);
    }
    let count = |outcome: &str, count: u32| {
        let line = format!(
            "mcpauth_authserver_internal_certificate_reloads_total{{outcome=\"{outcome}\"}} {count}\n"
        );
        let text = metrics.encode();
        assert!(text.contains(&line), "{line}{text}");
    };
    count("applied", 5);

    // What cannot be used changes nothing, and counts once.
    std::fs::write(&files.key_file, "x").unwrap();
    certificate.look(&metrics);
    certificate.look(&metrics);
    count("refused", 1);
    std::fs::remove_file(&files.cert_file).unwrap();
    certificate.look(&metrics);
    count("refused", 2);
    introspect(&client(&authority), &at, &token).await.unwrap();

    let next = Authority::new();
    mount(&next);
    certificate.look(&metrics);
    count("applied", 6);
    introspect(&client(&next), &at, &token).await.unwrap();
    let error = introspect(&client(&authority), &at, &token).await;
    assert!(error.unwrap_err().contains("InvalidCertificate"));
    shutdown.cut();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program_follows_the_files() {
    let files = tempfile::tempdir().unwrap();
    let (tls, mount) = mounted(files.path());
    let authority = Authority::new();
    mount(&authority);
    let text = configuration(&files, "http://localhost:9000", false, "");
    let pair = serde_json::json!(tls);
    let text = text.replacen("internal: {", &format!("internal: {{\"tls\":{pair},"), 1);
    let running = Running::with(files, &text, "info");
    let at = &running.addresses[1];
    introspect(&client(&authority), at, "x").await.unwrap();
    let clear = http::Request::builder()
        .method(Method::GET)
        .uri(format!("http://{at}/introspect"));
    let plain: Client<HttpConnector, Full<Bytes>> =
        Client::builder(TokioExecutor::new()).build_http();
    let answer = plain.request(clear.body(Full::default()).unwrap()).await;
    assert_eq!(answer.unwrap().status(), 400);

    let next = Authority::new();
    mount(&next);
    eventually("the new certificate is in use", || async {
        introspect(&client(&next), at, "x").await
    })
    .await;
    let error = introspect(&client(&authority), at, "x").await;
    assert!(error.unwrap_err().contains("InvalidCertificate"));
}
