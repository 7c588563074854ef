use serde_json::{Value, json};

use super::*;

const NOW: Duration = Duration::from_secs(1_000_000);

fn judged(answer: Value) -> Result<Judgement, SourceError> {
    let resource = Resource::parse("https://h/mcp").unwrap();
    judge(serde_json::from_value(answer).unwrap(), &resource, NOW)
}

fn good(changes: &Value) -> Value {
    let mut answer = json!({
        "active": true, "aud": "https://h/mcp", "client_id": "c", "sub": "s",
        "scope": "a b", "exp": 1_000_060, "token_type": "Bearer",
    });
    for (key, value) in changes.as_object().unwrap() {
        answer[key] = value.clone();
    }
    answer
}

#[test]
fn a_good_answer_names_the_caller() {
    let Judgement { verdict, remaining } = judged(good(&json!({}))).unwrap();
    let identity = verdict.unwrap();
    assert_eq!((&*identity.client_id, &*identity.subject), ("c", "s"));
    assert_eq!(identity.scopes, ["a", "b"]);
    assert_eq!(remaining, Duration::from_secs(60));
}

#[test]
fn forms_that_servers_use_are_understood() {
    for changes in [
        json!({ "aud": ["https://other", "https://h/mcp"] }),
        json!({ "scope": ["a", "b"] }),
        json!({ "exp": 1_000_060.5 }),
        json!({ "exp": null }),
        json!({ "token_type": "bearer" }),
        json!({ "token_type": null }),
        json!({ "sub": null }),
        json!({ "client_id": null }),
        json!({ "unknown": { "a": [1] } }),
        json!({ "cnf": null }),
    ] {
        let identity = judged(good(&changes)).unwrap().verdict.unwrap();
        assert_eq!(identity.scopes, ["a", "b"], "{changes}");
    }
    let no_scope = judged(good(&json!({ "scope": null })))
        .unwrap()
        .verdict
        .unwrap();
    assert!(no_scope.scopes.is_empty());
}

#[test]
fn a_bad_token_is_refused() {
    for changes in [
        json!({ "active": false }),
        json!({ "aud": "https://h/mcp-x" }),
        json!({ "aud": "https://h" }),
        json!({ "aud": [] }),
        json!({ "aud": null }),
        json!({ "exp": 1_000_000 }),
        json!({ "exp": 0 }),
        json!({ "exp": -5 }),
        json!({ "token_type": "DPoP" }),
        json!({ "cnf": { "jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" } }),
    ] {
        let verdict = judged(good(&changes)).unwrap().verdict;
        assert!(matches!(verdict, Err(Rejection::Invalid(_))), "{changes}");
    }
    assert!(judged(json!({ "active": false })).unwrap().verdict.is_err());
}

#[test]
fn an_answer_about_nobody_is_no_answer() {
    let answer = good(&json!({ "client_id": null, "sub": null }));
    assert!(matches!(judged(answer), Err(SourceError::Malformed(_))));
}

#[test]
fn what_client_and_subject_may_have_is_apart_from_what_the_token_holds() {
    let judged = |changes: &Value| judged(good(changes)).unwrap().verdict.unwrap();
    let identity = judged(&json!({ "grantable_scope": "a b c" }));
    assert_eq!(identity.scopes, ["a", "b"]);
    assert_eq!(identity.grantable, ["a", "b", "c"]);
    for grantable in [json!(null), json!("")] {
        let identity = judged(&json!({ "grantable_scope": grantable }));
        assert!(identity.grantable.is_empty(), "{grantable}");
    }
}
