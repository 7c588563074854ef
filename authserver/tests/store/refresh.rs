//! Refresh tokens.

use std::time::Duration;

use futures::future::join_all;
use mcp_authserver::oauth::grant::Refusal;
use mcp_authserver::oauth::refresh::RefreshAttempt;
use mcp_authserver::oauth::refresh::RefreshKind::{LostResponse, Rotation, Sibling};

use crate::fixture::{
    ABSOLUTE, ACCESS, Fixture, GRACE, IDLE, MAIL, MINUTE, NOW, OTHER_CLIENT, REFRESH, scopes,
};

const MILLISECOND: Duration = Duration::from_millis(1);

pub async fn rotation(f: &Fixture) {
    let mut tokens = f.family(NOW).await;
    let mut now = NOW;
    for _ in 1..10 {
        now = now.plus(MINUTE * 14);
        tokens = f.refresh(&tokens.refresh, now).await.unwrap();
        assert_eq!(tokens.kind, Some(Rotation));
        assert_eq!(tokens.issued.access.expires_at, now.plus(ACCESS));
        assert!(f.is_active(&tokens.access, now).await);
    }
}

pub async fn reuse_after_the_grace_window_ends_the_family(f: &Fixture) {
    let first = f.family(NOW).await;
    let second = f.refresh(&first.refresh, NOW).await.unwrap();
    let later = NOW.plus(GRACE + MINUTE);
    let third = f.refresh(&second.refresh, NOW).await.unwrap();
    assert!(f.is_active(&third.access, later).await);

    let refusal = f.refresh(&first.refresh, later).await.unwrap_err();
    assert_eq!(refusal, Refusal::Reused);

    for tokens in [&first, &second, &third] {
        assert!(!f.is_active(&tokens.access, later).await);
    }
    let refusal = f.refresh(&third.refresh, later).await.unwrap_err();
    assert_eq!(refusal, Refusal::Unknown);
}

pub async fn reuse_inside_the_grace_window_gets_a_sibling(f: &Fixture) {
    let first = f.family(NOW).await;
    let second = f.refresh(&first.refresh, NOW).await.unwrap();
    let used_at = second.issued.grant.changed_at;
    let inside = used_at.plus(GRACE - MILLISECOND);
    let sibling = f.refresh(&first.refresh, inside).await.unwrap();
    assert_eq!(sibling.kind, Some(Sibling));
    for tokens in [&first, &second, &sibling] {
        assert!(f.is_active(&tokens.access, inside).await);
    }
    // Each of the two goes on.
    for tokens in [&sibling, &second] {
        let third = f.refresh(&tokens.refresh, inside).await.unwrap();
        assert_eq!(third.kind, Some(Rotation));
    }
    // The sibling has not extended the window.
    let refusal = f.refresh(&first.refresh, inside.plus(MILLISECOND)).await;
    assert_eq!(refusal.unwrap_err(), Refusal::Reused);
}

pub async fn an_unused_token_rotates_however_far_its_siblings_are(f: &Fixture) {
    let first = f.family(NOW).await;
    let mut ahead = f.refresh(&first.refresh, NOW).await.unwrap();
    let behind = f.refresh(&first.refresh, NOW).await.unwrap();
    let mut now = NOW;
    for _ in 0..20 {
        now = now.plus(MINUTE * 2);
        ahead = f.refresh(&ahead.refresh, now).await.unwrap();
    }
    let last = NOW.plus(IDLE - MILLISECOND);
    let outcome = f.refresh(&behind.refresh, last).await.unwrap();
    assert_eq!(outcome.kind, Some(Rotation));
    assert!(f.refresh(&ahead.refresh, last).await.is_ok());
}

pub async fn an_older_token_inside_its_own_grace_window_gets_a_sibling(f: &Fixture) {
    let first = f.family(NOW).await;
    let mut newest = f.refresh(&first.refresh, NOW).await.unwrap();
    for _ in 0..100 {
        newest = f.refresh(&newest.refresh, NOW).await.unwrap();
    }
    let sibling = f.refresh(&first.refresh, NOW).await.unwrap();
    assert_eq!(sibling.kind, Some(Sibling));
    for tokens in [&newest, &sibling] {
        assert!(f.refresh(&tokens.refresh, NOW).await.is_ok());
    }
}

