//! Which rule a method needs: the table of the architecture, line by line.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::common::{Answer, World, tool_call};

/// Three kinds of rules, each with a scope of its own; the rest is denied.
const RULES: &str = r#"
scopes: [{ name: tools }, { name: resources }, { name: prompts }, { name: methods }]
access: { rules: [{ tools: ["*"], scopes: [tools] }, { resources: ["notes://*"], scopes: [resources] }, { prompts: ["*"], scopes: [prompts] }, { methods: ["acme/*"], scopes: [methods] }, { tools: ["*"], anyToken: true }], unmatched: Deny }"#;

const SCOPES: [&str; 4] = ["tools", "resources", "prompts", "methods"];

/// A world in which each scope is the token of that name, and `none` has no scope.
async fn world() -> World {
    let world = World::with(RULES).await;
    for scope in SCOPES {
        world.introspection.grant(scope, scope);
    }
    world.introspection.grant("none", "");
    world.introspection.grant("all", &SCOPES.join(" "));
    world
}

fn message(method: &str, params: impl Into<Value>) -> Value {
    let params = params.into();
    json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params})
}

/// With a scope alone a message passes, and with no other.
async fn needs(world: &World, message: &Value, scope: &str) {
    for token in SCOPES.into_iter().chain(["none"]) {
        let before = world.mcp.received().len();
        let answer = world.post(token, message).await;
        let passed = world.mcp.received().len() - before;
        if token == scope {
            assert_eq!(
                (answer.status, passed),
                (StatusCode::OK, 1),
                "{token}: {message}"
            );
            continue;
        }
        assert_eq!(
            (answer.status, passed),
            (StatusCode::FORBIDDEN, 0),
            "{token}: {message}"
        );
        let challenge = answer.header("www-authenticate");
        let mut asked: Vec<&str> = SCOPES.into_iter().collect();
        asked.retain(|name| *name == scope || *name == token);
        let asked = format!("scope=\"{}\"", asked.join(" "));
        assert!(challenge.contains(&asked), "{token}: {challenge}");
    }
}

async fn any_token_will_do(world: &World, message: &Value) {
    let before = world.mcp.received().len();
    let answer = world.post("none", message).await;
    assert!(answer.status.is_success(), "{message}: {answer:?}");
    assert_eq!(world.mcp.received().len(), before + 1, "{message}");
    let answer = world.post("unknown", message).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{message}");
}

#[tokio::test]
async fn handshake_lists_logging_and_subscriptions_need_any_token() {
    let world = world().await;
    for method in [
        "initialize",
        "ping",
        "server/discover",
        "tools/list",
        "resources/list",
        "resources/templates/list",
        "prompts/list",
        "logging/setLevel",
    ] {
        any_token_will_do(&world, &message(method, json!({}))).await;
    }
    let listen = message("subscriptions/listen", json!({"notifications": {}}));
    let request = world.request(Method::POST, Some("none"));
    let response = world.begin(request, listen.to_string()).await;
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn notifications_and_answers_to_the_server_need_any_token() {
    let world = world().await;
    for message in [
        json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}),
        // To sampling/createMessage.
        json!({"jsonrpc": "2.0", "id": 1, "result": {"role": "assistant", "content": {}, "model": "m"}}),
        // To elicitation/create.
        json!({"jsonrpc": "2.0", "id": 2, "result": {"action": "accept", "content": {}}}),
        // To roots/list.
        json!({"jsonrpc": "2.0", "id": 3, "error": {"code": -32601, "message": "no roots"}}),
    ] {
        any_token_will_do(&world, &message).await;
    }
}

#[tokio::test]
async fn a_tool_call_needs_the_rule_of_the_tool() {
    let world = world().await;
    needs(&world, &tool_call("read"), "tools").await;
}

#[tokio::test]
async fn reading_and_subscribing_need_the_rule_of_the_resource() {
    let world = world().await;
    for method in [
        "resources/read",
        "resources/subscribe",
        "resources/unsubscribe",
    ] {
        needs(
            &world,
            &message(method, json!({"uri": "notes://a"})),
            "resources",
        )
        .await;
    }
}

#[tokio::test]
async fn getting_a_prompt_needs_the_rule_of_the_prompt() {
    let world = world().await;
    needs(
        &world,
        &message("prompts/get", json!({"name": "p"})),
        "prompts",
    )
    .await;
}

#[tokio::test]
async fn a_completion_needs_the_rule_of_what_its_ref_names() {
    let world = world().await;
    let complete = |reference: Value| {
        let argument = json!({"name": "a", "value": "v"});
        message(
            "completion/complete",
            json!({"ref": reference, "argument": argument}),
        )
    };
    let prompt = json!({"type": "ref/prompt", "name": "p"});
    needs(&world, &complete(prompt), "prompts").await;
    let resource = json!({"type": "ref/resource", "uri": "notes://{id}"});
    needs(&world, &complete(resource), "resources").await;
}

#[tokio::test]
async fn any_other_method_needs_a_rule_for_methods() {
    let world = world().await;
    needs(&world, &message("acme/export", json!({})), "methods").await;
    needs(&world, &message("acme/list", json!({})), "methods").await;
}

async fn is_absent(answer: &Answer, code: i64) {
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.header("www-authenticate"), "");
    let body = answer.json();
    assert_eq!(body["error"]["code"], code, "{body}");
    assert_eq!(body["id"], 7);
}

