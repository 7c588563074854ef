//! What each revision of MCP allows on the wire.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::common::upstream::SESSION;
use crate::common::{Answer, World, tool_call};

const LEGACY: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];
const STATELESS: &str = "2026-07-28";

async fn world() -> World {
    let world = World::new().await;
    world.introspection.grant("good", "notes:read");
    world
}

async fn send(world: &World, method: Method, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut request = world.request(method, Some("good"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    world.send(request, body.to_owned()).await
}

/// A request of 2026-07-28.
fn stateless(method: &str, mut params: Value) -> String {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": STATELESS,
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params}).to_string()
}

fn is_error(answer: &Answer, status: StatusCode, code: i64) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.json()["jsonrpc"], "2.0");
    assert_eq!(answer.json()["error"]["code"], code, "{answer:?}");
}

#[tokio::test]
async fn only_2025_03_26_has_batches() {
    let world = world().await;
    let batch =
        json!([tool_call("read"), {"jsonrpc": "2.0", "id": 2, "method": "ping"}]).to_string();
    for version in LEGACY.into_iter().chain([STATELESS]) {
        let answer = send(
            &world,
            Method::POST,
            &[("mcp-protocol-version", version)],
            &batch,
        )
        .await;
        if version == "2025-03-26" {
            assert_eq!(answer.status, StatusCode::OK);
        } else {
            is_error(&answer, StatusCode::BAD_REQUEST, -32600);
        }
    }
    assert_eq!(
        send(&world, Method::POST, &[], &batch).await.status,
        StatusCode::OK
    );
    let initialize = json!([{"jsonrpc": "2.0", "id": 1, "method": "initialize"}]).to_string();
    is_error(
        &send(&world, Method::POST, &[], &initialize).await,
        StatusCode::BAD_REQUEST,
        -32600,
    );
    assert_eq!(world.mcp.received().len(), 2);
}

#[tokio::test]
async fn a_version_that_does_not_exist_is_refused() {
    let world = world().await;
    let body = tool_call("read").to_string();
    for version in ["2025-06-19", "2027-01-01", "1900-01-01", "latest", ""] {
        let headers = [("mcp-protocol-version", version)];
        let answer = send(&world, Method::POST, &headers, &body).await;
        is_error(&answer, StatusCode::BAD_REQUEST, -32022);
        let data = &answer.json()["error"]["data"];
        assert_eq!(data["requested"], version);
        assert_eq!(data["supported"][0], STATELESS);
        assert_eq!(answer.json()["id"], 1);
        for method in [Method::GET, Method::DELETE] {
            let answer = send(&world, method, &headers, "").await;
            is_error(&answer, StatusCode::BAD_REQUEST, -32022);
        }
    }
    let twice = [
        ("mcp-protocol-version", "2025-06-18"),
        ("mcp-protocol-version", "2025-03-26"),
    ];
    is_error(
        &send(&world, Method::POST, &twice, &body).await,
        StatusCode::BAD_REQUEST,
        -32022,
    );
    assert!(world.mcp.received().is_empty());
    for version in LEGACY {
        let answer = send(
            &world,
            Method::POST,
            &[("mcp-protocol-version", version)],
            &body,
        )
        .await;
        assert_eq!(answer.status, StatusCode::OK, "{version}");
    }
}

#[tokio::test]
async fn which_versions_there_are_is_for_the_server_to_say() {
    let world = world().await;
    let body = stateless("server/discover", json!({})).replace(STATELESS, "v999.0.0");
    let method = ("mcp-method", "server/discover");
    let version = ("mcp-protocol-version", "v999.0.0");
    let answer = send(&world, Method::POST, &[version, method], &body).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(world.mcp.only().headers["mcp-protocol-version"], "v999.0.0");

    // Its headers agree with its body, as ever, and it is alone.
    let other = ("mcp-protocol-version", "v998.0.0");
    for (headers, body, code) in [
        (&[other, method][..], body.clone(), -32020),
        (&[version, ("mcp-method", "ping")], body.clone(), -32020),
        (&[version, other, method], body.clone(), -32022),
        (&[version, method], format!("[{body}]"), -32022),
        (
            &[version, ("mcp-method", "ping")],
            body.replace("server/discover", "ping"),
            -32022,
        ),
    ] {
        let answer = send(&world, Method::POST, headers, &body).await;
        is_error(&answer, StatusCode::BAD_REQUEST, code);
    }
    assert_eq!(world.mcp.received().len(), 1);
}

