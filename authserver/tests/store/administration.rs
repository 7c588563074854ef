//! Clients and resources.

use mcp_authserver::issue::Minter;
use mcp_authserver::oauth::client::ClientOrigin;
use mcp_authserver::oauth::resource::{Resource, ResourceScope};
use mcp_authserver::oauth::token::{Token, TokenKind};
use mcp_authserver::store::{StoreError, Upsert};
use mcpauth_wire::client::{GrantType, TokenEndpointAuthMethod};
use serde_json::json;

use crate::fixture::{CLIENT, Fixture, MAIL, NOTES, NOW, OTHER_CLIENT, client, resource, scopes};

pub async fn a_client_is_created_updated_and_left_unchanged(f: &Fixture) {
    let store = &f.store;
    assert_eq!(store.client("new").await.unwrap(), None);
    let mut new = client("new");
    new.metadata.client_name = "Ünïcode \"quoted\" \u{202e}".into();
    new.metadata.client_uri = Some("https://client.example".into());
    new.metadata.token_endpoint_auth_method = TokenEndpointAuthMethod::PrivateKeyJwt;
    new.metadata.jwks = Some(json!({ "keys": [{ "kty": "EC", "x": "z", "a": 1 }] }));
    new.metadata.grant_types = vec![GrantType::RefreshToken, GrantType::AuthorizationCode];
    new.metadata.allowed_resources[0].scopes = scopes("b a");

    assert_eq!(
        store.upsert_client(&new, NOW).await.unwrap(),
        Upsert::Created
    );
    assert_eq!(store.client("new").await.unwrap().as_ref(), Some(&new));
    assert_eq!(
        store.upsert_client(&new, NOW).await.unwrap(),
        Upsert::Unchanged
    );
    new.secret_hash = Some(f.pepper.hash_client_secret("s3cret"));
    assert_eq!(
        store.upsert_client(&new, NOW).await.unwrap(),
        Upsert::Updated
    );
    assert_eq!(
        store.upsert_client(&new, NOW).await.unwrap(),
        Upsert::Unchanged
    );
    let stored = store.client("new").await.unwrap().unwrap();
    assert_eq!(stored, new);
    assert!(
        f.pepper
            .verify_client_secret("s3cret", &stored.secret_hash.unwrap())
    );

    store.delete_client("new").await.unwrap();
    store.delete_client("new").await.unwrap();
    assert_eq!(store.client("new").await.unwrap(), None);
}

pub async fn a_resource_is_created_updated_and_left_unchanged(f: &Fixture) {
    let store = &f.store;
    let mut new = resource("NS.new", "https://new.example/mcp");
    assert_eq!(store.upsert_resource(&new).await.unwrap(), Upsert::Created);
    assert_eq!(
        store.upsert_resource(&new).await.unwrap(),
        Upsert::Unchanged
    );
    new.scopes = vec![ResourceScope {
        name: "a".into(),
        description: "An \"ä\"".into(),
        implies: vec!["b".into()],
    }];
    assert_eq!(store.upsert_resource(&new).await.unwrap(), Upsert::Updated);
    assert_eq!(store.resource("NS.new").await.unwrap().as_ref(), Some(&new));

    let ids = || async {
        let resources = store.resources().await.unwrap();
        resources.into_iter().map(|r| r.id).collect::<Vec<_>>()
    };
    assert_eq!(ids().await, ["NS.new", "mail", "notes"]);
    store.delete_resource("NS.new").await.unwrap();
    store.delete_resource("NS.new").await.unwrap();
    assert_eq!(store.resource("NS.new").await.unwrap(), None);
    assert_eq!(ids().await, ["mail", "notes"]);
}

