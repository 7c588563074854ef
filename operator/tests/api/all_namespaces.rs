//! The operator for all namespaces: references from one to another.
//!
//! On an API server of their own, since such an operator serves the objects of every test.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Api;
use kube::api::{Patch, PatchParams};
use mcpauth_api::{McpAuthServer, McpOAuthClient, ProtectedMcpServer};
use serde_json::json;

use crate::support::authserver::AuthServer;
use crate::support::world::{World, specs};
use mcpauth_test_support::wait::eventually;

async fn label(world: &World, labels: serde_json::Value) {
    let api: Api<Namespace> = Api::all(world.client.clone());
    let patch = json!({ "metadata": { "labels": labels } });
    api.patch(
        &world.namespace,
        &PatchParams::default(),
        &Patch::Merge(patch),
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn a_cross_namespace_reference_without_permission_is_refused() {
    let auth = World::apart("auth").await;
    let team = auth.neighbour("team").await;
    let operator = auth.operator_with(auth.client.clone(), None);
    auth.create::<McpAuthServer>("auth", &specs::auth_server())
        .await;
    let authserver = AuthServer::start(&auth, "auth").await;
    auth.pods_are_up("auth-authserver").await;
    let reference = json!({ "name": "auth", "namespace": auth.namespace });
    let spec = specs::with(specs::protected_server(), "/authServerRef", reference);
    team.create::<ProtectedMcpServer>("notes", &spec).await;
    let condition = team
        .not_ready::<ProtectedMcpServer>("notes", "ReferenceNotPermitted")
        .await;
    assert!(
        condition.message.contains("spec.allowedNamespaces"),
        "{}",
        condition.message
    );
    let reference = json!({ "name": "auth", "namespace": auth.namespace });
    let client = specs::with(specs::client(), "/authServerRef", reference);
    team.create::<McpOAuthClient>("robot", &client).await;
    team.not_ready::<McpOAuthClient>("robot", "ReferenceNotPermitted")
        .await;
    let path = format!("resources/{}.notes", team.namespace);
    let client_path = format!("clients/{}_robot", team.namespace);
    for path in [&path, &client_path] {
        assert!(authserver.get(&auth, "auth", path).await.is_none());
    }
    assert!(team.get::<Deployment>("notes").await.is_none());

    // A selector admits it as soon as the namespace has the label.
    let selector = json!({ "from": "Selector", "selector": { "matchLabels": { "mcp": "yes" } } });
    auth.patch::<McpAuthServer>(
        "auth",
        &json!({ "spec": { "allowedNamespaces": selector } }),
    )
    .await;
    label(&team, json!({ "mcp": "yes" })).await;
    team.pods_are_up("notes").await;
    team.is_ready::<ProtectedMcpServer>("notes").await;
    assert!(authserver.get(&auth, "auth", &path).await.is_some());
    team.is_ready::<McpOAuthClient>("robot").await;
    let secret = async || team.get::<Secret>("robot-oauth-client").await.unwrap().data;
    let before = secret().await;

    // Withdrawn: the registrations go, and with them every token.
    label(&team, json!({ "mcp": null })).await;
    team.reaches::<ProtectedMcpServer>("notes", "Registered", "False", "ReferenceNotPermitted")
        .await;
    team.reaches::<McpOAuthClient>("robot", "Registered", "False", "ReferenceNotPermitted")
        .await;
    for path in [&path, &client_path] {
        assert!(authserver.get(&auth, "auth", path).await.is_none());
    }

    // Also when the status has said so before: others may write it.
    authserver.put_client(&auth, "auth", &client_path).await;
    let touch = json!({ "metadata": { "annotations": { "note": "look again" } } });
    team.patch::<McpOAuthClient>("robot", &touch).await;
    eventually("the client is gone again", || async {
        let client = authserver.get(&auth, "auth", &client_path).await;
        client.is_none().then_some(())
    })
    .await;

    // Given again: the client is what it was.
    label(&team, json!({ "mcp": "yes" })).await;
    team.is_ready::<McpOAuthClient>("robot").await;
    assert!(authserver.get(&auth, "auth", &client_path).await.is_some());
    assert_eq!(secret().await, before);

    // Withdrawn while the authorization server is away: made good when it is back.
    auth.endpoints.lock().unwrap().clear();
    team.reaches::<McpOAuthClient>("robot", "Registered", "Unknown", "AuthServerUnreachable")
        .await;
    label(&team, json!({ "mcp": null })).await;
    team.not_ready::<McpOAuthClient>("robot", "ReferenceNotPermitted")
        .await;
    authserver.is_found(&auth, "auth");
    team.reaches::<McpOAuthClient>("robot", "Registered", "False", "ReferenceNotPermitted")
        .await;
    assert!(authserver.get(&auth, "auth", &client_path).await.is_none());
    operator.stop().await;
}

/// O1: an owner's server, a client of a namespace that it admits, and an intruder with every trick.
#[tokio::test]
async fn only_clients_of_admitted_namespaces_get_tokens() {
    let owner = World::apart("owner").await;
    let (guest, intruder) = (
        owner.neighbour("guest").await,
        owner.neighbour("intruder").await,
    );
    let operator = owner.operator_with(owner.client.clone(), None);
    let auth = specs::with(
        specs::auth_server(),
        "/allowedNamespaces",
        json!({ "from": "All" }),
    );
    owner.create::<McpAuthServer>("auth", &auth).await;
    let authserver = AuthServer::start(&owner, "auth").await;
    owner.pods_are_up("auth-authserver").await;
    label(&guest, json!({ "mcp": "guest" })).await;
    let selector =
        json!({ "matchExpressions": [{ "key": "mcp", "operator": "In", "values": ["guest"] }] });
    let allowed = json!({ "namespaces": { "from": "Selector", "selector": selector } });
    let notes = specs::with(specs::protected_server(), "/allowedClients", allowed);
    owner.create::<ProtectedMcpServer>("notes", &notes).await;
    owner.pods_are_up("notes").await;
    owner.is_ready::<ProtectedMcpServer>("notes").await;

    let by_name =
        json!({ "name": "notes", "namespace": owner.namespace, "scopes": ["notes:write"] });
    let client = |resource: serde_json::Value| {
        let reference = json!({ "name": "auth", "namespace": owner.namespace });
        let spec = specs::with(specs::client(), "/authServerRef", reference);
        specs::with(spec, "/resources", json!([resource]))
    };
    for world in [&owner, &guest] {
        world
            .create::<McpOAuthClient>("robot", &client(by_name.clone()))
            .await;
        world.is_ready::<McpOAuthClient>("robot").await;
    }
    let own = authserver
        .token_of(&owner, "robot", RESOURCE)
        .await
        .unwrap();
    let admitted = authserver
        .token_of(&guest, "robot", RESOURCE)
        .await
        .unwrap();
    for token in [&own, &admitted] {
        assert!(authserver.is_active(&owner, token).await);
    }

    // A reference says only that nothing is there for this namespace. The URI, in any spelling, is taken, and
    // the authorization server gives nothing for it. So with another client of the admitted one's name.
    let spec = client(by_name.clone());
    intruder.create::<McpOAuthClient>("robot", &spec).await;
    let condition = intruder
        .not_ready::<McpOAuthClient>("robot", "ResourceNotFound")
        .await;
    assert!(
        condition.message.contains("spec.allowedClients.namespaces"),
        "{}",
        condition.message
    );
    for (name, uri) in [
        ("by-uri", RESOURCE),
        ("by-slash", "http://localhost:9001/mcp/"),
        ("by-case", "HTTP://LOCALHOST:9001/mcp"),
    ] {
        let spec = client(json!({ "uri": uri, "scopes": ["notes:write"] }));
        intruder.create::<McpOAuthClient>(name, &spec).await;
        intruder.is_ready::<McpOAuthClient>(name).await;
        for asked in [RESOURCE, uri] {
            let refused = authserver.token_of(&intruder, name, asked).await;
            assert_eq!(refused.unwrap_err(), "invalid_target", "{uri} {asked}");
        }
    }

    // Admitted by its label, and no longer: within the second of the sync nothing is left.
    label(&intruder, json!({ "mcp": "guest" })).await;
    intruder.is_ready::<McpOAuthClient>("robot").await;
    let token = eventually("the intruder is admitted", || async {
        authserver.token_of(&intruder, "robot", RESOURCE).await
    })
    .await;
    assert!(authserver.is_active(&owner, &token).await);
    label(&intruder, json!({ "mcp": null })).await;
    eventually("its token is no longer active", || async {
        (!authserver.is_active(&owner, &token).await).then_some(())
    })
    .await;
    let refused = authserver.token_of(&intruder, "robot", RESOURCE).await;
    assert_eq!(refused.unwrap_err(), "invalid_target");

    // A namespace that is deleted, and made again by somebody else.
    guest.delete::<McpOAuthClient>("robot").await;
    guest.disappears::<McpOAuthClient>("robot").await;
    assert!(guest.get::<Secret>("robot-oauth-client").await.is_none());
    label(&guest, json!({ "mcp": null })).await;
    assert!(!authserver.is_active(&owner, &admitted).await);
    let spec = client(json!({ "uri": RESOURCE, "scopes": ["notes:write"] }));
    guest.create::<McpOAuthClient>("robot", &spec).await;
    guest.is_ready::<McpOAuthClient>("robot").await;
    let refused = eventually("the label is gone", || async {
        authserver.token_of(&guest, "robot", RESOURCE).await.err()
    })
    .await;
    assert_eq!(refused, "invalid_target");
    assert!(!authserver.is_active(&owner, &admitted).await);
    assert!(authserver.is_active(&owner, &own).await);
    operator.stop().await;
}

const RESOURCE: &str = "http://localhost:9001/mcp";

/// Whoever writes an object writes its claim, can pause it, and can make it unreadable: none of it keeps its tokens alive.
#[tokio::test]
async fn a_foreign_claim_a_pause_or_an_unreadable_spec_keeps_no_registration() {
    let owner = World::apart("withdrawn").await;
    let guest = owner.neighbour("withdrawn-guest").await;
    let operator = owner.operator_with(owner.client.clone(), None);
    let all = json!({ "from": "All" });
    let auth = specs::with(specs::auth_server(), "/allowedNamespaces", all);
    owner.create::<McpAuthServer>("auth", &auth).await;
    let authserver = AuthServer::start(&owner, "auth").await;
    let reference = json!({ "name": "auth", "namespace": owner.namespace });
    let client = specs::with(specs::client(), "/authServerRef", reference.clone());
    let notes = specs::with(specs::protected_server(), "/authServerRef", reference);
    guest.create::<McpOAuthClient>("robot", &client).await;
    guest.create::<McpOAuthClient>("idle", &client).await;
    guest.create::<ProtectedMcpServer>("notes", &notes).await;
    let paths = [
        format!("clients/{}_robot", guest.namespace),
        format!("clients/{}_idle", guest.namespace),
        format!("resources/{}.notes", guest.namespace),
    ];
    for path in &paths {
        eventually(&format!("{path} is registered"), || {
            authserver.get(&owner, "auth", path)
        })
        .await;
    }

    let claim = json!({ "metadata": { "annotations": { "mcpauth.io/claimed-by": "nobody" } } });
    guest.patch::<McpOAuthClient>("robot", &claim).await;
    guest.events("robot", "ClaimedByAnother").await;
    let pause = json!({ "metadata": { "annotations": { "mcpauth.io/paused": "true" } } });
    guest.patch::<McpOAuthClient>("idle", &pause).await;
    guest
        .reaches::<McpOAuthClient>("idle", "Paused", "True", "Paused")
        .await;
    guest
        .spoil::<ProtectedMcpServer>("notes", "/spec/server/template/resources")
        .await;
    operator.goes_on(3).await;
    for path in &paths {
        assert!(
            authserver.get(&owner, "auth", path).await.is_some(),
            "{path}"
        );
    }

    let same = json!({ "spec": { "allowedNamespaces": { "from": "Same" } } });
    owner.patch::<McpAuthServer>("auth", &same).await;
    for path in &paths {
        eventually(&format!("{path} is withdrawn"), || async {
            let found = authserver.get(&owner, "auth", path).await;
            found.is_none().then_some(())
        })
        .await;
    }
    operator.stop().await;
}
