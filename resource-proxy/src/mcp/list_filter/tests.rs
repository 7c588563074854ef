use super::*;
use crate::config::Config;
use crate::config::tests::example;
use crate::mcp::tasks::Call;

const RULES: &str = r#"
access:
  rules:
    - { tools: ["read_*"], scopes: ["notes:read"] }
    - { resources: ["notes://*"], scopes: ["notes:read"] }
    - { prompts: ["p*"], scopes: ["notes:read"] }
"#;

fn view(scopes: &[&str]) -> View {
    by(RULES, scopes)
}

/// Lists are shown whole.
fn whole() -> View {
    by("access: { lists: All }", &[])
}

fn by(rules: &str, scopes: &[&str]) -> View {
    let config = Config::parse(&example(rules)).unwrap();
    View {
        rules: Arc::new(ArcSwap::from_pointee(AccessRules::new(&config))),
        caller: Arc::new(Identity {
            client_id: "client".into(),
            subject: "alice".into(),
            scopes: scopes.iter().map(ToString::to_string).collect(),
            grantable: vec![],
        }),
        tasks: Arc::default(),
        param_headers: Arc::default(),
        says_cache_scope: false,
        extensions: vec![],
    }
}

/// What a caller with the scope to read sees.
fn filtered(text: &str) -> String {
    match view(&["notes:read"]).filter(text.as_bytes()) {
        Ok(Filtered::Changed(changed)) => String::from_utf8(changed).unwrap(),
        Ok(Filtered::Unchanged) => text.to_owned(),
        other => panic!("{other:?}: {text}"),
    }
}

