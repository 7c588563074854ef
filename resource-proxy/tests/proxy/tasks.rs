//! Tasks and whom they belong to.

use std::io;

use bytes::Bytes;
use http::{Method, StatusCode};
use hyper::body::Frame;
use serde_json::{Value, json};

use crate::common::upstream::TASK;
use crate::common::{Answer, World};

const RULES: &str = "access: { rules: [{ tools: [begin, begin_stateless, stream], scopes: [notes:read] }], unmatched: Deny }";

async fn world() -> World {
    let world = World::with(RULES).await;
    world.introspection.grant_to_alice_and_bob();
    world
}

/// A call that the server may turn into a task.
fn call(tool: &str, params: Value) -> Value {
    let mut params = params;
    params["name"] = json!(tool);
    json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
}

async fn begin(world: &World, token: &str) -> Answer {
    world
        .post(token, &call("begin", json!({"task": {"ttl": 1000}})))
        .await
}

async fn task(world: &World, token: &str, method: &str) -> Answer {
    let message = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": {"taskId": TASK}});
    world.post(token, &message).await
}

fn is_absent(answer: &Answer) {
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.json()["error"]["code"], -32602, "{answer:?}");
    assert_eq!(answer.json()["id"], 7);
}

#[tokio::test]
async fn a_task_is_there_for_the_client_and_the_subject_that_began_it_alone() {
    let world = world().await;
    is_absent(&task(&world, "alice", "tasks/get").await);
    assert_eq!(begin(&world, "alice").await.status, StatusCode::OK);
    for method in ["tasks/get", "tasks/result", "tasks/update", "tasks/cancel"] {
        for token in ["bob", "alice-elsewhere"] {
            is_absent(&task(&world, token, method).await);
        }
        for token in ["alice", "alice-again"] {
            let answer = task(&world, token, method).await;
            assert!(answer.json()["result"].is_object(), "{method}: {answer:?}");
        }
    }
    assert_eq!(world.mcp.received().len(), 1 + 4 * 2);
}

#[tokio::test]
async fn a_task_needs_the_rule_of_the_call_that_began_it() {
    let world = world().await;
    begin(&world, "alice").await;
    assert_eq!(
        task(&world, "alice", "tasks/get").await.json()["error"],
        Value::Null
    );
    world.reconfigure(
        "access: { rules: [{ tools: [begin], scopes: [notes:write] }], unmatched: Deny }",
    );
    let mut fewer = crate::common::introspection::active("notes:read");
    fewer["client_id"] = json!("client");
    world.introspection.set("alice-with-less", &fewer);
    let answer = task(&world, "alice-with-less", "tasks/get").await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    world.reconfigure("access: { unmatched: Deny }");
    is_absent(&task(&world, "alice", "tasks/get").await);
}

#[tokio::test]
async fn a_task_of_2026_07_28_is_remembered_if_the_client_takes_tasks() {
    let world = world().await;
    let send = async |meta: Value| {
        let mut meta = meta;
        meta["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
        let request = world
            .request(Method::POST, Some("alice"))
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", "tools/call")
            .header("mcp-name", "begin_stateless")
            .header("accept-encoding", "gzip");
        let body = call("begin_stateless", json!({"_meta": meta}));
        world.send(request, body.to_string()).await
    };
    assert_eq!(send(json!({})).await.status, StatusCode::OK);
    is_absent(&task(&world, "alice", "tasks/get").await);
    let tasks = json!({"extensions": {"io.modelcontextprotocol/tasks": {}}});
    let meta = json!({"io.modelcontextprotocol/clientCapabilities": tasks});
    assert_eq!(send(meta).await.status, StatusCode::OK);
    assert!(task(&world, "alice", "tasks/get").await.json()["result"].is_object());
    // What begins a task must be readable here.
    assert!(
        !world.mcp.received()[1]
            .headers
            .contains_key("accept-encoding")
    );
}

#[tokio::test]
async fn a_task_that_begins_in_a_stream_is_remembered_before_the_client_can_use_it() {
    let world = world().await;
    let request = world.request(Method::POST, Some("alice"));
    let body = call("stream", json!({"task": {}})).to_string();
    let (response, stream) = tokio::join!(world.begin(request, body), world.mcp.stream());
    let mut body = response.into_body();
    for part in [
        "data: {\"id\":1,\"result\":{\"task\"",
        ":{\"taskId\":\"task-1\"}}}\n\n",
    ] {
        let frame: io::Result<Frame<Bytes>> = Ok(Frame::data(Bytes::from_static(part.as_bytes())));
        stream.send(frame).await.unwrap();
    }
    http_body_util::BodyExt::frame(&mut body)
        .await
        .unwrap()
        .unwrap();
    assert!(task(&world, "alice", "tasks/get").await.json()["result"].is_object());
}