#[tokio::test]
async fn methods_that_2026_07_28_removed_are_not_there() {
    let world = world().await;
    for (method, params) in [
        ("resources/subscribe", json!({"uri": "file:///a"})),
        ("resources/subscribe", json!({})),
        ("resources/unsubscribe", json!({})),
        ("tasks/result", json!({"taskId": "x"})),
    ] {
        let headers = [("mcp-protocol-version", STATELESS), ("mcp-method", method)];
        let answer = send(&world, Method::POST, &headers, &stateless(method, params)).await;
        is_error(&answer, StatusCode::NOT_FOUND, -32601);
        assert_eq!(answer.json()["id"], 7);
    }
    // Before, they need what they are about.
    let body = json!({"jsonrpc": "2.0", "id": 7, "method": "resources/subscribe"}).to_string();
    let answer = send(&world, Method::POST, &[], &body).await;
    is_error(&answer, StatusCode::BAD_REQUEST, -32602);
    assert!(world.mcp.received().is_empty());
}

#[tokio::test]
async fn a_request_of_2026_07_28_passes_if_its_headers_agree_with_its_body() {
    let world = world().await;
    let version = ("mcp-protocol-version", STATELESS);
    let call = stateless("tools/call", json!({"name": "read"}));
    let good = [version, ("mcp-method", "tools/call"), ("mcp-name", "read")];
    assert_eq!(
        send(&world, Method::POST, &good, &call).await.status,
        StatusCode::OK
    );
    let discover = stateless("server/discover", json!({}));
    let good = [version, ("mcp-method", "server/discover")];
    assert_eq!(
        send(&world, Method::POST, &good, &discover).await.status,
        StatusCode::OK
    );
    assert_eq!(world.mcp.received().len(), 2);

    let legacy = ("mcp-protocol-version", "2025-11-25");
    let method = ("mcp-method", "tools/call");
    for headers in [
        &[version, method][..],
        &[version, ("mcp-name", "read")],
        &[version, method, ("mcp-name", "other")],
        &[version, ("mcp-method", "tools/list"), ("mcp-name", "read")],
        &[version],
        &[legacy, method, ("mcp-name", "read")],
        &[method, ("mcp-name", "read")],
    ] {
        let answer = send(&world, Method::POST, headers, &call).await;
        is_error(&answer, StatusCode::BAD_REQUEST, -32020);
        assert_eq!(answer.json()["id"], 7);
    }
    let older = call.replace(STATELESS, "2025-11-25");
    let answer = send(
        &world,
        Method::POST,
        &[version, method, ("mcp-name", "read")],
        &older,
    )
    .await;
    is_error(&answer, StatusCode::BAD_REQUEST, -32020);
    // Without a version in the body at all.
    let bare = tool_call("read").to_string();
    let answer = send(
        &world,
        Method::POST,
        &[version, method, ("mcp-name", "read")],
        &bare,
    )
    .await;
    is_error(&answer, StatusCode::BAD_REQUEST, -32602);
    let response = json!({"jsonrpc": "2.0", "id": 1, "result": {}}).to_string();
    is_error(
        &send(&world, Method::POST, &[version], &response).await,
        StatusCode::BAD_REQUEST,
        -32600,
    );
    assert_eq!(world.mcp.received().len(), 2);
}

#[tokio::test]
async fn arguments_in_headers_agree_with_the_body_once_the_schema_passed() {
    let world = world().await;
    let version = ("mcp-protocol-version", STATELESS);
    let read = json!({"name": "read", "arguments": {"region": "us"}});
    let read = stateless("tools/call", read);
    let call = [version, ("mcp-method", "tools/call"), ("mcp-name", "read")];
    let with = |region: &'static str| [&call[..], &[("mcp-param-region", region)]].concat();
    // Nobody knows yet what the header is about.
    for headers in [&call[..], &with("eu")] {
        let answer = send(&world, Method::POST, headers, &read).await;
        assert_eq!(answer.status, StatusCode::OK);
    }
    let list = stateless("tools/list", json!({}));
    let headers = [version, ("mcp-method", "tools/list")];
    let answer = send(&world, Method::POST, &headers, &list).await;
    assert_eq!(answer.status, StatusCode::OK);

    for headers in [&call[..], &with("eu"), &with("=?base64?dXM?=")] {
        let answer = send(&world, Method::POST, headers, &read).await;
        is_error(&answer, StatusCode::BAD_REQUEST, -32020);
        assert_eq!(answer.json()["id"], 7);
    }
    for region in ["us", "=?base64?dXM=?="] {
        let answer = send(&world, Method::POST, &with(region), &read).await;
        assert_eq!(answer.status, StatusCode::OK, "{region}");
    }
    // Before that revision a header is no argument.
    let legacy = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "read", "arguments": {"region": "us"}}});
    let headers = [
        ("mcp-protocol-version", "2025-11-25"),
        ("mcp-param-region", "eu"),
    ];
    let answer = send(&world, Method::POST, &headers, &legacy.to_string()).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(world.mcp.received().len(), 6);
}

