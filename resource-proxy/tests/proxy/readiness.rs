//! The readiness probe: whether the MCP server answers.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mcp_resource_proxy::readiness::Readiness;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::common::World;

/// A server that answers each method with a status; 0: not at all.
#[derive(Clone)]
struct Server {
    address: SocketAddr,
    statuses: Arc<Mutex<(u16, u16)>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            statuses: Arc::default(),
            asked: Arc::default(),
        };
        let answering = server.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let server = answering.clone();
                tokio::spawn(async move {
                    let mut head = [0; 2048];
                    while let Ok(read @ 1..) = stream.read(&mut head).await {
                        let text = String::from_utf8_lossy(&head[..read]).into_owned();
                        let (get, post) = *server.statuses.lock().unwrap();
                        let status = if text.starts_with("GET") { get } else { post };
                        server.asked.lock().unwrap().push(text);
                        if status == 0 {
                            return std::future::pending().await;
                        }
                        let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
                        stream.write_all(answer.as_bytes()).await.unwrap();
                    }
                });
            }
        });
        server
    }

    fn answers(&self, get: u16, post: u16) {
        *self.statuses.lock().unwrap() = (get, post);
    }
}

async fn world() -> (World, Server, Readiness) {
    let server = Server::start().await;
    let world = World::with(&format!(
        "upstream: {{ url: http://{}/mcp }}",
        server.address
    ))
    .await;
    let readiness = Readiness::new(Arc::clone(&world.proxy));
    (world, server, readiness)
}

#[tokio::test]
async fn an_answer_at_its_path_makes_ready_and_404_and_5xx_do_not() {
    let (world, server, readiness) = world().await;
    let at = format!("the MCP server at http://{}/mcp", server.address);
    for (get, post, problem) in [
        (405, 0, None),
        (200, 0, None),
        (406, 0, None),
        (401, 0, None),
        (501, 0, None),
        // It serves POST alone.
        (404, 200, None),
        (404, 400, None),
        (
            404,
            404,
            Some("responds with 404: its MCP endpoint is at another path"),
        ),
        (500, 0, Some("responds with 500")),
        (404, 503, Some("responds with 503")),
    ] {
        server.answers(get, post);
        world.clock.advance(Duration::from_secs(2));
        let expected = problem.map(|problem| format!("{at} {problem}"));
        assert_eq!(readiness.check().await.err(), expected, "{get} {post}");
    }
    let asked = server.asked.lock().unwrap().join("");
    assert!(!asked.to_lowercase().contains("authorization"), "{asked}");
}

#[tokio::test]
async fn a_port_where_nothing_listens_is_named() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let world = World::with(&format!("upstream: {{ url: http://{address}/mcp }}")).await;
    let readiness = Readiness::new(Arc::clone(&world.proxy));
    let problem = readiness.check().await.unwrap_err();
    let start = format!("nothing listens at http://{address}/mcp");
    assert!(problem.starts_with(&start), "{problem}");
}

#[tokio::test]
async fn a_server_that_has_answered_before_may_be_busy() {
    let (world, server, readiness) = world().await;
    server.answers(0, 0);
    let problem = readiness.check().await.unwrap_err();
    assert!(problem.ends_with("did not respond within 2 s"), "{problem}");
    server.answers(405, 0);
    world.clock.advance(Duration::from_secs(2));
    assert_eq!(readiness.check().await, Ok(()));
    server.answers(0, 0);
    world.clock.advance(Duration::from_secs(2));
    assert_eq!(readiness.check().await, Ok(()));
}

#[tokio::test]
async fn many_probes_are_one_question() {
    let (world, server, readiness) = world().await;
    server.answers(405, 0);
    for _ in 0..100 {
        assert_eq!(readiness.check().await, Ok(()));
    }
    assert_eq!(server.asked.lock().unwrap().len(), 1);
    // But a changed path is asked at once.
    world.reconfigure(&format!(
        "upstream: {{ url: http://{}/other }}",
        server.address
    ));
    assert_eq!(readiness.check().await, Ok(()));
    let asked = server.asked.lock().unwrap();
    assert!(asked[1].starts_with("GET /other "), "{asked:?}");
}

#[tokio::test]
async fn probes_that_wait_for_a_busy_server_share_its_silence() {
    let (world, server, readiness) = world().await;
    server.answers(405, 0);
    assert_eq!(readiness.check().await, Ok(()));
    server.answers(0, 0);
    world.clock.advance(Duration::from_secs(2));
    let probes = futures::future::join_all((0..3).map(|_| readiness.check()));
    let passes = async {
        while server.asked.lock().unwrap().len() < 2 {
            tokio::task::yield_now().await;
        }
        world.clock.advance(Duration::from_secs(2));
    };
    let (verdicts, ()) = tokio::join!(probes, passes);
    assert_eq!(verdicts, [const { Ok(()) }; 3]);
    assert_eq!(
        server.asked.lock().unwrap().len(),
        2,
        "asked once for all three"
    );
}
