//! Assertions seen, the signing key, and the removal of what has expired.

use futures::future::join_all;
use mcp_authserver::oauth::grant::Refusal;
use mcpauth_service::clock::UnixTime;

use crate::fixture::{ACCESS, Fixture, MINUTE, NOW};

pub async fn jti_replay(f: &Fixture) {
    let end = NOW.plus(MINUTE);
    let seen = |client: &'static str, jti: &'static str, now: UnixTime| async move {
        !f.store
            .remember_assertion(client, jti, end, now)
            .await
            .unwrap()
    };
    assert!(!seen("a", "1", NOW).await);
    assert!(seen("a", "1", NOW).await);
    assert!(!seen("a", "2", NOW).await);
    assert!(!seen("b", "1", NOW).await, "each client has its own");
    assert!(!seen("a1", "", NOW).await, "a1 and nothing is not a and 1");
    let race = join_all((0..16).map(|_| seen("a", "raced", NOW))).await;
    assert_eq!(race.iter().filter(|seen| !**seen).count(), 1);

    f.remove_expired(NOW).await;
    assert!(seen("a", "1", NOW).await, "remembered until it expires");
}

pub async fn the_signing_key_is_made_once(f: &Fixture) {
    let candidates = (0_u8..8).map(|byte| f.store.signing_key_or(vec![byte; 10]));
    let keys = join_all(candidates).await;
    let first = keys[0].as_ref().unwrap();
    assert!(keys.iter().all(|key| key.as_ref().unwrap() == first));
    assert_eq!(&f.store.signing_key_or(vec![99]).await.unwrap(), first);
}

pub async fn what_has_expired_is_removed_and_nothing_else(f: &Fixture) {
    let code = f.authorize(NOW).await;
    let unredeemed = f.authorize(NOW).await;
    let tokens = f.redeem(&code, NOW).await.unwrap();
    let later = NOW.plus(ACCESS * 2);
    let newer = f.refresh(&tokens.refresh, later).await.unwrap();
    assert!(!f.remove_expired(later).await);

    // The past shows what is still there.
    assert!(!f.is_active(&tokens.access, NOW).await);
    assert_eq!(
        f.redeem(&unredeemed, NOW).await.unwrap_err(),
        Refusal::Unknown
    );
    assert!(f.is_active(&newer.access, later).await);
    assert_eq!(
        f.redeem(&code, later).await.unwrap_err(),
        Refusal::Reused,
        "a used code is remembered as long as its family lives"
    );
}
