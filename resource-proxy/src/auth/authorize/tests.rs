use super::*;
use crate::config::tests::example;

fn rules(more: &str) -> AccessRules {
    AccessRules::new(&Config::parse(&example(more)).unwrap())
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn authorize(rules: &AccessRules, tools: &[&str], held: &[&str]) -> Result<(), Denial> {
    let operations = tools.iter().map(|tool| Operation::Tool(tool));
    rules.authorize(operations, &owned(held), |_, _, _| {})
}

/// What an operation needs.
fn needs(rules: &AccessRules, operation: Operation<'_>) -> Vec<String> {
    rules.decide(operation, &[]).needed.unwrap().to_vec()
}

const RULES: &str = r#"
access:
  rules:
    - { tools: [create_draft], scopes: ["notes:read"] }
    - { tools: ["create_*", "update_*"], scopes: ["notes:write"] }
  unmatched: AnyToken
"#;

#[test]
fn the_first_rule_that_matches_decides() {
    let rules = rules(RULES);
    for (tool, needed) in [
        ("create_draft", &["notes:read"][..]),
        ("create_note", &["notes:write"]),
        ("update_note", &["notes:write"]),
        ("list", &[]),
    ] {
        assert_eq!(needs(&rules, Operation::Tool(tool)), needed, "{tool}");
    }
}

#[test]
fn what_no_rule_matches_needs_every_scope() {
    let rules = rules("");
    let every = ["notes:read", "notes:write"];
    assert_eq!(needs(&rules, Operation::Tool("anything")), every);
    assert!(authorize(&rules, &["anything"], &["notes:read"]).is_err());
    assert_eq!(authorize(&rules, &["anything"], &every), Ok(()));
}

/// A rule is about one kind of operation: a tool, a resource, a prompt and a method may have the same name.
#[test]
fn each_kind_of_operation_has_rules_of_its_own() {
    let kinds = [
        ("tools", Operation::Tool("abc")),
        ("resources", Operation::Resource("abc")),
        ("prompts", Operation::Prompt("abc")),
        ("methods", Operation::Method("abc")),
    ];
    for (key, _) in kinds {
        let rules = rules(&format!(
            "access: {{ rules: [{{ {key}: [\"a*\"], scopes: [\"notes:read\"] }}] }}"
        ));
        for (other, operation) in kinds {
            let needed = needs(&rules, operation);
            let expected: &[&str] = if other == key {
                &["notes:read"]
            } else {
                &["notes:read", "notes:write"]
            };
            assert_eq!(needed, expected, "{key} {other}");
        }
    }
}

#[test]
fn what_is_denied_is_denied_to_every_token() {
    let rules = rules("access: { rules: [{ tools: [list], anyToken: true }], unmatched: Deny }");
    let every = ["notes:read", "notes:write"];
    assert_eq!(authorize(&rules, &["list"], &[]), Ok(()));
    let denied = authorize(&rules, &["list", "other"], &every);
    assert_eq!(denied, Err(Denial::Absent(1)));
}

#[test]
fn a_decision_says_why() {
    let rules = rules(RULES);
    let decided = |tool: &str, held: &[&str]| {
        let decision = rules.decide(Operation::Tool(tool), &owned(held));
        (decision.is_allowed, decision.to_string())
    };
    let why = "access.rules[1], the rule for create_* requires the scopes notes:write";
    assert_eq!(decided("create_note", &[]), (false, why.into()));
    assert_eq!(decided("create_note", &["notes:write"]), (true, why.into()));
    let why = "access.unmatched accepts any token";
    assert_eq!(decided("list", &[]), (true, why.into()));
    let denying = self::rules("access: { unmatched: Deny }");
    let decision = denying.decide(Operation::Prompt("x"), &[]);
    assert_eq!(decision.to_string(), "access.unmatched denies it");
}

#[test]
fn a_denial_names_the_rule_and_the_scopes() {
    let rules = rules(RULES);
    let tools = ["list", "create_draft", "create_note", "create_other"];
    let Err(Denial::Scopes(denial)) = authorize(&rules, &tools, &["notes:read"]) else {
        panic!("allowed");
    };
    assert_eq!(
        denial.to_string(),
        "access.rules[1], the rule for create_* requires the scopes notes:write; the token lacks notes:write"
    );
    assert_eq!(denial.to_ask_for, ["notes:read", "notes:write"]);
    assert_eq!(authorize(&rules, &tools, &["notes:write"]), Ok(()));
    assert_eq!(authorize(&rules, &[], &[]), Ok(()));
}

/// P15: clients that replace their scopes by those of the challenge would lose the ones that they have.
#[test]
fn what_to_ask_for_is_what_is_held_and_what_is_needed() {
    let rules = rules(
        "access: { rules: [{ tools: [a], scopes: [\"notes:read\"] }, { tools: [b], scopes: [\"notes:write\"] }] }",
    );
    let asked = |tool: &str, held: &[&str]| match authorize(&rules, &[tool], held) {
        Err(Denial::Scopes(denial)) => denial.to_ask_for.join(" "),
        other => panic!("{other:?}"),
    };
    assert_eq!(asked("b", &["notes:read"]), "notes:read notes:write");
    assert_eq!(asked("b", &[]), "notes:write");
    assert_eq!(
        asked("b", &["openid", "offline_access", "other"]),
        "notes:write"
    );
}

/// P15: no client is told to ask for it, so no token would do.
#[test]
fn offline_access_is_never_required() {
    let text = example("").replace(
        "{ name: notes:read }",
        "{ name: notes:read }, { name: offline_access }",
    );
    let rules = AccessRules::new(&Config::parse(&text).unwrap());
    let every = ["notes:read", "notes:write"];
    assert_eq!(needs(&rules, Operation::Tool("x")), every);
}

#[test]
fn tool_names_in_other_case_or_unicode_forms_match_nothing() {
    let rules = rules("access: { rules: [{ tools: [\"caf\u{e9}\", get], anyToken: true }] }");
    let every = ["notes:read", "notes:write"];
    for tool in ["get", "caf\u{e9}"] {
        assert!(needs(&rules, Operation::Tool(tool)).is_empty());
    }
    for tool in [
        "Get",
        "GET",
        "get ",
        " get",
        "ge\u{200b}t",
        "cafe\u{301}",
        "ｇｅｔ",
        "CAFÉ",
    ] {
        assert_eq!(needs(&rules, Operation::Tool(tool)), every, "{tool:?}");
    }
}

#[test]
fn a_uri_must_be_allowed_as_it_is_written_and_decoded() {
    let rules = rules(
        r#"access: { rules: [{ resources: ["notes://secret/*"], scopes: [notes:write] }, { resources: ["notes://*%2F*"], scopes: [notes:read] }, { resources: ["notes://*"], anyToken: true }], unmatched: Deny }"#,
    );
    let scopes =
        |uri| match rules.authorize([Operation::Resource(uri)].into_iter(), &[], |_, _, _| {}) {
            Ok(()) => vec![],
            Err(Denial::Scopes(missing)) => missing.missing,
            Err(denial) => panic!("{denial:?}"),
        };
    assert_eq!(scopes("notes://a/b"), owned(&[]));
    assert_eq!(scopes("notes://a%20b"), owned(&[]));
    assert_eq!(scopes("notes://secret/a"), owned(&["notes:write"]));
    assert_eq!(scopes("notes://a%2Fb"), owned(&["notes:read"]));
    assert_eq!(
        scopes("notes://secret%2Fa"),
        owned(&["notes:read", "notes:write"])
    );
    let held = owned(&["notes:read"]);
    let decision = rules.decide(Operation::Resource("notes://secret%2Fa"), &held);
    assert!(!decision.is_allowed, "{decision}");
}

#[test]
fn lists_show_what_is_held_or_grantable_and_calls_need_what_is_held() {
    let text = |lists: &str| {
        format!(
            "access: {{ lists: {lists}, unmatched: Deny, rules: [
               {{ tools: [read], scopes: [\"notes:read\"] }}, {{ tools: [write], scopes: [\"notes:write\"] }},
               {{ tools: [both], scopes: [\"notes:read\", \"notes:write\"] }}, {{ tools: [any], anyToken: true }}] }}"
        )
    };
    let shown = |lists: &str, held: &[&str], grantable: &[&str]| {
        let rules = rules(&text(lists));
        let caller = Identity {
            client_id: "client".into(),
            subject: "alice".into(),
            scopes: owned(held),
            grantable: owned(grantable),
        };
        let tools = ["read", "write", "both", "any", "other"].into_iter();
        let shown = tools.filter(|tool| rules.shows(Operation::Tool(tool), &caller));
        let allowed = |tool: &&str| rules.allows(Operation::Tool(tool), &caller);
        let alone = Identity {
            grantable: vec![],
            ..caller.clone()
        };
        for tool in ["read", "write", "both", "any", "other"] {
            let by_held = rules.allows(Operation::Tool(tool), &alone);
            assert_eq!(allowed(&tool), by_held, "{tool}");
        }
        shown.collect::<Vec<_>>()
    };
    let all = ["read", "write", "both", "any"];
    for (held, grantable, expected) in [
        (&[][..], &[][..], &["any"][..]),
        (&["notes:read"], &[], &["read", "any"]),
        (&["notes:read"], &["notes:read"], &["read", "any"]),
        // Implied scopes count.
        (&["notes:read"], &["notes:write"], &all),
        (&[], &["notes:write"], &all),
        (&["notes:write"], &["notes:read"], &all),
        (&[], &["other"], &["any"]),
    ] {
        assert_eq!(
            shown("Grantable", held, grantable),
            expected,
            "{held:?} {grantable:?}"
        );
    }
    assert_eq!(
        shown("Held", &["notes:read"], &["notes:write"]),
        ["read", "any"]
    );
}

/// Also of those behind the first that is denied: the audit has a line for each.
#[test]
fn each_operation_is_decided_once_and_the_decisions_are_handed_on() {
    let rules = rules(RULES);
    let operations = ["list", "create_note", "list", "create_draft"].map(Operation::Tool);
    for held in [&["notes:write"][..], &["notes:read"], &[]] {
        let held = owned(held);
        let mut told = Vec::new();
        let allowed = rules.authorize(
            operations.into_iter(),
            &held,
            |place, operation, decision| {
                told.push((place, operation, decision.to_string(), decision.is_allowed));
            },
        );
        let expected = operations
            .into_iter()
            .enumerate()
            .map(|(place, operation)| {
                let decision = rules.decide(operation, &held);
                (place, operation, decision.to_string(), decision.is_allowed)
            });
        assert!(told.iter().cloned().eq(expected), "{told:?}");
        let all = told.iter().all(|(.., is_allowed)| *is_allowed);
        assert_eq!(allowed.is_ok(), all, "{told:?}");
    }
}
