//! Assertions seen, the signing key, and the removal of what has expired.

use futures::future::join_all;
use mcp_authserver::keys::rotation::KeyRecord;
use mcp_authserver::oauth::grant::Refusal;
use mcpauth_service::clock::UnixTime;
use mcpauth_wire::authserver_config::SigningAlgorithm;

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

fn key(algorithm: SigningAlgorithm, sequence: u32, sealed: u8) -> KeyRecord {
    KeyRecord {
        algorithm,
        sequence,
        not_before: NOW.plus(MINUTE * sequence),
        retired_at: None,
        sealed: vec![1, 1, sealed],
    }
}

async fn keys(f: &Fixture) -> Vec<KeyRecord> {
    let mut keys = f.store.signing_keys().await.unwrap();
    keys.sort_by_key(|key| (key.algorithm, key.sequence));
    keys
}

pub async fn each_signing_key_is_made_once(f: &Fixture) {
    use SigningAlgorithm::{Es256, Rs256};
    assert_eq!(keys(f).await, []);
    f.store.add_signing_keys(&[]).await.unwrap();
    // Replicas that start together.
    let candidates: Vec<_> = (0..8)
        .map(|by| [key(Es256, 0, by), key(Rs256, 0, by)])
        .collect();
    join_all(candidates.iter().map(|keys| f.store.add_signing_keys(keys))).await;
    let first = keys(f).await;
    assert!(
        candidates.iter().any(|made| made[..] == first[..]),
        "{first:?}"
    );
    // And that rotate together.
    let candidates: Vec<_> = (0..8).map(|by| [key(Rs256, 1, by)]).collect();
    join_all(candidates.iter().map(|keys| f.store.add_signing_keys(keys))).await;
    let both = keys(f).await;
    assert_eq!(both[..2], first);
    assert_eq!(both.len(), 3);
}

pub async fn a_signing_key_is_replaced_and_removed_if_it_is_still_the_same(f: &Fixture) {
    let before = key(SigningAlgorithm::Es256, 0, 1);
    f.store
        .add_signing_keys(std::slice::from_ref(&before))
        .await
        .unwrap();
    let retired = KeyRecord {
        retired_at: Some(NOW),
        ..before.clone()
    };
    let sealed_anew = KeyRecord {
        sealed: vec![9],
        ..retired.clone()
    };
    let replace = async |before, after| f.store.replace_signing_key(before, after).await.unwrap();
    assert!(!replace(&retired, &sealed_anew).await);
    assert!(replace(&before, &retired).await);
    assert!(!replace(&before, &sealed_anew).await);
    assert_eq!(keys(f).await, std::slice::from_ref(&retired));
    assert!(replace(&retired, &sealed_anew).await);
    f.store.remove_signing_key(&retired).await.unwrap();
    assert_eq!(keys(f).await, std::slice::from_ref(&sealed_anew));
    f.store.remove_signing_key(&sealed_anew).await.unwrap();
    assert_eq!(keys(f).await, []);
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
