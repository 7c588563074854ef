//! What a body must be.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use crate::common::{Answer, World, tool_call};

async fn post(world: &World, body: impl Into<bytes::Bytes>) -> Answer {
    world
        .send(world.request(Method::POST, Some("good")), body)
        .await
}

async fn world() -> World {
    let world = World::with("limits: { bodyBytes: 1024 }").await;
    world.introspection.grant("good", "notes:read");
    world
}

#[tokio::test]
async fn the_very_bytes_go_upstream() {
    let world = world().await;
    let body = "\n {\"params\" :{\"arguments\":{\"a\":1.0e+2, \"b\":\"\\u00e9\"},\"name\":\"read\"},  \"method\":\"tools/call\"}\r\n";
    assert_eq!(post(&world, body).await.status, StatusCode::OK);
    assert_eq!(world.mcp.only().body, body);
}

#[tokio::test]
async fn a_body_over_the_limit() {
    let world = world().await;
    let call = |padding: usize| {
        let mut call = tool_call("read");
        call["params"]["arguments"]["x"] = Value::String("x".repeat(padding));
        call.to_string()
    };
    let fits = 1024 - call(0).len();
    let answer = post(&world, call(fits + 1)).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(world.mcp.received().is_empty());
    assert_eq!(post(&world, call(fits)).await.status, StatusCode::OK);
    // Without a length, it is found out while it comes.
    for (padding, expected) in [
        (fits, StatusCode::OK),
        (fits + 1, StatusCode::PAYLOAD_TOO_LARGE),
    ] {
        let answer = post_chunked(&world, &call(padding)).await;
        assert_eq!(answer, expected);
    }
    assert_eq!(world.mcp.received().len(), 2);
}

/// Posts a body in chunks; the status.
async fn post_chunked(world: &World, body: &str) -> StatusCode {
    let chunks = body.as_bytes().chunks(100).map(Bytes::copy_from_slice);
    let chunks: Vec<_> = chunks
        .map(|chunk| Ok::<_, Infallible>(Frame::data(chunk)))
        .collect();
    let body = StreamBody::new(futures::stream::iter(chunks));
    let request = world
        .request(Method::POST, Some("good"))
        .body(body)
        .unwrap();
    let client = Client::builder(TokioExecutor::new()).build_http();
    client.request(request).await.unwrap().status()
}