#[tokio::test]
async fn what_is_denied_is_answered_as_if_it_were_not_there() {
    let world = World::with("access: { unmatched: Deny }").await;
    world.introspection.grant("all", "notes:read notes:write");
    let mut call = tool_call("read");
    call["id"] = json!(7);
    is_absent(&world.post("all", &call).await, -32602).await;
    for (method, params) in [
        ("resources/read", json!({"uri": "notes://a"})),
        ("prompts/get", json!({"name": "p"})),
        (
            "completion/complete",
            json!({"ref": {"type": "ref/prompt", "name": "p"}}),
        ),
    ] {
        is_absent(&world.post("all", &message(method, params)).await, -32602).await;
    }
    let export = message("acme/export", json!({}));
    is_absent(&world.post("all", &export).await, -32601).await;
    // Nobody waits for an answer to a notification.
    let notification = json!({"jsonrpc": "2.0", "method": "acme/export"});
    let answer = world.post("all", &notification).await;
    assert_eq!(
        (answer.status, answer.body.len()),
        (StatusCode::ACCEPTED, 0)
    );
    assert!(world.mcp.received().is_empty());
}

#[tokio::test]
async fn of_a_batch_with_something_denied_nothing_runs_and_every_request_is_answered() {
    let world =
        World::with("access: { rules: [{ tools: [read], anyToken: true }], unmatched: Deny }")
            .await;
    world.introspection.grant("good", "");
    let batch = json!([
        tool_call("read"),
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": "x", "method": "acme/export"},
    ]);
    let answer = world.post("good", &batch).await;
    assert_eq!(answer.status, StatusCode::OK);
    let answers = answer.json();
    let codes: Vec<_> = answers
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (&one["id"], &one["error"]["code"]))
        .collect();
    assert_eq!(
        codes,
        [(&json!(1), &json!(-32600)), (&json!("x"), &json!(-32601))]
    );
    assert!(world.mcp.received().is_empty());
}

#[tokio::test]
async fn a_uri_in_another_spelling_matches_no_rule() {
    let world = world().await;
    for uri in [
        "notes://a/../b",
        "notes://a/./b",
        "notes://a/%2e%2e/b",
        "notes://%61/b",
        "NOTES://a/b",
        "notes://A/b",
        "notes://a\\b",
    ] {
        for method in [
            "resources/read",
            "resources/subscribe",
            "resources/unsubscribe",
        ] {
            let answer = world
                .post("all", &message(method, json!({"uri": uri})))
                .await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{uri}");
            assert_eq!(answer.json()["error"]["code"], -32602, "{uri}");
            assert_eq!(answer.json()["id"], 7, "{uri}");
        }
    }
    assert!(world.mcp.received().is_empty());
}

/// P1: a token without scopes read resources of a server with tools alone in its rules.
#[tokio::test]
async fn what_no_rule_is_about_needs_every_scope_by_default() {
    let world = World::with("access: { rules: [{ tools: [\"*\"], anyToken: true }] }").await;
    world.introspection.grant("none", "");
    world.introspection.grant("all", "notes:write notes:read");
    for (method, params) in [
        ("resources/read", json!({"uri": "notes://a"})),
        ("prompts/get", json!({"name": "p"})),
        ("acme/export", json!({})),
    ] {
        let message = message(method, params);
        assert_eq!(
            world.post("none", &message).await.status,
            StatusCode::FORBIDDEN,
            "{method}"
        );
        assert_eq!(
            world.post("all", &message).await.status,
            StatusCode::OK,
            "{method}"
        );
    }
    assert_eq!(world.mcp.received().len(), 3);
}

/// P15.
#[tokio::test]
async fn the_initial_scopes_are_in_the_challenge_and_in_the_metadata() {
    let world = World::with("access: { initialScopes: [\"notes:read\"] }").await;
    let path = "/.well-known/oauth-protected-resource/mcp";
    let metadata = world.path(Method::GET, path, None).await;
    assert_eq!(metadata.json()["scopes_supported"], json!(["notes:read"]));
    let answer = world.send(world.request(Method::POST, None), "").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(
        answer
            .header("www-authenticate")
            .contains("scope=\"notes:read\"")
    );
    // A step-up asks for what is needed all the same.
    world.introspection.grant("read", "notes:read");
    let answer = world.call("read", "any").await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(
        answer
            .header("www-authenticate")
            .contains("scope=\"notes:read notes:write\"")
    );
}

/// P9: what a call waits for can take minutes.
#[tokio::test]
async fn a_call_that_waited_is_judged_again() {
    let friction = "friction: { rate: { calls: 1, periodSeconds: 1 }, warmupCalls: 2, maxDelayMilliseconds: 5000 }";
    let batch = json!(vec![tool_call("create_note"); 100]);
    let scopes = |world: &World| world.introspection.grant("alice", "notes:read");
    let rules = |world: &World| {
        world.reconfigure(&format!("{friction}\naccess: {{ unmatched: Deny }}"));
    };
    for (number, status) in [StatusCode::OK, StatusCode::FORBIDDEN, StatusCode::OK]
        .into_iter()
        .enumerate()
    {
        let world = World::with(friction).await;
        world.introspection.grant("alice", "notes:write");
        world.introspection.close();
        let answer = world.post("alice", &batch);
        let meanwhile = async {
            world.introspection.arrived(1).await;
            world.introspection.open(1);
            world.introspection.arrived(1).await;
            match number {
                1 => scopes(&world),
                2 => rules(&world),
                _ => {}
            }
            world.introspection.open(1);
        };
        let (answer, ()) = tokio::join!(answer, meanwhile);
        assert_eq!(answer.status, status, "{number}");
        let passed = usize::from(number == 0);
        assert_eq!(world.mcp.received().len(), passed, "{number}");
    }
}
