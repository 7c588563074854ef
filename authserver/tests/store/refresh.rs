//! Refresh tokens.

use std::time::Duration;

use futures::future::join_all;
use mcp_authserver::oauth::grant::{RefreshAttempt, Refusal};

use crate::fixture::{
    ABSOLUTE, ACCESS, Fixture, GRACE, IDLE, MAIL, MINUTE, NOW, OTHER_CLIENT, REFRESH, scopes,
};

const MILLISECOND: Duration = Duration::from_millis(1);

pub async fn rotation(f: &Fixture) {
    let mut tokens = f.family(NOW).await;
    let mut now = NOW;
    for generation in 1..10 {
        now = now.plus(MINUTE * 14);
        tokens = f.refresh(&tokens.refresh, now).await.unwrap();
        assert_eq!(tokens.issued.grant.generation, generation);
        assert_eq!(tokens.issued.access.expires_at, now.plus(ACCESS));
        assert!(f.is_active(&tokens.access, now).await);
    }
}

pub async fn reuse_after_the_grace_window_ends_the_family(f: &Fixture) {
    let first = f.family(NOW).await;
    let second = f.refresh(&first.refresh, NOW).await.unwrap();
    let later = NOW.plus(GRACE);
    assert!(f.is_active(&second.access, later).await);

    let refusal = f.refresh(&first.refresh, later).await.unwrap_err();
    assert_eq!(refusal, Refusal::Reused);

    for tokens in [&first, &second] {
        assert!(!f.is_active(&tokens.access, later).await);
    }
    let refusal = f.refresh(&second.refresh, later).await.unwrap_err();
    assert_eq!(refusal, Refusal::Unknown);
}

pub async fn reuse_inside_the_grace_window_gets_a_sibling(f: &Fixture) {
    let first = f.family(NOW).await;
    let second = f.refresh(&first.refresh, NOW).await.unwrap();
    let inside = NOW.plus(GRACE - MILLISECOND);
    let sibling = f.refresh(&first.refresh, inside).await.unwrap();
    assert_eq!(sibling.issued.grant.generation, 1);
    for tokens in [&first, &second, &sibling] {
        assert!(f.is_active(&tokens.access, inside).await);
    }
    // Each of the two goes on; the second to do so is in the first's grace.
    let third = f.refresh(&sibling.refresh, inside).await.unwrap();
    assert_eq!(third.issued.grant.generation, 2);
    let third = f.refresh(&second.refresh, inside).await.unwrap();
    assert_eq!(third.issued.grant.generation, 2);
}

pub async fn too_many_siblings(f: &Fixture) {
    let first = f.family(NOW).await;
    let mut newest = f.refresh(&first.refresh, NOW).await.unwrap();
    for _ in 0..10 {
        newest = f.refresh(&first.refresh, NOW).await.unwrap();
    }
    let refusal = f.refresh(&first.refresh, NOW).await.unwrap_err();
    assert_eq!(refusal, Refusal::Reused);
    assert!(!f.is_active(&newest.access, NOW).await);

    // They are counted one by one, although they come together.
    for _ in 0..5 {
        let first = f.family(NOW).await;
        let outcomes = join_all((0..16).map(|_| f.refresh(&first.refresh, NOW))).await;
        let count = |wanted| {
            let outcomes = outcomes.iter().map(|outcome| outcome.as_ref().map(|_| ()));
            outcomes.filter(|outcome| *outcome == wanted).count()
        };
        assert_eq!(count(Ok(())), 11);
        assert_eq!(count(Err(&Refusal::Reused)), 1);
        assert_eq!(count(Err(&Refusal::Unknown)), 4);
    }
}

pub async fn an_older_generation_in_the_same_second(f: &Fixture) {
    let first = f.family(NOW).await;
    let second = f.refresh(&first.refresh, NOW).await.unwrap();
    let third = f.refresh(&second.refresh, NOW).await.unwrap();
    let refusal = f.refresh(&first.refresh, NOW).await.unwrap_err();
    assert_eq!(refusal, Refusal::Reused);
    assert!(!f.is_active(&third.access, NOW).await);
}

pub async fn another_clients_refresh_token(f: &Fixture) {
    let first = f.family(NOW).await;
    let second = f.refresh(&first.refresh, NOW).await.unwrap();
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
    assert!(f.refresh(&second.refresh, later).await.is_ok());
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
    assert_eq!(unharmed.issued.grant.generation, 1);
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
    let live = f
        .store
        .grant_of_refresh_token(&hashes, almost)
        .await
        .unwrap();
    assert_eq!(live.unwrap().id, tokens.issued.grant.id);
    assert_eq!(
        f.store.grant_of_refresh_token(&hashes, end).await.unwrap(),
        None
    );
}

pub async fn parallel_refreshes_all_succeed(f: &Fixture) {
    for _ in 0..10 {
        let tokens = f.family(NOW).await;
        let outcomes = join_all((0..11).map(|_| f.refresh(&tokens.refresh, NOW))).await;
        for outcome in outcomes {
            let tokens = outcome.unwrap();
            assert_eq!(tokens.issued.grant.generation, 1);
            assert!(f.is_active(&tokens.access, NOW).await);
        }
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