#[tokio::test]
async fn deeply_nested_or_invalid_json_is_never_forwarded() {
    let world = world().await;
    for body in [
        String::new(),
        "{".into(),
        "{\"method\":\"tools/call\"".into(),
        format!(
            "{{\"method\":\"x\",\"params\":{}{}}}",
            "[".repeat(200),
            "]".repeat(200)
        ),
        "access_token=good".into(),
    ] {
        let answer = post(&world, body.clone()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        assert!(answer.json()["error"]["code"].is_i64(), "{answer:?}");
    }
    assert!(world.mcp.received().is_empty());
}

#[tokio::test]
async fn a_body_in_another_character_set_is_refused() {
    let world = world().await;
    // Read as UTF-7, this calls `create_note`.
    let body = r#"{"method":"ping","x":"+ACI-,+ACI-method+ACI-:+ACI-tools/call+ACI-,+ACI-params+ACI-:{+ACI-name+ACI-:+ACI-create+AF8-note+ACI-},+ACI-y+ACI-:+ACI-"}"#;
    let send = async |kinds: &[&str]| {
        let mut request = world.request(Method::POST, Some("good"));
        request.headers_mut().unwrap().remove("content-type");
        for kind in kinds {
            request = request.header("content-type", *kind);
        }
        world.send(request, body).await.status
    };
    for kinds in [
        &["application/json; charset=utf-7"][..],
        &["application/json;x=y ;\tCharset=\"UTF-7\""],
        &["application/json; charset=utf-8; charset=utf-7"],
        &["application/json; x=\"; charset=utf-8\"; charset=utf-7"],
        &["application/json; charset*=utf-7"],
        &["application/json", "application/json; charset=utf-7"],
    ] {
        let status = send(kinds).await;
        assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{kinds:?}");
    }
    assert!(world.mcp.received().is_empty());
    for kinds in [
        &[][..],
        &["application/json"],
        &["application/json; charset=utf-8"],
        &["application/json;charset=\"UTF-8\""],
    ] {
        assert_eq!(send(kinds).await, StatusCode::OK, "{kinds:?}");
    }
}

#[tokio::test]
async fn duplicate_json_keys_are_refused() {
    let world = world().await;
    for body in [
        r#"{"method":"ping","method":"tools/call","params":{"name":"create_note"}}"#,
        r#"{"method":"tools/call","params":{"name":"read","name":"create_note"}}"#,
        r#"{"method":"ping","Method":"tools/call","params":{"name":"create_note"}}"#,
    ] {
        assert_eq!(
            post(&world, body).await.status,
            StatusCode::BAD_REQUEST,
            "{body}"
        );
    }
    assert!(world.mcp.received().is_empty());
}

#[tokio::test]
async fn a_compressed_body_is_refused() {
    let world = world().await;
    let request = world
        .request(Method::POST, Some("good"))
        .header("content-encoding", "gzip");
    let answer = world.send(request, tool_call("read").to_string()).await;
    assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert!(world.mcp.received().is_empty());
}

#[tokio::test]
async fn batch_with_one_forbidden_call_nothing_of_it_runs() {
    let world = world().await;
    let batch = json!([tool_call("read"), {"method": "ping"}, tool_call("create_note")]);
    let answer = post(&world, batch.to_string()).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(
        answer
            .header("www-authenticate")
            .contains("scope=\"notes:read notes:write\"")
    );
    assert!(world.mcp.received().is_empty());
    let allowed = json!([tool_call("read"), {"method": "ping"}]);
    assert_eq!(
        post(&world, allowed.to_string()).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn tool_names_in_other_case_or_unicode_forms_match_nothing() {
    let world = World::with("access: { rules: [{ tools: [read], scopes: [notes:read] }] }").await;
    world.introspection.grant("good", "notes:read");
    assert_eq!(world.call("good", "read").await.status, StatusCode::OK);
    for tool in ["Read", "READ", "read ", "re\u{200b}ad", "ｒｅａｄ"] {
        assert_eq!(
            world.call("good", tool).await.status,
            StatusCode::FORBIDDEN,
            "{tool}"
        );
    }
    assert_eq!(world.mcp.received().len(), 1);
}

#[tokio::test]
async fn headers_that_mirror_the_body_must_agree_with_it() {
    let world = world().await;
    let send = async |name: &str, value: &str| {
        let request = world
            .request(Method::POST, Some("good"))
            .header(name, value);
        world.send(request, tool_call("read").to_string()).await
    };
    for (name, value) in [
        ("mcp-method", "tools/list"),
        ("mcp-name", "create_note"),
        ("mcp-name", "=?base64?!?="),
    ] {
        let answer = send(name, value).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{name}: {value}");
        assert_eq!(answer.json()["error"]["code"], -32020);
        assert_eq!(answer.json()["id"], 1);
    }
    assert!(world.mcp.received().is_empty());
    for (name, value) in [
        ("mcp-method", "tools/call"),
        ("mcp-name", "=?base64?cmVhZA==?="),
    ] {
        assert_eq!(
            send(name, value).await.status,
            StatusCode::OK,
            "{name}: {value}"
        );
    }
    assert_eq!(
        world.mcp.received()[1].headers["mcp-name"],
        "=?base64?cmVhZA==?="
    );
}

#[tokio::test]
async fn get_and_delete_have_no_body() {
    let world = world().await;
    for method in [Method::GET, Method::DELETE] {
        let request = world.request(method, Some("good"));
        let answer = world
            .send(request, tool_call("create_note").to_string())
            .await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    }
    assert!(world.mcp.received().is_empty());
}
