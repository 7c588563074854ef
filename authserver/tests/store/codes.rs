//! Authorization codes.

use std::time::Duration;

use futures::future::join_all;
use mcp_authserver::oauth::code::CodeAttempt;
use mcp_authserver::oauth::grant::{LoginMark, Refusal};

use crate::fixture::{
    ABSOLUTE, ACCESS, Fixture, MAIL, MINUTE, NOTES, NOW, OTHER_CLIENT, RIGHT, VERIFIER, scopes,
};

const BY_ANOTHER: CodeAttempt<'_> = CodeAttempt {
    client_id: OTHER_CLIENT,
    ..RIGHT
};

pub async fn a_code_is_redeemed_for_what_was_granted(f: &Fixture) {
    let code = f.authorize(NOW).await;
    let tokens = f.redeem(&code, NOW).await.unwrap();
    let issued = tokens.issued;
    assert_eq!(issued.grant.subject.as_deref(), Some("alice"));
    assert_eq!(issued.grant.resource, NOTES);
    assert_eq!(issued.grant.expires_at, NOW.plus(ABSOLUTE));
    assert_eq!(issued.scopes, scopes("notes:read notes:write"));
    assert_eq!(issued.access.expires_at, NOW.plus(ACCESS));
    assert_eq!(issued.nonce.as_deref(), Some("n-1"));
    assert!(f.is_active(&tokens.access, NOW).await);
    let hashes = tokens.refresh.hashes(&f.pepper);
    let granted = f.store.grant_of(&hashes, NOW).await.unwrap().unwrap();
    assert_eq!(granted, issued.grant);
    assert_eq!(granted.login, Some(LoginMark::new("login of alice".into())));
    assert!(f.refresh(&tokens.refresh, NOW).await.is_ok());

    // OAuth 2.1 sends neither of the two that may be left out.
    let code = f.authorize(NOW).await;
    let attempt = CodeAttempt {
        redirect_uri: None,
        resource: None,
        ..RIGHT
    };
    assert!(f.redeem_as(&code, attempt, NOW).await.is_ok());
}

pub async fn code_replay_revokes_the_family(f: &Fixture) {
    let bystander = f.family(NOW).await;
    let code = f.authorize(NOW).await;
    let tokens = f.redeem(&code, NOW).await.unwrap();
    let newer = f.refresh(&tokens.refresh, NOW).await.unwrap();
    // A day later the code has long expired, and is recognised still.
    let later = NOW.plus(MINUTE * 60 * 24);
    let newest = f.refresh(&newer.refresh, later).await.unwrap();
    assert!(f.is_active(&newest.access, later).await);

    let replay = f.redeem(&code, later).await;
    assert_eq!(replay.unwrap_err(), Refusal::Reused);

    for dead in [&tokens, &newer, &newest] {
        assert!(!f.is_active(&dead.access, NOW).await);
        let refusal = f.refresh(&dead.refresh, later).await.unwrap_err();
        assert_eq!(refusal, Refusal::Unknown);
    }
    assert!(f.is_active(&bystander.access, NOW).await);
    assert_eq!(f.redeem(&code, later).await.unwrap_err(), Refusal::Unknown);
}

pub async fn replay_by_another_client_revokes_nothing(f: &Fixture) {
    let code = f.authorize(NOW).await;
    let tokens = f.redeem(&code, NOW).await.unwrap();
    let replay = f.redeem_as(&code, BY_ANOTHER, NOW).await;
    assert_eq!(replay.unwrap_err(), Refusal::AnotherClient);
    assert!(f.is_active(&tokens.access, NOW).await);
    assert!(f.refresh(&tokens.refresh, NOW).await.is_ok());
}

