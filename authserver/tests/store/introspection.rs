//! Introspection and revocation.

use mcp_authserver::issue::Minter;
use mcp_authserver::keys::pepper::Pepper;
use mcp_authserver::oauth::client::ClientOrigin;
use mcp_authserver::oauth::grant::NewGrant;
use mcp_authserver::oauth::resource::ResourceScope;
use mcp_authserver::oauth::token::TokenKind;
use mcp_authserver::store::Extent;

use crate::fixture::{
    ACCESS, CLIENT, Fixture, NOTES, NOW, OLD_PEPPER, OTHER_CLIENT, client, resource, scopes,
};

pub async fn a_live_token_is_described(f: &Fixture) {
    let first = f.family(NOW).await;
    let second = f.family(NOW).await;
    let token = f.introspect(&first.access, NOW).await.unwrap();
    assert_eq!(token.grant_id, first.issued.grant.id);
    assert_eq!(token.client_id, CLIENT);
    assert_eq!(token.subject.as_deref(), Some("alice"));
    assert_eq!(token.resource, NOTES);
    assert_eq!(token.scopes, scopes("notes:read notes:write"));
    assert_eq!(token.issued_at, NOW);
    assert_eq!(token.expires_at, NOW.plus(ACCESS));
    assert_eq!(token.introspectors, ["system:serviceaccount:default:notes"]);
    let other = f.introspect(&second.access, NOW).await.unwrap();
    assert_ne!(token.token_id, other.token_id);
    assert!(!first.access.reveal().contains(&token.token_id));
}

pub async fn client_credentials_have_no_subject(f: &Fixture) {
    let token = f.issue(f.new_grant(CLIENT, None), NOW).await.unwrap();
    let active = f.introspect(&token, NOW).await.unwrap();
    assert_eq!(active.subject, None);
    assert_eq!(active.client_id, CLIENT);
    assert!(!f.is_active(&token, NOW.plus(ACCESS)).await);
}

pub async fn what_client_and_user_may_have_is_told_to_those_who_ask(f: &Fixture) {
    let scope = |name: &str, implies: &[&str]| ResourceScope {
        name: name.into(),
        implies: implies.iter().map(ToString::to_string).collect(),
        ..ResourceScope::default()
    };
    let mut notes = resource("notes", NOTES);
    notes.scopes = vec![
        scope("read", &[]),
        scope("write", &["read"]),
        scope("admin", &["write"]),
    ];
    f.store.upsert_resource(&notes).await.unwrap();
    let narrow = NewGrant {
        scopes: scopes("read"),
        ..f.new_grant(CLIENT, Some("alice"))
    };
    let of_user = f.issue(narrow, NOW).await.unwrap();
    let of_client = f.issue(f.new_grant(CLIENT, None), NOW).await.unwrap();
    for (allowed, origin, expected) in [
        ("write unknown", ClientOrigin::Declared, "read write"),
        ("read", ClientOrigin::Declared, "read"),
        ("unknown", ClientOrigin::Declared, ""),
        ("read", ClientOrigin::Dynamic, "admin read write"),
    ] {
        let mut client = client(CLIENT);
        client.origin = origin;
        client.metadata.allowed_resources[0].scopes = scopes(allowed);
        f.store.upsert_client(&client, NOW).await.unwrap();
        // Together, so that on Postgres they share queries.
        let ask = |token, extent| f.introspect_to(token, extent, NOW);
        let (user, robot, unasked) = tokio::join!(
            ask(&of_user, Extent::Grantable),
            ask(&of_client, Extent::Grantable),
            ask(&of_user, Extent::Token),
        );
        let (user, robot) = (user.unwrap(), robot.unwrap());
        assert_eq!(user.scopes, scopes("read"), "{allowed}");
        assert_eq!(user.grantable, Some(scopes(expected)), "{allowed}");
        assert_eq!(robot.grantable, Some(scopes(expected)), "{allowed}");
        assert_eq!(unasked.unwrap().grantable, None, "{allowed}");
    }
}

pub async fn a_refresh_token_or_a_code_offered_as_an_access_token(f: &Fixture) {
    let code = f.authorize(NOW).await;
    let tokens = f.family(NOW).await;
    let never_issued = f.token(TokenKind::Access);
    for token in [&code, &tokens.refresh, &never_issued] {
        assert!(!f.is_active(token, NOW).await);
    }
}

