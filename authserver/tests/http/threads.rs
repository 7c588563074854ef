//! Which threads serve which port.

use std::net::Ipv4Addr;
use std::sync::mpsc;

use http::Method;
use mcp_authserver::config::Config;
use mcp_authserver::run;
use mcpauth_test_support::process::free_ports;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use crate::floods::requests::{ask, post};
use crate::server::{basic, configuration};

/// Only one thread serves the public port here, and it does something else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resource_servers_and_probes_are_answered_while_the_public_port_is_busy() {
    let files = tempfile::tempdir().unwrap();
    let ports: [u16; 3] = free_ports();
    let mut text = configuration(&files, "http://localhost:9000", false, "");
    for (name, port) in ["public", "internal", "health"].into_iter().zip(ports) {
        let listen = |port: u16| format!(r#""{name}":"127.0.0.1:{port}""#);
        text = text.replace(&listen(0), &listen(port));
    }
    let path = files.path().join("authserver.yaml");
    std::fs::write(&path, text).unwrap();
    let config = Config::load(&path).unwrap();
    let public = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    let public = public.unwrap();
    tokio::select! {
        ended = run::run(config, public.handle()) => panic!("{ended:?}"),
        () = answers(&public, ports) => {}
    }
    public.shutdown_background();
}

async fn answers(public: &Runtime, ports: [u16; 3]) {
    let from = Ipv4Addr::LOCALHOST;
    let [public_at, internal_at, health_at] = ports.map(|port| (from, port).into());
    let get = async |at, path| {
        let answer = ask(from, at, (Method::GET, path), &[], "").await;
        answer.map(|answer| answer.status)
    };
    while get(public_at, "/jwks").await.ok() != Some(200) {
        tokio::task::yield_now().await;
    }
    let (began, busy) = oneshot::channel();
    let (release, released) = mpsc::channel::<()>();
    public.spawn(async move {
        began.send(()).unwrap();
        let _ = released.recv();
    });
    busy.await.unwrap();

    let waits = tokio::spawn(async move {
        let answer = ask(from, public_at, (Method::GET, "/jwks"), &[], "").await;
        answer.map(|answer| answer.status)
    });
    let caller = basic("notes-proxy", "secret-of-notes-proxy");
    let form = [("token", "unknown")];
    let answer = post(from, internal_at, "/introspect", &caller, &form).await;
    assert_eq!(answer.unwrap().status, 200);
    assert_eq!(get(health_at, "/readyz").await.unwrap(), 200);
    assert!(!waits.is_finished());
    drop(release);
    assert_eq!(waits.await.unwrap().unwrap(), 200);
}
