//! What goes wrong is told without the secrets that it is about.

use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use http::Method;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, PostParams};
use mcpauth_api::{McpAuthServer, McpOAuthClient, ProtectedMcpServer};
use mcpauth_test_support::logs::{self, Logs};
use mcpauth_test_support::wait::eventually;
use serde_json::{Value, json};

use crate::support::faults::{self, Fate};
use crate::support::world::{Object, Operator, World, specs};

/// What an [`echo`] was sent: tokens, and bodies.
type Sent = Arc<Mutex<Vec<String>>>;

/// Something that is no authorization server: it answers with `status`, and what it was sent. Gives its URL.
async fn echo(status: StatusCode) -> (String, Sent) {
    async fn answer(
        State((status, sent)): State<(StatusCode, Sent)>,
        headers: HeaderMap,
        body: String,
    ) -> (StatusCode, String) {
        let bearer = headers[header::AUTHORIZATION].to_str().unwrap();
        let token = bearer.strip_prefix("Bearer ").unwrap();
        let said = format!("{token} {body}");
        sent.lock().unwrap().extend([token.to_owned(), body]);
        (status, said)
    }
    let sent = Sent::default();
    let state = (status, Arc::clone(&sent));
    let router = axum::Router::new().fallback(answer).with_state(state);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, sent)
}

/// A McpAuthServer with a database of its own.
fn with_database() -> Value {
    let database = json!({ "postgres": { "managed": {} } });
    specs::with(specs::auth_server(), "/storage", database)
}

/// All values in Secrets of the namespace that are secret.
async fn secrets(world: &World) -> Vec<String> {
    let all = world.api::<Secret>().list(&ListParams::default()).await;
    let mut values = Vec::new();
    for secret in all.unwrap().items {
        for (key, value) in secret.data.unwrap_or_default() {
            if ["pepper", "password", "uri", "client_secret"].contains(&key.as_str()) {
                let value = String::from_utf8(value.0).unwrap();
                values.push(value.trim().to_owned());
            }
        }
    }
    assert!(!values.is_empty());
    values
}

async fn status<K: Object>(world: &World) -> String {
    let all = world.raw::<K>().list(&ListParams::default()).await;
    let all = all.unwrap().items.into_iter();
    all.map(|one| one.data["status"].to_string()).collect()
}

/// Asserts that the namespace's secrets and `sent` are in no log, event or status, and that `reason` is
/// logged, on a line with the object.
async fn nothing_leaked(world: &World, logs: &Logs, reason: &str, sent: &[String]) {
    let mut secrets = secrets(world).await;
    secrets.extend_from_slice(sent);
    let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
    logs.assert_free_of(&secrets);
    let failed = logs.containing(&format!("reason={reason} "));
    assert!(!failed.is_empty(), "{reason} is not logged");
    let namespace = format!("namespace={}", world.namespace);
    assert!(failed[0].contains(&namespace), "{}", failed[0]);
    let outcome = format!("outcome={reason}");
    assert!(
        !logs.containing(&outcome).is_empty(),
        "no span has {outcome}"
    );

    let events = world.api::<Event>().list(&ListParams::default()).await;
    let mut shown = serde_json::to_string(&events.unwrap().items).unwrap();
    shown.push_str(&status::<McpAuthServer>(world).await);
    shown.push_str(&status::<ProtectedMcpServer>(world).await);
    shown.push_str(&status::<McpOAuthClient>(world).await);
    assert!(shown.contains(reason), "{shown}");
    for secret in secrets {
        assert!(!shown.contains(secret), "{secret} is in {shown}");
    }
}

/// The objects of a user: an authorization server with a database, a client of it.
async fn objects(world: &World) {
    world
        .create::<McpAuthServer>("auth", &with_database())
        .await;
    world
        .create::<McpOAuthClient>("robot", &specs::client())
        .await;
}

#[tokio::test]
async fn an_unreachable_authorization_server_is_told_without_secrets() {
    let logs = logs::capture();
    let world = World::new("leak-unreachable").await;
    let operator = world.operator();
    objects(&world).await;
    let reason = "AuthServerUnreachable";
    world.is_unknown::<McpOAuthClient>("robot", reason).await;
    let called = logs.containing("outcome=unreachable");
    assert!(called[0].contains("admin_api{"), "{}", called[0]);
    stop_and_check(&world, operator, &logs, reason, &[]).await;
}