pub async fn a_lost_response_is_forgiven_once(f: &Fixture) {
    let later = NOW.plus(GRACE * 2);
    // Which token ends the family afterwards: one that was lost, or the one that was presented already.
    for again in 0..3 {
        let first = f.family(NOW).await;
        let second = f.refresh(&first.refresh, NOW).await.unwrap();
        let lost = [
            f.refresh(&second.refresh, NOW).await.unwrap(),
            f.refresh(&second.refresh, NOW).await.unwrap(),
        ];
        let forgiven = f.refresh(&second.refresh, later).await.unwrap();
        assert_eq!(forgiven.kind, Some(LostResponse));
        let next = f.refresh(&forgiven.refresh, later).await.unwrap();
        assert_eq!(next.kind, Some(Rotation));

        let void = [&lost[0].refresh, &lost[1].refresh, &second.refresh][again];
        let refusal = f.refresh(void, later).await.unwrap_err();
        assert_eq!(refusal, Refusal::Reused);
        assert!(!f.is_active(&next.access, later).await);
    }
}

/// The other processes that share the family go on.
pub async fn a_lost_response_is_no_matter_for_siblings(f: &Fixture) {
    let first = f.family(NOW).await;
    let unlucky = f.refresh(&first.refresh, NOW).await.unwrap();
    let other = f.refresh(&first.refresh, NOW).await.unwrap();
    f.refresh(&unlucky.refresh, NOW).await.unwrap();
    let later = NOW.plus(GRACE * 2);
    let forgiven = f.refresh(&unlucky.refresh, later).await.unwrap();
    assert_eq!(forgiven.kind, Some(LostResponse));
    for tokens in [&other, &forgiven] {
        let next = f.refresh(&tokens.refresh, later).await.unwrap();
        assert_eq!(next.kind, Some(Rotation));
    }
}

pub async fn without_a_grace_period_there_are_no_siblings(f: &Fixture) {
    let none = RefreshAttempt {
        grace: Duration::ZERO,
        ..REFRESH
    };
    let first = f.family(NOW).await;
    let second = f.refresh_as(&first.refresh, none, NOW).await.unwrap();
    let retried = f.refresh_as(&first.refresh, none, NOW).await.unwrap();
    assert_eq!(retried.kind, Some(LostResponse));
    let refusal = f.refresh_as(&second.refresh, none, NOW).await.unwrap_err();
    assert_eq!(refusal, Refusal::Reused);

    let first = f.family(NOW).await;
    let second = f.refresh_as(&first.refresh, none, NOW).await.unwrap();
    f.refresh_as(&second.refresh, none, NOW).await.unwrap();
    let refusal = f.refresh_as(&first.refresh, none, NOW).await.unwrap_err();
    assert_eq!(refusal, Refusal::Reused);
}

pub async fn the_65th_unused_token_displaces_the_one_idle_longest(f: &Fixture) {
    let first = f.family(NOW).await;
    let mut siblings = vec![];
    for _ in 0..66 {
        siblings.push(f.refresh(&first.refresh, NOW).await.unwrap());
    }
    let later = NOW.plus(GRACE * 2);
    let (displaced, kept) = siblings.split_at(2);
    for tokens in displaced {
        let refusal = f.refresh(&tokens.refresh, later).await.unwrap_err();
        assert_eq!(refusal, Refusal::Unknown);
    }
    for tokens in kept {
        let next = f.refresh(&tokens.refresh, later).await.unwrap();
        assert_eq!(next.kind, Some(Rotation));
    }
}

pub async fn the_last_64_used_tokens_are_kept(f: &Fixture) {
    let mut now = NOW;
    let mut chain = vec![f.family(now).await];
    for _ in 0..66 {
        let newest = &chain[chain.len() - 1].refresh;
        let next = f.refresh(newest, now).await.unwrap();
        now = now.plus(GRACE * 2);
        chain.push(next);
    }
    let newest = &chain[66];
    for forgotten in &chain[..2] {
        let refusal = f.refresh(&forgotten.refresh, now).await.unwrap_err();
        assert_eq!(refusal, Refusal::Unknown);
    }
    assert!(f.is_active(&newest.access, NOW).await);
    let refusal = f.refresh(&chain[2].refresh, now).await.unwrap_err();
    assert_eq!(refusal, Refusal::Reused);
    assert!(!f.is_active(&newest.access, NOW).await);
}

pub async fn another_clients_refresh_token(f: &Fixture) {
    let first = f.family(NOW).await;
    let second = f.refresh(&first.refresh, NOW).await.unwrap();
    f.refresh(&second.refresh, NOW).await.unwrap();
    let attempt = RefreshAttempt {
        client_id: OTHER_CLIENT,
        ..REFRESH
    };
    let later = NOW.plus(GRACE * 2);
    for stolen in [&first.refresh, &second.refresh] {
        let refusal = f.refresh_as(stolen, attempt, later).await.unwrap_err();
        assert_eq!(refusal, Refusal::AnotherClient);
    }
    assert!(f.is_active(&second.access, later).await);
}

