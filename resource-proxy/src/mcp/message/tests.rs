use super::*;

fn tools(body: &str) -> Vec<String> {
    let messages =
        Messages::read(body.as_bytes()).unwrap_or_else(|fault| panic!("{body}\n{fault}"));
    let names = messages.guarded().map(|guarded| guarded.target.name());
    names.map(str::to_owned).collect()
}

fn fault(body: impl AsRef<[u8]>) -> Fault {
    match Messages::read(body.as_ref()) {
        Ok(messages) => panic!("{messages:?}"),
        Err(fault) => fault,
    }
}

#[test]
fn the_called_tool_is_found_wherever_it_stands() {
    for body in [
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read","arguments":{"name":"x"}}}"#,
        r#"{"params":{"arguments":{"method":"x","n":[1,{"a":1e999}]},"name":"read"},"method":"tools/call"}"#,
        r#"{"method":"tools\/call","params":{"n\u0061me":"re\u0061d"}}"#,
        "\n{ \"method\" : \"tools/call\" , \"params\" : { \"name\" : \"read\" } }\r\n",
    ] {
        assert_eq!(tools(body), ["read"], "{body}");
    }
}

#[test]
fn names_are_borrowed_from_the_body() {
    let body = br#"{"method":"tools/call","params":{"name":"read"}}"#;
    let messages = Messages::read(body).unwrap();
    let message = messages.iter().next().unwrap();
    assert!(matches!(message.method, Some(Cow::Borrowed(_))));
    assert!(matches!(message.params.name, Some(Cow::Borrowed(_))));
}

#[test]
fn what_is_not_guarded_is_read_too() {
    for body in [
        r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{"method":"tools/call","params":{"name":"x"}}}"#,
        r#"{"method":"tools/list","params":{"name":{"a":[1]},"Name":1,"_meta":[],"ref":1}}"#,
        r#"{"method":"ping","params":[1,2]}"#,
        r#"{"method":"ping","params":null}"#,
    ] {
        assert!(tools(body).is_empty(), "{body}");
    }
}