pub async fn a_resource_uri_belongs_to_one_id(f: &Fixture) {
    let slash = format!("{NOTES}/");
    let upper = NOTES.replacen("http", "HTTP", 1);
    for uri in [NOTES, &slash, &upper] {
        for resource in [resource("other", uri), resource("mail", uri)] {
            let error = f.store.upsert_resource(&resource).await.unwrap_err();
            assert!(
                matches!(&error, StoreError::Conflict(text) if text.contains(uri)),
                "{error}"
            );
        }
    }
    assert_eq!(f.store.resource("other").await.unwrap(), None);
    let mail = f.store.resource("mail").await.unwrap().unwrap();
    assert_eq!(mail.resource, MAIL);
}

pub async fn a_new_uri_revokes_the_grants_for_the_old_one(f: &Fixture) {
    let tokens = f.family(NOW).await;
    let mut notes = resource("notes", NOTES);
    notes.name = "Notes".into();
    f.store.upsert_resource(&notes).await.unwrap();
    assert!(f.is_active(&tokens.access, NOW).await);

    for uri in ["https://moved.example/mcp", NOTES] {
        let moved = resource("notes", uri);
        let outcome = f.store.upsert_resource(&moved).await.unwrap();
        assert_eq!(outcome, Upsert::Updated);
        assert!(!f.is_active(&tokens.access, NOW).await);
        assert!(f.refresh(&tokens.refresh, NOW).await.is_err());
    }
}

/// `notes`, for clients of other namespaces than those of the tests.
fn closed() -> Resource {
    let mut notes = resource("notes", NOTES);
    notes.allowed_clients.namespaces = vec!["others".into()];
    notes
}

pub async fn a_withdrawn_admission_revokes_the_grants_of_whom_it_admitted(f: &Fixture) {
    let mut itself = client("itself");
    itself.origin = ClientOrigin::Dynamic;
    f.store.upsert_client(&itself, NOW).await.unwrap();
    let of_itself = f.issue(f.new_grant("itself", None), NOW).await.unwrap();
    let mut mail = f.new_grant(CLIENT, None);
    mail.resource = MAIL.into();
    let elsewhere = f.issue(mail, NOW).await.unwrap();
    let code = f.authorize(NOW).await;
    let tokens = f.family(NOW).await;

    let outcome = f.store.upsert_resource(&closed()).await.unwrap();
    assert_eq!(outcome, Upsert::Updated);
    assert!(!f.is_active(&tokens.access, NOW).await);
    assert!(f.refresh(&tokens.refresh, NOW).await.is_err());
    assert!(f.redeem(&code, NOW).await.is_err());
    assert!(f.is_active(&of_itself, NOW).await);
    assert!(f.is_active(&elsewhere, NOW).await);

    // Admitted again, a client begins anew.
    let open = resource("notes", NOTES);
    f.store.upsert_resource(&open).await.unwrap();
    assert!(!f.is_active(&tokens.access, NOW).await);
    assert!(f.refresh(&tokens.refresh, NOW).await.is_err());
    assert!(f.is_active(&f.family(NOW).await.access, NOW).await);

    let mut declared_only = resource("notes", NOTES);
    declared_only.allowed_clients.self_registered = false;
    f.store.upsert_resource(&declared_only).await.unwrap();
    assert!(!f.is_active(&of_itself, NOW).await);
    let stored = f.store.resource("notes").await.unwrap();
    assert_eq!(stored.as_ref(), Some(&declared_only));
}

pub async fn nothing_is_issued_to_a_client_that_is_not_admitted(f: &Fixture) {
    f.store.upsert_resource(&closed()).await.unwrap();
    let refused = f.issue(f.new_grant(CLIENT, None), NOW).await;
    assert!(matches!(refused, Err(StoreError::Conflict(_))));
    let code = f.token(TokenKind::Code);
    let new = f.new_code(&code, NOW);
    let grant = f.new_grant(CLIENT, Some("alice"));
    let refused = f.store.create_authorization(grant, &new, NOW).await;
    assert!(matches!(refused, Err(StoreError::Conflict(_))));

    let mut admitted = client(CLIENT);
    admitted.metadata.namespace = Some("others".into());
    f.store.upsert_client(&admitted, NOW).await.unwrap();
    assert!(f.is_active(&f.family(NOW).await.access, NOW).await);
    // Without a namespace it is nobody's.
    admitted.metadata.namespace = None;
    f.store.upsert_client(&admitted, NOW).await.unwrap();
    assert!(f.issue(f.new_grant(CLIENT, None), NOW).await.is_err());
    let mut all = closed();
    all.allowed_clients.all_namespaces = true;
    f.store.upsert_resource(&all).await.unwrap();
    assert!(f.issue(f.new_grant(CLIENT, None), NOW).await.is_ok());
}