pub async fn sixteen_way_race_on_one_code(f: &Fixture) {
    for _ in 0..10 {
        let code = f.authorize(NOW).await;
        let outcomes = join_all((0..16).map(|_| f.redeem(&code, NOW))).await;
        let (won, lost): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
        assert_eq!(won.len(), 1);
        for refusal in lost {
            let refusal = refusal.unwrap_err();
            assert!(
                matches!(refusal, Refusal::Reused | Refusal::Unknown),
                "{refusal:?}"
            );
        }
        // The losers are replays: what the winner got is dead.
        let tokens = won.into_iter().next().unwrap().unwrap();
        assert!(!f.is_active(&tokens.access, NOW).await);
    }
}

pub async fn another_clients_code(f: &Fixture) {
    let code = f.authorize(NOW).await;
    for _ in 0..10 {
        let wrong = CodeAttempt {
            code_verifier: "wrong",
            ..BY_ANOTHER
        };
        for attempt in [BY_ANOTHER, wrong] {
            let refusal = f.redeem_as(&code, attempt, NOW).await.unwrap_err();
            assert_eq!(refusal, Refusal::AnotherClient);
        }
    }
    assert!(
        f.redeem(&code, NOW).await.is_ok(),
        "it costs the owner nothing"
    );
}

pub async fn expired_code(f: &Fixture) {
    let last = NOW.plus(MINUTE - Duration::from_millis(1));
    let code = f.authorize(NOW).await;
    assert!(f.redeem(&code, last).await.is_ok());
    let code = f.authorize(NOW).await;
    let refusal = f.redeem(&code, NOW.plus(MINUTE)).await.unwrap_err();
    assert_eq!(refusal, Refusal::Expired);
}

pub async fn another_redirect(f: &Fixture) {
    let code = f.authorize(NOW).await;
    for uri in [
        "",
        "http://127.0.0.1:7777/callbac",
        "http://127.0.0.1:7777/callback/",
    ] {
        let attempt = CodeAttempt {
            redirect_uri: Some(uri),
            ..RIGHT
        };
        let refusal = f.redeem_as(&code, attempt, NOW).await.unwrap_err();
        assert_eq!(refusal, Refusal::RedirectUri, "{uri:?}");
    }
    assert!(f.redeem(&code, NOW).await.is_ok());
}

pub async fn another_resource(f: &Fixture) {
    let code = f.authorize(NOW).await;
    let attempt = CodeAttempt {
        resource: Some(MAIL),
        ..RIGHT
    };
    let refusal = f.redeem_as(&code, attempt, NOW).await.unwrap_err();
    assert_eq!(refusal, Refusal::Resource);
    assert!(f.redeem(&code, NOW).await.is_ok());
}

pub async fn wrong_verifier_has_five_attempts(f: &Fixture) {
    let wrong = VERIFIER.to_lowercase();
    let attempt = CodeAttempt {
        code_verifier: &wrong,
        ..RIGHT
    };
    let patient = f.authorize(NOW).await;
    for _ in 0..4 {
        let refusal = f.redeem_as(&patient, attempt, NOW).await.unwrap_err();
        assert_eq!(refusal, Refusal::CodeVerifier);
    }
    assert!(f.redeem(&patient, NOW).await.is_ok());

    // The guesses count one by one, although they come together.
    let code = f.authorize(NOW).await;
    let guesses = join_all((0..12).map(|_| f.redeem_as(&code, attempt, NOW))).await;
    let counted = guesses
        .iter()
        .filter(|outcome| matches!(outcome, Err(Refusal::CodeVerifier)))
        .count();
    assert_eq!(counted, 5);
    let refusal = f.redeem(&code, NOW).await.unwrap_err();
    assert_eq!(refusal, Refusal::TooManyAttempts);
}

pub async fn a_refresh_token_used_as_a_code(f: &Fixture) {
    let tokens = f.family(NOW).await;
    for token in [&tokens.refresh, &tokens.access] {
        assert_eq!(f.redeem(token, NOW).await.unwrap_err(), Refusal::Unknown);
    }
    let code = f.authorize(NOW).await;
    for token in [&code, &tokens.access] {
        assert_eq!(f.refresh(token, NOW).await.unwrap_err(), Refusal::Unknown);
    }
    assert!(f.refresh(&tokens.refresh, NOW).await.is_ok());
}
