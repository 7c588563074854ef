//! TLS on the internal port: from the Secret to the server, the proxies and the operator's own calls.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::PostParams;
use mcpauth_api::{McpAuthServer, McpOAuthClient, ProtectedMcpServer};
use mcpauth_test_support::certificates::Authority;
use mcpauth_test_support::wait::eventually;
use serde_json::{Value, json};

use crate::support::authserver::AuthServer;
use crate::support::world::{World, specs};

const SECRET: &str = "internal-tls";

fn with_tls() -> Value {
    let tls = json!({ "secretRef": { "name": SECRET } });
    specs::with(specs::auth_server(), "/internalTls", tls)
}

/// The values of a Secret with a certificate for `host`, as cert-manager writes it.
fn certified(authority: &Authority, host: &str, ca: &str) -> Value {
    let (certificate, key) = authority.certify(host);
    let read = |path| std::fs::read_to_string(path).unwrap();
    json!({ "tls.crt": read(certificate), "tls.key": read(key), "ca.crt": ca })
}

fn ca(authority: &Authority) -> String {
    std::fs::read_to_string(authority.ca()).unwrap()
}

async fn put_secret(world: &World, values: &Value) {
    let secret = json!({
        "metadata": { "name": SECRET }, "type": "kubernetes.io/tls", "stringData": values,
    });
    let secret: Secret = serde_json::from_value(secret).unwrap();
    let api = world.api::<Secret>();
    api.create(&PostParams::default(), &secret).await.unwrap();
}

async fn change_secret(world: &World, values: &Value) {
    let patch = json!({ "stringData": values });
    world.patch::<Secret>(SECRET, &patch).await;
}

async fn status(world: &World) -> Value {
    let object = world.raw::<McpAuthServer>().get("auth").await.unwrap();
    object.data["status"].clone()
}

/// What the proxy of `notes` is told of introspection.
async fn introspection(world: &World) -> Value {
    let config: ConfigMap = world.appears("notes-proxy-v1").await;
    let text = &config.data.unwrap()["proxy.yaml"];
    let file: Value = serde_saphyr::from_str(text).unwrap();
    file["introspection"].clone()
}

/// The audience of the token that the proxy of `notes` shows.
async fn audience(world: &World) -> Value {
    let deployment: Deployment = world.appears("notes").await;
    let pod = serde_json::to_value(deployment.spec.unwrap().template.spec).unwrap();
    let volumes = pod["volumes"].as_array().unwrap();
    let token = volumes
        .iter()
        .find_map(|volume| volume.pointer("/projected/sources/0/serviceAccountToken/audience"));
    token.unwrap().clone()
}

#[tokio::test]
async fn the_server_the_proxies_and_the_operator_use_one_certificate() {
    let world = World::new("internal-tls").await;
    let host = format!("auth-authserver-internal.{}.svc", world.namespace);
    let operator = world.operator();
    world.create::<McpAuthServer>("auth", &with_tls()).await;
    let missing = world
        .not_ready::<McpAuthServer>("auth", "SecretNotFound")
        .await;
    let field = "spec.internalTls.secretRef: Secret internal-tls";
    assert!(missing.message.starts_with(field), "{}", missing.message);
    let notes = specs::protected_server();
    world.create::<ProtectedMcpServer>("notes", &notes).await;
    let waits = world
        .reaches::<ProtectedMcpServer>("notes", "Ready", "False", "AuthServerUnreachable")
        .await;
    assert!(
        waits.message.contains("spec.internalTls"),
        "{}",
        waits.message
    );
    assert!(world.get::<Deployment>("notes").await.is_none());

    let authority = Authority::new();
    put_secret(&world, &certified(&authority, "elsewhere", &ca(&authority))).await;
    let wrong = world
        .not_ready::<McpAuthServer>("auth", "SecretInvalid")
        .await;
    let says = format!("{field}, key tls.crt: the certificate is not for the DNS name {host}");
    assert!(wrong.message.starts_with(&says), "{}", wrong.message);
    assert!(world.get::<Deployment>("auth-authserver").await.is_none());

    let mut values = certified(&authority, &host, &ca(&authority));
    change_secret(&world, &values).await;
    let _server = AuthServer::start(&world, "auth").await;
    world.pods_are_up("auth-authserver").await;
    world.is_ready::<McpAuthServer>("auth").await;
    let url = format!("https://{host}:8081");
    let stated = status(&world).await;
    assert_eq!(stated["internalUrl"], url);
    assert_eq!(stated["internalCa"], ca(&authority));
    world
        .reaches::<ProtectedMcpServer>("notes", "Registered", "True", "Ready")
        .await;
    let told = introspection(&world).await;
    assert_eq!(told["endpoint"], format!("{url}/introspect"));
    assert_eq!(told["ca"], ca(&authority));
    assert_eq!(audience(&world).await, url);
    world
        .create::<McpOAuthClient>("robot", &specs::client())
        .await;
    world.is_ready::<McpOAuthClient>("robot").await;

    // A renewal needs no new pods; a CA that is added reaches the proxies.
    let before: Deployment = world.appears("auth-authserver").await;
    let both = ca(&Authority::new()) + &ca(&authority);
    values = certified(&authority, &host, &both);
    change_secret(&world, &values).await;
    eventually("the proxies trust both", || async {
        (introspection(&world).await["ca"] == both).then_some(())
    })
    .await;
    let after: Deployment = world.appears("auth-authserver").await;
    assert_eq!(before.spec.unwrap().template, after.spec.unwrap().template);

    // Without the certificate it is as before, but for the pods.
    let patch = json!({ "spec": { "internalTls": null } });
    world.patch::<McpAuthServer>("auth", &patch).await;
    let url = format!("http://{host}:8081");
    eventually("the proxies introspect without TLS", || async {
        let told = introspection(&world).await;
        (told["endpoint"] == format!("{url}/introspect") && told["ca"].is_null()).then_some(())
    })
    .await;
    eventually("the status says so", || async {
        let stated = status(&world).await;
        (stated["internalUrl"] == url && stated["internalCa"].is_null()).then_some(())
    })
    .await;
    operator.stop().await;
}

#[tokio::test]
async fn the_operator_trusts_no_other_ca() {
    let world = World::new("internal-ca").await;
    let host = format!("auth-authserver-internal.{}.svc", world.namespace);
    let operator = world.operator();
    let (authority, other) = (Authority::new(), Authority::new());
    put_secret(&world, &certified(&authority, &host, &ca(&authority))).await;
    world.create::<McpAuthServer>("auth", &with_tls()).await;
    let _server = AuthServer::start(&world, "auth").await;
    world.pods_are_up("auth-authserver").await;
    world.is_ready::<McpAuthServer>("auth").await;
    // The pods still have the old one.
    change_secret(&world, &certified(&other, &host, &ca(&other))).await;
    eventually("the status has the other CA", || async {
        (status(&world).await["internalCa"] == ca(&other)).then_some(())
    })
    .await;
    let client = specs::client();
    world.create::<McpOAuthClient>("robot", &client).await;
    let refused = world
        .reaches::<McpOAuthClient>("robot", "Ready", "Unknown", "AuthServerUnreachable")
        .await;
    assert!(
        refused.message.contains("invalid peer certificate"),
        "{}",
        refused.message
    );
    operator.stop().await;
}