pub async fn a_client_that_no_longer_names_a_resource_loses_its_grants_there(f: &Fixture) {
    let mut mail = f.new_grant(CLIENT, None);
    mail.resource = MAIL.into();
    let mail = f.issue(mail, NOW).await.unwrap();
    let tokens = f.family(NOW).await;
    let bystander = f.issue(f.new_grant(OTHER_CLIENT, None), NOW).await.unwrap();

    let mut renamed = client(CLIENT);
    renamed.metadata.client_name = "Another name".into();
    renamed.metadata.allowed_resources[0].uri = format!("{NOTES}/");
    f.store.upsert_client(&renamed, NOW).await.unwrap();
    assert!(f.is_active(&tokens.access, NOW).await, "another spelling");

    renamed.metadata.allowed_resources.remove(0);
    f.store.upsert_client(&renamed, NOW).await.unwrap();
    assert!(!f.is_active(&tokens.access, NOW).await);
    assert!(f.refresh(&tokens.refresh, NOW).await.is_err());
    assert!(f.is_active(&mail, NOW).await);
    assert!(f.is_active(&bystander, NOW).await);
}

pub async fn deleting_a_client_revokes_its_grants(f: &Fixture) {
    let code = f.authorize(NOW).await;
    let tokens = f.family(NOW).await;
    f.store.delete_client(CLIENT).await.unwrap();
    f.store.upsert_client(&client(CLIENT), NOW).await.unwrap();
    assert!(!f.is_active(&tokens.access, NOW).await);
    assert!(f.refresh(&tokens.refresh, NOW).await.is_err());
    assert!(f.redeem(&code, NOW).await.is_err());
}

pub async fn deleting_a_resource_revokes_its_grants(f: &Fixture) {
    let code = f.authorize(NOW).await;
    let tokens = f.family(NOW).await;
    let mut mail = f.new_grant(OTHER_CLIENT, None);
    mail.resource = MAIL.into();
    let bystander = f.issue(mail, NOW).await.unwrap();

    f.store.delete_resource("notes").await.unwrap();
    let notes = resource("notes", NOTES);
    f.store.upsert_resource(&notes).await.unwrap();
    assert!(!f.is_active(&tokens.access, NOW).await);
    assert!(f.refresh(&tokens.refresh, NOW).await.is_err());
    assert!(f.redeem(&code, NOW).await.is_err());
    assert!(f.is_active(&bystander, NOW).await);
}

pub async fn no_grant_for_what_is_gone(f: &Fixture) {
    let mut unknown_resource = f.new_grant(CLIENT, Some("alice"));
    unknown_resource.resource = "https://gone.example/mcp".into();
    for grant in [f.new_grant("gone", Some("alice")), unknown_resource] {
        let code = f.token(TokenKind::Code);
        let new = f.new_code(&code, NOW);
        let outcome = f.store.create_authorization(grant.clone(), &new, NOW).await;
        assert!(
            matches!(outcome, Err(StoreError::Conflict(_))),
            "{outcome:?}"
        );
        assert!(f.redeem(&code, NOW).await.is_err());

        // The token that it would get.
        let known = || Ok([7; 32]);
        let minter = Minter {
            random: &known,
            ..f.minter()
        };
        let outcome = f.store.issue_access_token(grant, minter, NOW).await;
        assert!(
            matches!(outcome, Err(StoreError::Conflict(_))),
            "{outcome:?}"
        );
        let token = Token::generate(TokenKind::Access, [7; 32]);
        assert!(!f.is_active(&token, NOW).await);
    }
}