pub async fn an_expired_token_is_inactive(f: &Fixture) {
    let tokens = f.family(NOW).await;
    let end = tokens.issued.access.expires_at;
    let last = end.minus(std::time::Duration::from_millis(1));
    assert!(f.is_active(&tokens.access, last).await);
    assert!(!f.is_active(&tokens.access, end).await);
}

pub async fn a_token_made_under_an_older_pepper_is_known(f: &Fixture) {
    let old = Pepper::parse(OLD_PEPPER).unwrap();
    let minter = Minter {
        pepper: &old,
        ..f.minter()
    };
    let grant = f.new_grant(CLIENT, None);
    let issued = f
        .store
        .issue_access_token(grant, minter, NOW)
        .await
        .unwrap();
    assert!(f.is_active(&issued.access.token, NOW).await);
}

pub async fn revoking_another_clients_token_does_nothing(f: &Fixture) {
    let tokens = f.family(NOW).await;
    for token in [&tokens.access, &tokens.refresh] {
        let hashes = token.hashes(&f.pepper);
        let store = &f.store;
        store
            .revoke_access_token(&hashes, OTHER_CLIENT)
            .await
            .unwrap();
        store
            .revoke_refresh_token(&hashes, OTHER_CLIENT)
            .await
            .unwrap();
    }
    assert!(f.is_active(&tokens.access, NOW).await);
    assert!(f.refresh(&tokens.refresh, NOW).await.is_ok());
}

pub async fn revoking_an_access_token_leaves_the_family(f: &Fixture) {
    let tokens = f.family(NOW).await;
    let hashes = tokens.access.hashes(&f.pepper);
    f.store.revoke_access_token(&hashes, CLIENT).await.unwrap();
    assert!(!f.is_active(&tokens.access, NOW).await);
    assert!(f.refresh(&tokens.refresh, NOW).await.is_ok());
    let again = f.store.revoke_access_token(&hashes, CLIENT).await;
    assert!(again.is_ok(), "an unknown token is fine");
}

pub async fn revoking_a_refresh_token_ends_the_family(f: &Fixture) {
    let tokens = f.family(NOW).await;
    let newer = f.refresh(&tokens.refresh, NOW).await.unwrap();
    let hashes = tokens.refresh.hashes(&f.pepper);
    f.store.revoke_refresh_token(&hashes, CLIENT).await.unwrap();
    for tokens in [&tokens, &newer] {
        assert!(!f.is_active(&tokens.access, NOW).await);
        assert!(f.refresh(&tokens.refresh, NOW).await.is_err());
    }
}

pub async fn revoking_the_grant_ends_the_family(f: &Fixture) {
    let bystander = f.family(NOW).await;
    let tokens = f.family(NOW).await;
    let id = tokens.issued.grant.id;
    f.store.revoke_grant(id).await.unwrap();
    assert!(!f.is_active(&tokens.access, NOW).await);
    assert!(f.refresh(&tokens.refresh, NOW).await.is_err());
    assert!(f.is_active(&bystander.access, NOW).await);
    assert!(
        f.store.revoke_grant(id).await.is_ok(),
        "an unknown one is fine"
    );
}

pub async fn revoking_a_user_ends_their_families(f: &Fixture) {
    let code = f.authorize(NOW).await;
    let families = [f.family(NOW).await, f.family(NOW).await];
    let bystander = f.new_grant(CLIENT, Some("bob"));
    let bystander = f.issue(bystander, NOW).await.unwrap();
    let of_client = f.issue(f.new_grant(CLIENT, None), NOW).await.unwrap();

    f.store.revoke_user("alice").await.unwrap();
    f.store.revoke_user("nobody").await.unwrap();
    for tokens in families {
        assert!(!f.is_active(&tokens.access, NOW).await);
        assert!(f.refresh(&tokens.refresh, NOW).await.is_err());
    }
    assert!(f.redeem(&code, NOW).await.is_err());
    assert!(f.is_active(&bystander, NOW).await);
    assert!(f.is_active(&of_client, NOW).await);
    // They may sign in again.
    assert!(f.is_active(&f.family(NOW).await.access, NOW).await);
}
