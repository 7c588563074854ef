//! What is hashed under which version of the pepper.

use mcp_authserver::issue::Minter;
use mcp_authserver::keys::pepper::Pepper;
use mcp_authserver::oauth::code::NewCode;
use mcp_authserver::oauth::grant::Refusal;
use mcp_authserver::oauth::token::{Token, TokenKind};
use mcp_authserver::store::{CodeRedemption, PepperUse};

use crate::fixture::{
    ABSOLUTE, ACCESS, CLIENT, Fixture, IDLE, NOW, OLD_PEPPER, OTHER_CLIENT, RIGHT, Tokens, client,
};

/// The version of the fixture's own pepper, and the one that it also knows.
const CURRENT: u16 = 2;
const OLD: u16 = 1;

fn old() -> Pepper {
    Pepper::parse(OLD_PEPPER).unwrap()
}

/// A code whose hash was made under the old pepper.
async fn old_code(f: &Fixture) -> Token {
    let code = f.token(TokenKind::Code);
    let new = NewCode {
        hash: code.hash(&old()),
        ..f.new_code(&code, NOW)
    };
    let grant = f.new_grant(CLIENT, Some("alice"));
    f.store
        .create_authorization(grant, &new, NOW)
        .await
        .unwrap();
    code
}

/// A family whose tokens were all made under the old pepper.
async fn old_family(f: &Fixture) -> Tokens {
    let (code, old) = (old_code(f).await, old());
    let redemption = CodeRedemption {
        hashes: &code.hashes(&old),
        attempt: RIGHT,
        grant_expires_at: NOW.plus(ABSOLUTE),
        minter: Minter {
            pepper: &old,
            ..f.minter()
        },
    };
    let issued = f.store.redeem_code(&redemption, NOW).await.unwrap();
    Tokens::of(issued.unwrap(), None)
}

async fn uses(f: &Fixture, now: mcpauth_service::clock::UnixTime) -> PepperUse {
    let mut uses = f.store.under_other_peppers(CURRENT, now).await.unwrap();
    let old = uses.remove(&OLD).unwrap_or_default();
    assert!(uses.is_empty(), "{uses:?}");
    old
}

pub async fn what_other_peppers_are_needed_for_is_counted(f: &Fixture) {
    assert_eq!(uses(f, NOW).await, PepperUse::default());
    let (code, first, _second) = (old_code(f).await, old_family(f).await, old_family(f).await);
    f.family(NOW).await;
    let mut with_secret = client(OTHER_CLIENT);
    with_secret.secret_hash = Some(old().hash_client_secret("s3cret"));
    f.store.upsert_client(&with_secret, NOW).await.unwrap();
    let mut expected = PepperUse {
        access_tokens: 2,
        refresh_tokens: 2,
        codes: 1,
        client_secrets: 1,
        signing_keys: 0,
    };
    assert_eq!(uses(f, NOW).await, expected);

    // Used ones are not needed any more.
    f.redeem(&code, NOW).await.unwrap();
    f.refresh(&first.refresh, NOW).await.unwrap();
    expected.codes = 0;
    expected.refresh_tokens = 1;
    assert_eq!(uses(f, NOW).await, expected);
    expected.access_tokens = 0;
    assert_eq!(uses(f, NOW.plus(ACCESS)).await, expected);
    expected.refresh_tokens = 0;
    assert_eq!(uses(f, NOW.plus(IDLE)).await, expected);

    let after = f.pepper.hash_client_secret("s3cret");
    let before = with_secret.secret_hash.unwrap();
    let replace = async |before, after| {
        let replaced = f.store.replace_secret_hash(OTHER_CLIENT, before, after);
        replaced.await.unwrap();
        f.store
            .client(OTHER_CLIENT)
            .await
            .unwrap()
            .unwrap()
            .secret_hash
    };
    assert_eq!(
        replace(&after, &after).await,
        Some(before),
        "it is another one"
    );
    assert_eq!(replace(&before, &after).await, Some(after));
    assert_eq!(uses(f, NOW).await.client_secrets, 0);
}

/// Without the old pepper, a second use of what it was used for is still noticed.
pub async fn what_is_used_is_kept_under_the_current_pepper(f: &Fixture) {
    let alone = Fixture::only_current_pepper();
    let (code, family) = (old_code(f).await, old_family(f).await);
    let redeemed = f.redeem(&code, NOW).await.unwrap();
    let first = f.refresh(&family.refresh, NOW).await.unwrap();
    let second = f.refresh(&first.refresh, NOW).await.unwrap();
    let again = f
        .refresh_under(&alone, &family.refresh, NOW.plus(ACCESS))
        .await;
    assert_eq!(again.unwrap_err(), Refusal::Reused);
    let token = f.refresh(&second.refresh, NOW).await;
    assert_eq!(token.unwrap_err(), Refusal::Unknown);
    let again = f.redeem_under(&alone, &code, NOW).await;
    assert_eq!(again.unwrap_err(), Refusal::Reused);
    assert!(!f.is_active(&redeemed.access, NOW).await);
}