#[test]
fn each_list_shows_what_the_token_may_use() {
    for (list, whole, seen) in [
        (
            "tools",
            r#"{"name":"read_a"}, {"name":"write_a"} ,{"name":"read_b","x":[1,"]"]}"#,
            r#"{"name":"read_a"},{"name":"read_b","x":[1,"]"]}"#,
        ),
        (
            "resources",
            r#"{"uri":"notes://a","name":"x"},{"uri":"other://a"},{"uri":"notes://a/../b"}"#,
            r#"{"uri":"notes://a","name":"x"}"#,
        ),
        (
            "resourceTemplates",
            r#"{"uriTemplate":"notes://{noteId}"},{"uriTemplate":"other://{id}"}"#,
            r#"{"uriTemplate":"notes://{noteId}"}"#,
        ),
        (
            "prompts",
            r#"{"name":"q"},{"name":"p1"}"#,
            r#"{"name":"p1"}"#,
        ),
        ("tools", r#"{"name":"write"}"#, ""),
        ("tools", "", ""),
    ] {
        let text = |list_text: &str| {
            format!(
                "{{\"jsonrpc\": \"2.0\",\"id\":1, \"result\":{{\"{list}\": [{list_text}],\"nextCursor\":\"c\"}} }}\n"
            )
        };
        assert_eq!(filtered(&text(whole)), text(seen), "{list}");
    }
}

#[test]
fn a_list_that_is_allowed_is_not_touched() {
    let text = br#"{"id":1,"result":{"tools":[ {"name":"read_a"} , {"name":"read_b"} ]}}"#;
    assert_eq!(view(&["notes:read"]).filter(text), Ok(Filtered::Unchanged));
    let whole = whole();
    assert_eq!(whole.filter(text), Ok(Filtered::Unchanged));
}

#[test]
fn an_entry_is_seen_only_if_every_reader_reads_an_allowed_name() {
    let list = |entry: &str| format!(r#"{{"id":1,"result":{{"tools":[{entry}]}}}}"#);
    for entry in [
        r#"{"name":"read_a","name":"write_a"}"#,
        r#"{"name":"write_a","name":"read_a"}"#,
        r#"{"name":1}"#,
        r#"{"title":"read_a"}"#,
        "\"read_a\"",
        "null",
    ] {
        assert_eq!(filtered(&list(entry)), list(""), "{entry}");
    }
    let escaped =
        r#"{"id":1,"r\u0065sult":{"t\u006fols":[{"n\u0061me":"\u0072ead_a"},{"name":"write"}]}}"#;
    assert!(!filtered(escaped).contains("write"));
    let twice = r#"{"id":1,"result":{"tools":[]},"result":{"tools":[{"name":"write"}]}}"#;
    assert!(!filtered(twice).contains("write"));
    let batch = r#"[{"id":1,"result":{"tools":[{"name":"write"}]}},{"id":2,"result":{"prompts":[{"name":"q"}]}}]"#;
    assert_eq!(
        filtered(batch),
        r#"[{"id":1,"result":{"tools":[]}},{"id":2,"result":{"prompts":[]}}]"#
    );
}

#[test]
fn what_has_another_shape_passes() {
    for text in [
        r#"{"id":1,"result":{"content":[{"tools":[{"name":"write"}]}]}}"#,
        r#"{"id":1,"result":{"tools":{"name":"write"}}}"#,
        r#"{"id":1,"error":{"code":1,"message":"x"}}"#,
        r#"{"method":"notifications/tools/list_changed"}"#,
        "5",
    ] {
        assert_eq!(filtered(text), text);
    }
    assert_eq!(view(&[]).filter(b"{\"result\":NaN}"), Err(Unreadable));
    assert_eq!(view(&[]).filter(b"{}{}"), Err(Unreadable));
}

#[test]
fn a_list_that_depends_on_the_token_is_cached_by_nobody_else() {
    let view = View {
        says_cache_scope: true,
        ..view(&["notes:read"])
    };
    let filtered = |text: &str| match view.filter(text.as_bytes()) {
        Ok(Filtered::Changed(changed)) => String::from_utf8(changed).unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        filtered(r#"{"result":{"tools":[],"cacheScope":"public","ttlMs":1}}"#),
        r#"{"result":{"tools":[],"cacheScope":"private","ttlMs":1}}"#
    );
    assert_eq!(
        filtered(r#"{"result":{"tools":[{"name":"x"}]}}"#),
        r#"{"result":{"cacheScope":"private","tools":[]}}"#
    );
    let private = br#"{"result":{"tools":[],"cacheScope":"private"}}"#;
    assert_eq!(view.filter(private), Ok(Filtered::Unchanged));
    let content = br#"{"result":{"contents":[],"cacheScope":"public"}}"#;
    assert_eq!(view.filter(content), Ok(Filtered::Unchanged));
}

#[test]
fn an_event_is_seen_by_those_who_may_read_what_it_is_about() {
    let updated = |uri: &str| {
        format!(r#"{{"method":"notifications/resources/updated","params":{{"uri":"{uri}"}}}}"#)
    };
    let reader = view(&["notes:read"]);
    let filter = |text: &str| reader.filter(text.as_bytes());
    assert_eq!(filter(&updated("notes://a")), Ok(Filtered::Unchanged));
    assert_eq!(filter(&updated("other://a")), Ok(Filtered::Removed));
    assert_eq!(
        view(&[]).filter(updated("notes://a").as_bytes()),
        Ok(Filtered::Removed)
    );
    let batch = format!("[{},{}]", updated("notes://a"), updated("other://a"));
    assert!(!filtered(&batch).contains("other"));
    for method in ["notifications/tasks", "notifications/tasks/status"] {
        let event = format!(r#"{{"params":{{"taskId":"t"}},"method":"{method}"}}"#);
        let view = view(&[]);
        assert_eq!(view.filter(event.as_bytes()), Ok(Filtered::Removed));
        let call = Call::new(Operation::Tool("x")).unwrap();
        view.tasks.remember(&view.caller, "t", call);
        assert_eq!(view.filter(event.as_bytes()), Ok(Filtered::Unchanged));
    }
}

#[test]
fn a_list_of_tasks_shows_the_callers_own() {
    let whole = whole();
    let call = Call::new(Operation::Tool("x")).unwrap();
    whole.tasks.remember(&whole.caller, "mine", call);
    let text = br#"{"result":{"tasks":[{"taskId":"other"},{"taskId":"mine"}]}}"#;
    let seen = br#"{"result":{"tasks":[{"taskId":"mine"}]}}"#.to_vec();
    assert_eq!(whole.filter(text), Ok(Filtered::Changed(seen)));
}

#[test]
fn the_rules_of_the_moment_apply() {
    let view = view(&[]);
    let text = br#"{"id":1,"result":{"tools":[{"name":"write"}]}}"#;
    assert_ne!(view.filter(text), Ok(Filtered::Unchanged));
    view.rules.store(whole().rules.load_full());
    assert_eq!(view.filter(text), Ok(Filtered::Unchanged));
}

#[test]
fn a_list_may_show_what_could_be_granted_but_an_event_needs_what_is_held() {
    let mut view = by(&format!("{RULES}  lists: Grantable\n"), &[]);
    let caller = Identity {
        grantable: vec!["notes:read".into()],
        ..Identity::clone(&view.caller)
    };
    view.caller = Arc::new(caller);
    view.says_cache_scope = true;
    for (list, seen) in [
        (
            r#"{"tools":[{"name":"read_a"},{"name":"write"}]}"#,
            r#"{"cacheScope":"private","tools":[{"name":"read_a"}]}"#,
        ),
        (
            r#"{"resources":[{"uri":"notes://a"},{"uri":"other://a"}]}"#,
            r#"{"cacheScope":"private","resources":[{"uri":"notes://a"}]}"#,
        ),
        (
            r#"{"resourceTemplates":[{"uriTemplate":"notes://{id}"},{"uriTemplate":"other://{id}"}]}"#,
            r#"{"cacheScope":"private","resourceTemplates":[{"uriTemplate":"notes://{id}"}]}"#,
        ),
        (
            r#"{"prompts":[{"name":"p1"},{"name":"q"}]}"#,
            r#"{"cacheScope":"private","prompts":[{"name":"p1"}]}"#,
        ),
    ] {
        let (list, seen) = [list, seen]
            .map(|result| format!("{{\"result\":{result}}}"))
            .into();
        assert_eq!(
            view.filter(list.as_bytes()),
            Ok(Filtered::Changed(seen.into_bytes()))
        );
    }
    let event = br#"{"method":"notifications/resources/updated","params":{"uri":"notes://a"}}"#;
    assert_eq!(view.filter(event), Ok(Filtered::Removed));
}