#[test]
fn every_call_of_a_batch_is_found() {
    let call = |tool| format!(r#"{{"method":"tools/call","params":{{"name":"{tool}"}}}}"#);
    let body = format!(r#"[{},{{"method":"ping"}},{}]"#, call("a"), call("b"));
    assert_eq!(tools(&body), ["a", "b"]);
    let many = vec![call("a"); MAX_BATCH + 1].join(",");
    assert_eq!(fault(format!("[{many}]")).code(), -32600);
    assert_eq!(fault("[]").code(), -32600);
}

#[test]
fn duplicate_json_keys() {
    for body in [
        r#"{"method":"ping","method":"tools/call","params":{"name":"a"}}"#,
        r#"{"method":"ping","m\u0065thod":"tools/call"}"#,
        r#"{"method":"tools/call","params":{"name":"a"},"params":{"name":"b"}}"#,
        r#"{"method":"tools/call","params":{"name":"a","name":"b"}}"#,
        r#"{"method":"tools/call","params":{"name":"a","n\u0061me":"b"}}"#,
        r#"{"method":"tools/call","params":{"name":"a","arguments":{},"arguments":{}}}"#,
        r#"[{"method":"ping","method":"tools/call"}]"#,
        r#"{"id":1,"id":2,"method":"ping"}"#,
    ] {
        assert_eq!(fault(body).code(), -32600, "{body}");
    }
}

#[test]
fn a_key_that_a_lenient_parser_takes_for_another() {
    for body in [
        r#"{"method":"ping","Method":"tools/call","params":{"name":"a"}}"#,
        r#"{"METHOD":"tools/call","params":{"name":"a"}}"#,
        r#"{"method":"tools/call","params":{"name":"a"},"paramſ":{"name":"b"}}"#,
        r#"{"method":"Tools/Call","params":{"name":"a"}}"#,
        // What ends at a NUL to a parser in C.
        r#"{"method\u0000":"tools/call","method":"ping","params":{"name":"a"}}"#,
        r#"{"method":"tools/call\u0000","params":{"name":"a"}}"#,
    ] {
        assert_eq!(fault(body).code(), -32600, "{body}");
    }
    for body in [
        r#"{"method":"tools/call","params":{"name":"a","Name":"b"}}"#,
        r#"{"method":"tools/call","params":{"NAME":"b"}}"#,
        r#"{"method":"tools/call","params":{"name\u0000":"b","name":"a"}}"#,
        r#"{"method":"tools/call","params":{"name":"a\u0000"}}"#,
    ] {
        assert_eq!(fault(body).code(), -32602, "{body}");
    }
    for (key, name) in [
        ("tas\u{212a}", "task"),
        ("param\u{17f}", "params"),
        ("ur\u{131}", "uri"),
        ("ur\u{130}", "uri"),
        ("uri\u{307}", "uri"),
        ("tools/li\u{fb06}", "tools/list"),
        ("URI", "uri"),
    ] {
        assert!(folds_to(key, name), "{key}");
    }
    // Letters of other scripts that only look alike, and wide ones, are folded to ASCII by nobody.
    for key in ["ur\u{456}", "\u{ff55}ri", "\u{fc}ri", "ur"] {
        assert!(!folds_to(key, "uri"), "{key}");
    }
}

#[test]
fn a_tool_call_without_a_name() {
    for params in [
        "{}",
        "null",
        "[\"read\"]",
        r#"{"name":1}"#,
        r#"{"name":["read"]}"#,
        r#"{"name":null}"#,
    ] {
        let body = format!(r#"{{"method":"tools/call","params":{params}}}"#);
        let id = format!(r#"{{"id":7,"method":"tools/call","params":{params}}}"#);
        assert_eq!(fault(&body).code(), -32602, "{params}");
        assert!(matches!(fault(&id), Fault::Params { id: Some(id), .. } if id == 7));
    }
    assert_eq!(fault(r#"{"method":"tools/call"}"#).code(), -32602);
    const MAX_NAME: usize = 1024;
    let named = |length| {
        let name = "a".repeat(length);
        format!(r#"{{"method":"tools/call","params":{{"name":"{name}"}}}}"#)
    };
    assert_eq!(tools(&named(MAX_NAME)).len(), 1);
    assert_eq!(fault(named(MAX_NAME + 1)).code(), -32602);
}

#[test]
fn a_message_has_a_method_or_is_an_answer() {
    for body in ["{}", r#"{"id":1}"#, r#"{"params":{"name":"a"}}"#, "[{}]"] {
        assert_eq!(fault(body).code(), -32600, "{body}");
    }
    let messages = Messages::read(br#"{"id":1,"result":{}}"#).unwrap();
    assert!(messages.iter().all(|message| message.is_answer));
}

#[test]
fn the_metadata_of_a_request_is_read() {
    let read = |params: &str| {
        let body = format!(r#"{{"id":1,"method":"ping","params":{params}}}"#);
        let messages = Messages::read(body.as_bytes()).unwrap();
        let params = &messages.iter().next().unwrap().params;
        (
            params.version.as_deref().map(str::to_owned),
            params.takes_task,
        )
    };
    let meta = |members: &str| format!(r#"{{"_meta":{{{members}}}}}"#);
    let version = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28""#;
    assert_eq!(read(&meta(version)), (Some("2026-07-28".into()), false));
    for (tasks, takes) in [
        (
            r#"{"extensions":{"io.modelcontextprotocol/tasks":{}}}"#,
            true,
        ),
        (
            r#"{"extensions":{"io.modelcontextprotocol\/tasks":{},"a":1}}"#,
            true,
        ),
        (r#"{"extensions":{"a":{}}}"#, false),
        (r#"{"extensions":5}"#, false),
        ("[]", false),
    ] {
        let params = meta(&format!(
            r#""io.modelcontextprotocol/clientCapabilities":{tasks}"#
        ));
        assert_eq!(read(&params), (None, takes), "{tasks}");
    }
    assert_eq!(read(r#"{"task":{"ttl":1}}"#), (None, true));
    assert_eq!(read(r#"{"_meta":1}"#), (None, false));
    let twice = format!(r#"{{"method":"ping","params":{{"_meta":{{{version},{version}}}}}}}"#);
    assert_eq!(fault(twice).code(), -32600);
}

#[test]
fn an_id_is_a_string_or_a_number() {
    for id in ["1", "-1", "1.5", "\"a\"", "null"] {
        let body = format!(r#"{{"id":{id},"method":"ping"}}"#);
        let messages = Messages::read(body.as_bytes()).unwrap();
        let read = messages.iter().next().unwrap().id.clone();
        assert_eq!(read.unwrap_or_default().to_string(), id);
    }
    for id in ["[0,0,0]", "{\"a\":1}", "true"] {
        let body = format!(r#"{{"id":{id},"method":"ping"}}"#);
        assert_eq!(fault(body).code(), -32600, "{id}");
    }
}

#[test]
fn deeply_nested_or_invalid_json() {
    let nested = |depth: usize| {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        format!(r#"{{"method":"x","params":{{"a":{open}{close}}}}}"#)
    };
    assert_eq!(tools(&nested(MAX_DEPTH - 2)), ["x"]);
    assert_eq!(fault(nested(MAX_DEPTH - 1)).code(), -32600);
    assert_eq!(fault("[".repeat(1_000_000)).code(), -32600);
    let brackets_in_a_string = format!(r#"{{"method":"{}\\\"["}}"#, "[".repeat(500));
    assert_eq!(tools(&brackets_in_a_string).len(), 1);
    for body in [
        "",
        "{",
        "nonsense",
        r#"{"method":"x"} {"method":"tools/call"}"#,
        r#"{"method":"x",}"#,
        r#"{'method':'x'}"#,
        "\u{feff}{\"method\":\"x\"}",
        r#"{"method":"\ud800"}"#,
    ] {
        assert_eq!(fault(body).code(), -32700, "{body}");
    }
    assert_eq!(fault(b"{\"method\":\"\xff\"}").code(), -32700);
    for body in [
        "1",
        "\"tools/call\"",
        "null",
        r#"{"method":1}"#,
        "[[]]",
        r#"{"method":"x","params":"y"}"#,
    ] {
        assert_eq!(fault(body).code(), -32600, "{body}");
    }
}