#[tokio::test]
async fn in_2026_07_28_there_is_no_get_and_no_delete() {
    let world = world().await;
    for method in [Method::GET, Method::DELETE] {
        let answer = send(&world, method, &[("mcp-protocol-version", STATELESS)], "").await;
        is_error(&answer, StatusCode::METHOD_NOT_ALLOWED, -32000);
        assert_eq!(answer.header("allow"), "POST, OPTIONS");
    }
    assert!(world.mcp.received().is_empty());
}

#[tokio::test]
async fn in_2026_07_28_there_are_no_sessions() {
    let world = world().await;
    let headers = [
        ("mcp-protocol-version", STATELESS),
        ("mcp-method", "initialize"),
        ("mcp-session-id", SESSION),
        ("last-event-id", "1"),
    ];
    // The upstream opens a session.
    let answer = send(
        &world,
        Method::POST,
        &headers,
        &stateless("initialize", json!({})),
    )
    .await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("mcp-session-id"), "");
    let received = world.mcp.only();
    assert!(!received.headers.contains_key("mcp-session-id"));
    assert!(!received.headers.contains_key("last-event-id"));
    // Before, it is the client's.
    let answer = send(
        &world,
        Method::POST,
        &[],
        &json!({"id": 1, "method": "initialize"}).to_string(),
    )
    .await;
    assert_ne!(answer.header("mcp-session-id"), "");
}

#[tokio::test]
async fn refusals_are_json_rpc_for_a_client_of_2026_07_28() {
    let world = world().await;
    let version = ("mcp-protocol-version", STATELESS);
    let call = stateless("tools/call", json!({"name": "create_note"}));
    let headers = [
        version,
        ("mcp-method", "tools/call"),
        ("mcp-name", "create_note"),
    ];
    let answer = send(&world, Method::POST, &headers, &call).await;
    is_error(&answer, StatusCode::FORBIDDEN, -32000);
    assert_eq!(
        answer.json()["error"]["data"]["error"],
        "insufficient_scope"
    );
    assert_eq!(
        answer.json()["error"]["data"]["scope"],
        "notes:read notes:write"
    );
    let answer = send(
        &world,
        Method::POST,
        &[("mcp-protocol-version", "2025-11-25")],
        &tool_call("create_note").to_string(),
    )
    .await;
    assert_eq!(answer.json()["error"], "insufficient_scope");
}

#[tokio::test]
async fn a_denied_method_is_404_in_2026_07_28_alone() {
    let world = World::with("access: { unmatched: Deny }").await;
    world.introspection.grant("good", "notes:read");
    let headers = [
        ("mcp-protocol-version", STATELESS),
        ("mcp-method", "acme/export"),
    ];
    let answer = send(
        &world,
        Method::POST,
        &headers,
        &stateless("acme/export", json!({})),
    )
    .await;
    is_error(&answer, StatusCode::NOT_FOUND, -32601);
    let legacy = json!({"jsonrpc": "2.0", "id": 7, "method": "acme/export"}).to_string();
    is_error(
        &send(&world, Method::POST, &[], &legacy).await,
        StatusCode::OK,
        -32601,
    );
    // What the parameters name is never a reason for a 404.
    let headers = [
        ("mcp-protocol-version", STATELESS),
        ("mcp-method", "tools/call"),
        ("mcp-name", "read"),
    ];
    let answer = send(
        &world,
        Method::POST,
        &headers,
        &stateless("tools/call", json!({"name": "read"})),
    )
    .await;
    is_error(&answer, StatusCode::OK, -32602);
    assert!(world.mcp.received().is_empty());
}