pub async fn refresh_cannot_widen(f: &Fixture) {
    let tokens = f.family(NOW).await;
    for wider in ["notes:read admin", "admin"] {
        let wider = scopes(wider);
        let attempt = RefreshAttempt {
            scopes: Some(&wider),
            ..REFRESH
        };
        let outcome = f.refresh_as(&tokens.refresh, attempt, NOW).await;
        assert_eq!(outcome.unwrap_err(), Refusal::Scope);
    }
    let attempt = RefreshAttempt {
        resource: Some(MAIL),
        ..REFRESH
    };
    let outcome = f.refresh_as(&tokens.refresh, attempt, NOW).await;
    assert_eq!(outcome.unwrap_err(), Refusal::Resource);
    let unharmed = f.refresh(&tokens.refresh, NOW).await.unwrap();
    assert_eq!(unharmed.kind, Some(Rotation));
}

pub async fn a_narrower_scope_is_for_one_token(f: &Fixture) {
    let tokens = f.family(NOW).await;
    let narrow = scopes("notes:read");
    let attempt = RefreshAttempt {
        scopes: Some(&narrow),
        ..REFRESH
    };
    let narrowed = f.refresh_as(&tokens.refresh, attempt, NOW).await.unwrap();
    assert_eq!(narrowed.issued.scopes, narrow);
    let active = f.introspect(&narrowed.access, NOW).await.unwrap();
    assert_eq!(active.scopes, narrow);
    let wide_again = f.refresh(&narrowed.refresh, NOW).await.unwrap();
    assert_eq!(wide_again.issued.scopes, scopes("notes:read notes:write"));
}

pub async fn idle_expiry(f: &Fixture) {
    let tokens = f.family(NOW).await;
    let end = NOW.plus(IDLE);
    let refusal = f.refresh(&tokens.refresh, end).await.unwrap_err();
    assert_eq!(refusal, Refusal::Expired);
    let last = end.minus(MILLISECOND);
    assert!(f.refresh(&tokens.refresh, last).await.is_ok());
}

pub async fn the_clients_resource_is_deleted(f: &Fixture) {
    let tokens = f.family(NOW).await;
    f.store.delete_resource("notes").await.unwrap();
    let refusal = f.refresh(&tokens.refresh, NOW).await.unwrap_err();
    assert_eq!(refusal, Refusal::Unknown);
}

pub async fn absolute_expiry(f: &Fixture) {
    let mut tokens = f.family(NOW).await;
    let mut now = NOW;
    let almost = NOW.plus(ABSOLUTE - MINUTE);
    while now < almost {
        now = now.plus(IDLE - MILLISECOND).min(almost);
        tokens = f.refresh(&tokens.refresh, now).await.unwrap();
    }
    let end = NOW.plus(ABSOLUTE);
    assert_eq!(tokens.issued.access.expires_at, end);
    assert!(f.is_active(&tokens.access, end.minus(MILLISECOND)).await);
    assert!(!f.is_active(&tokens.access, end).await);
    let refusal = f.refresh(&tokens.refresh, end).await.unwrap_err();
    assert_eq!(refusal, Refusal::Expired);
    let hashes = tokens.refresh.hashes(&f.pepper);
    let live = f.store.grant_of(&hashes, almost).await.unwrap();
    assert_eq!(live.unwrap().id, tokens.issued.grant.id);
    assert_eq!(f.store.grant_of(&hashes, end).await.unwrap(), None);
}

pub async fn parallel_refreshes_all_succeed(f: &Fixture) {
    for _ in 0..10 {
        let tokens = f.family(NOW).await;
        let outcomes = join_all((0..16).map(|_| f.refresh(&tokens.refresh, NOW))).await;
        let mut rotations = 0;
        for outcome in outcomes {
            let tokens = outcome.unwrap();
            rotations += usize::from(tokens.kind == Some(Rotation));
            assert!(f.is_active(&tokens.access, NOW).await);
        }
        assert_eq!(rotations, 1, "the others are siblings");
    }
}

pub async fn refresh_racing_revoke_nothing_survives(f: &Fixture) {
    for _ in 0..30 {
        let tokens = f.family(NOW).await;
        let hashes = tokens.refresh.hashes(&f.pepper);
        let revoke = f.store.revoke_refresh_token(&hashes, "client");
        let refreshes = join_all((0..8).map(|_| f.refresh(&tokens.refresh, NOW)));
        let (outcomes, revoked) = tokio::join!(refreshes, revoke);
        revoked.unwrap();
        for tokens in outcomes.into_iter().filter_map(Result::ok) {
            assert!(!f.is_active(&tokens.access, NOW).await);
            let refusal = f.refresh(&tokens.refresh, NOW).await.unwrap_err();
            assert_eq!(refusal, Refusal::Unknown);
        }
        assert!(!f.is_active(&tokens.access, NOW).await);
    }
}
