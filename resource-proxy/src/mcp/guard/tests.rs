use super::*;

/// What the only message of a body does.
fn target(body: &str) -> Result<Option<String>, i32> {
    let messages = Messages::read(body.as_bytes()).map_err(|fault| fault.code())?;
    let guarded = messages.guarded().next();
    Ok(guarded.map(|guarded| format!("{:?}", guarded.target)))
}

fn of(method: &str, params: &str) -> Result<Option<String>, i32> {
    target(&format!(
        r#"{{"id":1,"method":"{method}","params":{params}}}"#
    ))
}

fn operation(text: &str) -> Result<Option<String>, i32> {
    Ok(Some(format!("Operation({text})")))
}

#[test]
fn any_token_will_do() {
    for method in [
        "initialize",
        "ping",
        "server/discover",
        "tools/list",
        "resources/list",
        "resources/templates/list",
        "prompts/list",
        "tasks/list",
        "logging/setLevel",
        "subscriptions/listen",
    ] {
        assert_eq!(
            of(method, r#"{"name":"x","uri":"y"}"#),
            Ok(None),
            "{method}"
        );
    }
    for body in [
        r#"{"method":"notifications/initialized"}"#,
        r#"{"method":"notifications/cancelled","params":{"requestId":1}}"#,
        r#"{"method":"notifications/acme"}"#,
        // What the client says to sampling, elicitation or roots.
        r#"{"id":1,"result":{"method":"tools/call","params":{"name":"x"}}}"#,
        r#"{"id":1,"error":{"code":1,"message":"x"}}"#,
    ] {
        assert_eq!(target(body), Ok(None), "{body}");
    }
}

#[test]
fn the_rule_is_that_of_what_the_parameters_name() {
    let uri = r#"{"name":"n","uri":"notes://a"}"#;
    for method in [
        "resources/read",
        "resources/subscribe",
        "resources/unsubscribe",
    ] {
        assert_eq!(
            of(method, uri),
            operation("Resource(\"notes://a\")"),
            "{method}"
        );
    }
    assert_eq!(of("tools/call", uri), operation("Tool(\"n\")"));
    assert_eq!(of("prompts/get", uri), operation("Prompt(\"n\")"));
    let prompt = r#"{"ref":{"type":"ref/prompt","name":"n"},"name":"x","argument":{"name":"a"}}"#;
    assert_eq!(
        of("completion/complete", prompt),
        operation("Prompt(\"n\")")
    );
    let resource = r#"{"uri":"x","ref":{"uri":"notes://{noteId}","type":"ref/resource"}}"#;
    assert_eq!(
        of("completion/complete", resource),
        operation("Resource(\"notes://{noteId}\")")
    );
    for method in [
        "tasks/get",
        "tasks/result",
        "tasks/update",
        "tasks/cancel",
        "tasks/other",
    ] {
        let task = Ok(Some("Task(\"t\")".to_owned()));
        assert_eq!(of(method, r#"{"taskId":"t"}"#), task, "{method}");
    }
}

#[test]
fn every_other_method_needs_a_rule_of_its_own() {
    for method in [
        "acme/export",
        "acme/list",
        "tools/calls",
        "resources/write",
        "sampling/createMessage",
        "",
    ] {
        let expected = operation(&format!("Method({method:?})"));
        assert_eq!(of(method, "{}"), expected, "{method}");
        let notification = format!(r#"{{"method":"{method}"}}"#);
        assert_eq!(target(&notification), expected, "{method}");
    }
}

#[test]
fn what_is_not_named_clearly_is_refused() {
    let long = "a".repeat(MAX_NAME + 1);
    let long_uri = format!(r#"{{"uri":"notes://{}"}}"#, "a".repeat(MAX_URI));
    for (method, params) in [
        ("prompts/get", "{}"),
        ("prompts/get", r#"{"name":1}"#),
        ("prompts/get", r#"{"name":""}"#),
        ("prompts/get", r#"{"name":"a","Name":"b"}"#),
        ("prompts/get", r#"{"name":"a\u0000"}"#),
        ("prompts/get", &*format!(r#"{{"name":"{long}"}}"#)),
        ("resources/read", "{}"),
        ("resources/read", "[\"notes://a\"]"),
        ("resources/read", r#"{"uri":["notes://a"]}"#),
        ("resources/read", r#"{"uri":"notes://a","URI":"notes://b"}"#),
        ("resources/read", r#"{"uri":"notes://a/../b"}"#),
        ("resources/read", r#"{"uri":"notes://a/%2e%2e/b"}"#),
        ("resources/read", r#"{"uri":"NOTES://a"}"#),
        ("resources/read", r#"{"uri":"notes://A"}"#),
        ("resources/read", r#"{"uri":"notes:\\\\a"}"#),
        ("resources/read", &*long_uri),
        ("resources/subscribe", "{}"),
        ("resources/unsubscribe", "{}"),
        ("tasks/get", "{}"),
        ("tasks/cancel", r#"{"taskid":"t"}"#),
        ("completion/complete", "{}"),
        ("completion/complete", r#"{"ref":"x"}"#),
        (
            "completion/complete",
            r#"{"ref":{"type":"ref/tool","name":"x"}}"#,
        ),
        ("completion/complete", r#"{"ref":{"name":"x"}}"#),
        ("completion/complete", r#"{"ref":{"type":"ref/prompt"}}"#),
        (
            "completion/complete",
            r#"{"ref":{"type":"ref/prompt","name":"x","uri":"notes://a"}}"#,
        ),
        (
            "completion/complete",
            r#"{"ref":{"type":"ref/resource","name":"x","uri":"notes://a"}}"#,
        ),
        (
            "completion/complete",
            r#"{"ref":{"type":"ref/resource","uri":"notes://a/../b"}}"#,
        ),
        (
            "completion/complete",
            r#"{"ref":{"type":"ref/prompt","name":"x","Name":"y"}}"#,
        ),
        (
            "completion/complete",
            r#"{"ref":{"type":"ref/prompt","name":"x"},"Ref":{}}"#,
        ),
    ] {
        assert_eq!(of(method, params), Err(-32602), "{method} {params}");
    }
    // Of what any token may do nothing is looked at.
    assert_eq!(
        of("tools/list", r#"{"uri":"NOTES://a","Name":1}"#),
        Ok(None)
    );
}

#[test]
fn a_method_that_some_server_takes_for_another() {
    for method in [
        "Tools/Call",
        "RESOURCES/READ",
        "prompts/get\\u0000",
        "taſks/get",
        "acme\\u0000",
    ] {
        let body = format!(r#"{{"id":1,"method":"{method}","params":{{"taskId":"t"}}}}"#);
        assert_eq!(target(&body), Err(-32600), "{method}");
    }
    let long = "a".repeat(MAX_NAME + 1);
    assert_eq!(of(&long, "{}"), Err(-32600));
}

#[test]
fn every_guarded_message_of_a_batch_is_found_in_order() {
    let body = r#"[{"method":"tools/call","params":{"name":"a"}},{"method":"ping"},
        {"method":"acme/x"},{"method":"resources/read","params":{"uri":"notes://b"}}]"#;
    let messages = Messages::read(body.as_bytes()).unwrap();
    let names: Vec<&str> = messages
        .guarded()
        .map(|guarded| guarded.target.name())
        .collect();
    assert_eq!(names, ["a", "acme/x", "notes://b"]);
}