async fn stop_and_check(
    world: &World,
    operator: Operator,
    logs: &Logs,
    reason: &str,
    sent: &[String],
) {
    operator.goes_on(4).await;
    operator.stop().await;
    nothing_leaked(world, logs, reason, sent).await;
}

#[tokio::test]
async fn wrong_answers_of_the_admin_api_are_told_without_secrets() {
    for (status, reason, ready) in [
        (StatusCode::OK, "AuthServerUnreachable", "Unknown"),
        (StatusCode::BAD_REQUEST, "AuthServerRefused", "False"),
        (StatusCode::FORBIDDEN, "AuthServerRefused", "False"),
        (
            StatusCode::INTERNAL_SERVER_ERROR,
            "AuthServerUnreachable",
            "Unknown",
        ),
    ] {
        let logs = logs::capture();
        let world = World::new(&format!("leak-{}", status.as_u16())).await;
        let (url, sent) = echo(status).await;
        world.endpoints.lock().unwrap().insert("auth".into(), url);
        let operator = world.operator();
        objects(&world).await;
        world
            .reaches::<McpOAuthClient>("robot", "Ready", ready, reason)
            .await;
        let mut sent = sent.lock().unwrap().clone();
        sent.retain(|one| !one.is_empty());
        assert!(!sent.is_empty());
        stop_and_check(&world, operator, &logs, reason, &sent).await;
    }
}

#[tokio::test]
async fn a_refused_child_is_told_without_secrets() {
    let logs = logs::capture();
    let world = World::new("leak-refused").await;
    let refuse = |method: &Method, path: &str| match *method != Method::GET {
        true if path.ends_with("/deployments") => Fate::Status(422),
        _ => Fate::Pass,
    };
    let client = faults::client(world.cluster, Arc::new(refuse));
    let operator = world.operator_with(client, Some(&world.namespace));
    objects(&world).await;
    let reason = "ApplyFailed";
    world.not_ready::<McpAuthServer>("auth", reason).await;
    stop_and_check(&world, operator, &logs, reason, &[]).await;
}

#[tokio::test]
async fn a_foreign_secret_is_left_alone_and_told_without_what_it_holds() {
    let logs = logs::capture();
    let world = World::new("leak-conflict").await;
    for (name, key) in [
        ("robot-oauth-client", "client_secret"),
        ("auth-authserver-keys", "pepper"),
    ] {
        let foreign = json!({
            "metadata": { "name": name },
            "stringData": { key: format!("somebody-elses-{key}") },
        });
        let foreign = serde_json::from_value(foreign).unwrap();
        let secrets = world.api::<Secret>();
        secrets
            .create(&PostParams::default(), &foreign)
            .await
            .unwrap();
    }
    let operator = world.operator();
    objects(&world).await;
    let reason = "NameConflict";
    world.not_ready::<McpOAuthClient>("robot", reason).await;
    world.not_ready::<McpAuthServer>("auth", reason).await;
    stop_and_check(&world, operator, &logs, reason, &[]).await;
}

/// One line for each reconcile that failed.
#[tokio::test]
async fn a_failed_reconcile_is_logged_once() {
    let logs = logs::capture();
    let world = World::new("leak-once").await;
    let operator = world.operator();
    world
        .create::<McpOAuthClient>("robot", &specs::client())
        .await;
    let reason = "AuthServerNotFound";
    world.not_ready::<McpOAuthClient>("robot", reason).await;
    eventually("it failed twice", || async {
        let failed = logs.containing("reconcile{").into_iter();
        let failed = failed.filter(|line| line.starts_with("span ") && line.contains(reason));
        (failed.count() >= 2).then_some(())
    })
    .await;
    operator.stop().await;
    let of_this = |lines: Vec<String>| {
        let lines = lines.into_iter();
        lines
            .filter(|line| line.contains(&world.namespace) && line.contains(reason))
            .count()
    };
    let ended = of_this(logs.containing("span reconcile{"));
    let told = of_this(logs.containing("reconcile failed; retrying"));
    assert_eq!(told, ended, "{:#?}", logs.containing("reconcile"));
}
