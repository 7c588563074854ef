//! What the API server refuses, and that it names the field.

use mcpauth_api::{McpAuthServer, McpOAuthClient, ProtectedMcpServer};
use serde_json::{Value, json};

use crate::support::world::{Object, World, specs};

/// Pointer into the spec, value (null takes it away), and what the message must contain.
type Case = (&'static str, Value, &'static str);

async fn refuses<K: Object>(world: &World, spec: &Value, cases: Vec<Case>) {
    for (pointer, value, expected) in cases {
        let spec = specs::with(spec.clone(), pointer, value.clone());
        let what = format!("{} with {pointer} = {value}", K::kind(&()));
        let Err(error) = world.try_create::<K>("bad", &spec).await else {
            panic!("{what} was accepted")
        };
        let kube::Error::Api(status) = error else {
            panic!("{what}: {error}")
        };
        assert_eq!(status.code, 422, "{what}: {}", status.message);
        assert!(
            status.message.contains(expected),
            "{what}: {}",
            status.message
        );
    }
}

#[tokio::test]
async fn wrong_auth_servers_are_refused_by_the_name_of_the_field() {
    let world = World::new("crd-mas").await;
    let loopback = "the issuer must be on localhost";
    let https = "issuer must be an https URL";
    let users = json!({ "localUsers": { "secretRef": { "name": "people" } } });
    let spec = specs::with(specs::auth_server(), "/login", users);
    let cases = vec![
        ("/issuer", json!("http://auth.example"), https),
        ("/issuer", json!("http://localhost.evil.example"), https),
        ("/issuer", json!("ftp://localhost"), https),
        ("/issuer", json!("no url"), https),
        (
            "/issuer",
            json!("https://a.example/"),
            "issuer must not have a trailing slash",
        ),
        (
            "/issuer",
            json!("https://a.example?x=1"),
            "issuer must not have a trailing slash",
        ),
        (
            "/issuer",
            json!("https://a.example#x"),
            "issuer must not have a trailing slash",
        ),
        ("/issuer", json!(""), "spec.issuer"),
        ("/issuer", Value::Null, "spec.issuer"),
        ("/replicas", json!(-1), "spec.replicas"),
        ("/replicas", json!(101), "spec.replicas"),
        (
            "/replicas",
            json!(2),
            "storage.memory is not shared between replicas",
        ),
        ("/storage", json!({}), "spec.storage"),
        (
            "/storage",
            json!({ "memory": {}, "postgres": { "managed": {} } }),
            "spec.storage",
        ),
        (
            "/storage",
            json!({ "postgres": {} }),
            "spec.storage.postgres",
        ),
        (
            "/storage",
            json!({ "postgres": { "managed": { "size": "lots" } } }),
            "spec.storage.postgres.managed.size",
        ),
        (
            "/storage",
            json!({ "postgres": { "external": { "urlSecretRef": { "name": "" } } } }),
            "urlSecretRef.name",
        ),
        (
            "/storage",
            json!({ "postgres": { "external": {
                "urlSecretRef": { "name": "db" }, "caSecretRef": { "name": "a" }, "caConfigMapRef": { "name": "b" },
            } } }),
            "set caSecretRef or caConfigMapRef, not both",
        ),
        (
            "/storage",
            json!({ "postgres": { "external": { "urlSecretRef": { "name": "db?x" } } } }),
            "urlSecretRef.name",
        ),
        (
            "/login",
            json!({ "localUsers": { "secretRef": { "name": "people", "key": "../users" } } }),
            "secretRef.key",
        ),
        (
            "/introspection",
            json!({ "public": true }),
            "introspection.public needs introspection.callers",
        ),
        (
            "/introspection",
            json!({ "callers": [{ "id": "a", "secretRef": { "name": "x" } }] }),
            "spec.introspection.callers[0].server",
        ),
        (
            "/introspection",
            json!({ "callers": [{ "id": "a", "server": { "name": "notes" } }] }),
            "spec.introspection.callers[0].secretRef",
        ),
        ("/login", json!({}), "spec.login"),
        (
            "/login",
            json!({ "localUsers": {} }),
            "spec.login.localUsers.secretRef",
        ),
        (
            "/registration",
            json!({ "allowedRedirectSchemes": ["UPPER"] }),
            "allowedRedirectSchemes",
        ),
        (
            "/tokens",
            json!({ "accessTokenSeconds": 0 }),
            "spec.tokens.accessTokenSeconds",
        ),
        (
            "/tokens",
            json!({ "accessTokenSeconds": 86_401 }),
            "spec.tokens.accessTokenSeconds",
        ),
        (
            "/tokens",
            json!({ "authorizationCodeSeconds": 601 }),
            "spec.tokens.authorizationCodeSeconds",
        ),
        (
            "/rateLimit",
            json!({ "clientRequestsPerMinute": 0 }),
            "spec.rateLimit.clientRequestsPerMinute",
        ),
        (
            "/service",
            json!({ "type": "ExternalName" }),
            "spec.service.type",
        ),
        (
            "/service",
            json!({ "nodePort": 30000 }),
            "nodePort requires type: NodePort",
        ),
        (
            "/allowedNamespaces",
            json!({ "from": "Some" }),
            "spec.allowedNamespaces.from",
        ),
        (
            "/allowedNamespaces",
            json!({ "from": "Selector" }),
            "selector is required with from: Selector",
        ),
        (
            "/allowedNamespaces",
            json!({ "from": "Selector", "selector": { "matchLabels": {} } }),
            "selector must not be empty",
        ),
        (
            "/resources",
            json!({ "limits": { "cpu": "much" } }),
            "spec.resources.limits",
        ),
    ];
    refuses::<McpAuthServer>(&world, &spec, cases).await;
    let cases = vec![
        ("/issuer", json!("https://auth.example"), loopback),
        ("/issuer", json!("https://localhost.evil.example"), loopback),
    ];
    refuses::<McpAuthServer>(&world, &specs::auth_server(), cases).await;
}

#[tokio::test]
async fn wrong_protected_servers_are_refused_by_the_name_of_the_field() {
    let world = World::new("crd-pms").await;
    let https = "resource must be an https URL";
    let cases = vec![
        ("/resource", json!("http://mcp.example/mcp"), https),
        (
            "/resource",
            json!("http://127.0.0.1.evil.example/mcp"),
            https,
        ),
        ("/resource", json!("/mcp"), https),
        (
            "/resource",
            json!("https://mcp.example/mcp?x=1"),
            "resource must not have a query or a fragment",
        ),
        (
            "/resource",
            json!("https://mcp.example/mcp#x"),
            "resource must not have a query or a fragment",
        ),
        (
            "/authServerRef",
            json!({ "name": "" }),
            "spec.authServerRef.name",
        ),
        (
            "/authServerRef",
            json!({ "name": "auth/status" }),
            "spec.authServerRef.name",
        ),
        (
            "/authServerRef",
            json!({ "name": "10.0.0.1/x", "namespace": "team/mcpauthservers/auth?" }),
            "spec.authServerRef.namespace",
        ),
        ("/server", json!({}), "spec.server"),
        (
            "/server",
            json!({ "external": {} }),
            "server.external has no proxy: access.rules",
        ),
        (
            "/server",
            json!({ "external": {}, "template": { "image": "a", "http": { "port": 1 } } }),
            "spec.server",
        ),
        (
            "/server/template/image",
            json!(""),
            "spec.server.template.image",
        ),
        (
            "/server/template/http/port",
            json!(0),
            "spec.server.template.http.port",
        ),
        (
            "/server/template/http/port",
            json!(8080),
            "port must not be 8080 or 9090",
        ),
        (
            "/server/template/http/port",
            json!(9090),
            "port must not be 8080 or 9090",
        ),
        (
            "/server/template/http/path",
            json!("mcp"),
            "spec.server.template.http.path",
        ),
        (
            "/server/template/env",
            json!([{ "name": "A=B" }]),
            "env: a name must consist of printable ASCII characters other than =",
        ),
        (
            "/server/template/env",
            json!([{ "name": "X", "value": 1 }]),
            "spec.server.template.env[0].value",
        ),
        (
            "/server/template/env",
            json!([{ "name": "X", "valueFrom": {} }]),
            "env: valueFrom requires exactly one of",
        ),
        (
            "/server/template/env",
            json!([{ "name": "X", "valueFrom": { "secretKeyRef": { "name": "s" } } }]),
            "spec.server.template.env[0].valueFrom.secretKeyRef.key",
        ),
        (
            "/server/template/env",
            json!([{ "name": "X" }, { "name": "X" }]),
            "spec.server.template.env[1]",
        ),
        (
            "/server/template/envFrom",
            json!([{ "prefix": "X_" }]),
            "envFrom: each entry requires exactly one of secretRef and configMapRef",
        ),
        (
            "/server/template/imagePullPolicy",
            json!("Sometimes"),
            "spec.server.template.imagePullPolicy",
        ),
        (
            "/server/template/volumes",
            json!([{ "name": "tmp", "emptyDir": {} }]),
            "volumes: the name tmp and names that start with mcpauth- are reserved for the operator",
        ),
        (
            "/server/template/volumes",
            json!([{ "name": "mcpauth-proxy", "configMap": { "name": "x" } }]),
            "volumes: the name tmp and names that start with mcpauth- are reserved for the operator",
        ),
        (
            "/server/template/volumes",
            json!([{ "name": "x", "persistentVolumeClaim": {} }]),
            "spec.server.template.volumes[0].persistentVolumeClaim.claimName",
        ),
        (
            "/server/template/volumeMounts",
            json!([{ "name": "mcpauth-token", "mountPath": "/x" }]),
            "volumeMounts: volumes whose names start with mcpauth- hold credentials",
        ),
        (
            "/server/template/volumeMounts",
            json!([{ "name": "x" }]),
            "spec.server.template.volumeMounts[0].mountPath",
        ),
        (
            "/server/template/readinessProbe",
            json!({ "exec": "true" }),
            "spec.server.template.readinessProbe.exec",
        ),
        (
            "/podTemplate",
            json!({ "spec": [] }),
            "spec.podTemplate.spec",
        ),
        (
            "/podTemplate",
            json!({ "metadata": { "labels": { "a": "b".repeat(64) } } }),
            "spec.podTemplate.metadata.labels",
        ),
        (
            "/server/template/env",
            json!([{ "name": "X", "value": "v", "valueFrom": { "secretKeyRef": { "name": "s", "key": "k" } } }]),
            "env: set either value or valueFrom",
        ),
        (
            "/scopes",
            json!([{ "name": "with space" }]),
            "spec.scopes[0].name",
        ),
        (
            "/scopes",
            json!([{ "name": "notes:write" }, { "name": "notes:write" }]),
            "spec.scopes[1]",
        ),
        (
            "/scopes",
            json!([{ "name": "notes:write", "implies": ["no:such"] }]),
            "scopes: implies may only name scopes from the same list",
        ),
        (
            "/access",
            json!({ "rules": [{ "tools": ["x"], "scopes": ["no:such"] }] }),
            "access.rules: every scope must be one of spec.scopes",
        ),
        (
            "/access",
            json!({ "rules": [{ "tools": ["x"] }] }),
            "access.rules: set either scopes or anyToken: true",
        ),
        (
            "/access",
            json!({ "rules": [{ "tools": [""], "anyToken": true }] }),
            "spec.access.rules[0].tools[0]",
        ),
        (
            "/access",
            json!({ "unmatched": "Allow" }),
            "spec.access.unmatched",
        ),
        ("/identity", json!({}), "spec.identity"),
        (
            "/allowedClients",
            json!({ "namespaces": { "from": "Selector" } }),
            "selector is required with from: Selector",
        ),
        (
            "/allowedClients",
            json!({ "withoutConsent": { "from": "Selector" } }),
            "selector is required with from: Selector",
        ),
        (
            "/allowedClients",
            json!({ "namespaces": { "from": "Selector", "selector": {} } }),
            "selector must not be empty",
        ),
        (
            "/allowedClients",
            json!({ "namespaces": { "from": "Selector", "selector": {
                "matchExpressions": [{ "key": "a", "operator": "In" }] } } }),
            "values is required with operator: In or NotIn",
        ),
        (
            "/allowedClients",
            json!({ "namespaces": { "from": "Selector", "selector": {
                "matchExpressions": [{ "key": "a", "operator": "Exists", "values": ["b"] }] } } }),
            "values is required with operator: In or NotIn",
        ),
        ("/service", json!({ "port": 0 }), "spec.service.port"),
        (
            "/service",
            json!({ "externalTrafficPolicy": "Local" }),
            "externalTrafficPolicy requires type: NodePort or type: LoadBalancer",
        ),
        (
            "/service",
            json!({ "type": "NodePort", "loadBalancerClass": "x" }),
            "loadBalancerClass requires type: LoadBalancer",
        ),
        (
            "/service",
            json!({ "type": "NodePort", "loadBalancerSourceRanges": ["192.0.2.0/24"] }),
            "loadBalancerSourceRanges requires type: LoadBalancer",
        ),
        (
            "/service",
            json!({ "sessionAffinity": "Cookie" }),
            "spec.service.sessionAffinity",
        ),
        (
            "/service",
            json!({ "ipFamilyPolicy": "Dual" }),
            "spec.service.ipFamilyPolicy",
        ),
        ("/replicas", json!(-1), "spec.replicas"),
        (
            "/friction",
            json!({ "rate": { "calls": 0, "periodSeconds": 60 } }),
            "spec.friction.rate.calls",
        ),
        (
            "/friction",
            json!({ "rate": { "calls": 1, "periodSeconds": 0 } }),
            "spec.friction.rate.periodSeconds",
        ),
        ("/friction", json!({}), "spec.friction.rate"),
        (
            "/limits",
            json!({ "bodyBytes": 1 }),
            "spec.limits.bodyBytes",
        ),
        (
            "/allowedOrigins",
            json!(["app.example"]),
            "spec.allowedOrigins[0]",
        ),
        (
            "/allowedOrigins",
            json!(["https://app.example/path"]),
            "spec.allowedOrigins[0]",
        ),
    ];
    refuses::<ProtectedMcpServer>(&world, &specs::protected_server(), cases).await;
}

#[tokio::test]
async fn wrong_clients_are_refused_by_the_name_of_the_field() {
    let world = World::new("crd-moc").await;
    let loopback = "redirectUris: every entry must be an https URL, an http URL on localhost";
    let code = json!({
        "authServerRef": { "name": "auth" },
        "clientName": "App",
        "redirectUris": ["https://app.example/callback"],
    });
    let cases = vec![
        ("/clientName", json!(""), "spec.clientName"),
        (
            "/resources",
            json!([{ "name": "notes/status" }]),
            "spec.resources[0].name",
        ),
        ("/secret", json!({ "name": "a/b" }), "spec.secret.name"),
        ("/clientUri", json!("javascript:alert(1)"), "spec.clientUri"),
        ("/logoUri", json!("http://a.example/logo"), "spec.logoUri"),
        (
            "/redirectUris",
            Value::Null,
            "redirectUris: the grant type authorization_code requires at least one",
        ),
        (
            "/redirectUris",
            json!([]),
            "redirectUris: the grant type authorization_code requires at least one",
        ),
        ("/redirectUris", json!(["http://app.example/cb"]), loopback),
        ("/redirectUris", json!(["HTTP://app.example/cb"]), loopback),
        (
            "/redirectUris",
            json!(["http://localhost.evil.example/"]),
            loopback,
        ),
        (
            "/redirectUris",
            json!(["https://app.example/#x"]),
            "spec.redirectUris[0]",
        ),
        ("/redirectUris", json!(["no-uri"]), "spec.redirectUris[0]"),
        ("/grantTypes", json!([]), "spec.grantTypes"),
        ("/grantTypes", json!(["password"]), "spec.grantTypes[0]"),
        (
            "/grantTypes",
            json!(["refresh_token"]),
            "refresh_token requires authorization_code",
        ),
        (
            "/tokenEndpointAuthMethod",
            json!("client_secret_jwt"),
            "spec.tokenEndpointAuthMethod",
        ),
        (
            "/tokenEndpointAuthMethod",
            json!("private_key_jwt"),
            "jwks is required with tokenEndpointAuthMethod",
        ),
        (
            "/jwks",
            json!({ "keys": [{ "kty": "RSA" }] }),
            "jwks is required with tokenEndpointAuthMethod",
        ),
        (
            "/resources",
            json!([{ "name": "notes", "scopes": ["with space"] }]),
            "spec.resources[0].scopes[0]",
        ),
        (
            "/resources",
            json!([{ "name": "notes", "uri": "https://a.example" }]),
            "resources: set either name or uri",
        ),
        (
            "/resources",
            json!([{ "uri": "https://a.example", "namespace": "other" }]),
            "resources: namespace requires name",
        ),
        (
            "/resources",
            json!([{ "uri": "https://a.example/#x" }]),
            "resources: uri must be an https URL",
        ),
        (
            "/resources",
            json!([{}]),
            "resources: set either name or uri",
        ),
        ("/deletionPolicy", json!("Keep"), "spec.deletionPolicy"),
        ("/secret", json!({ "name": "" }), "spec.secret.name"),
    ];
    refuses::<McpOAuthClient>(&world, &code, cases).await;
    let none = (
        "/tokenEndpointAuthMethod",
        json!("none"),
        "client_credentials requires a tokenEndpointAuthMethod",
    );
    let trusted = (
        "/consent",
        json!("Trusted"),
        "consent: Trusted is allowed for a public client",
    );
    let public = specs::with(code, "/tokenEndpointAuthMethod", json!("none"));
    let local = specs::with(public, "/redirectUris", json!(["http://localhost/cb"]));
    refuses::<McpOAuthClient>(&world, &local, vec![trusted]).await;
    refuses::<McpOAuthClient>(&world, &specs::client(), vec![none]).await;
}

#[tokio::test]
async fn names_beyond_the_limits_are_refused() {
    let world = World::new("crd-names").await;
    for (name, expected) in [
        (
            "a".repeat(39),
            "metadata.name must be at most 38 characters long",
        ),
        ("1a".to_owned(), "metadata.name must start with a letter"),
        ("a.b".to_owned(), "metadata.name must start with a letter"),
    ] {
        let error = world
            .try_create::<McpAuthServer>(&name, &specs::auth_server())
            .await
            .unwrap_err();
        assert!(error.to_string().contains(expected), "{name}: {error}");
    }
    let long = "a".repeat(64);
    let error = world
        .try_create::<ProtectedMcpServer>(&long, &specs::protected_server())
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("metadata.name must be at most 63 characters long"),
        "{error}"
    );
    let error = world
        .try_create::<McpOAuthClient>(&long, &specs::client())
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("metadata.name must be at most 63 characters long"),
        "{error}"
    );
}

#[tokio::test]
async fn what_cannot_change_is_refused() {
    let world = World::new("crd-fixed").await;
    world
        .create::<ProtectedMcpServer>("notes", &specs::protected_server())
        .await;
    world
        .create::<McpOAuthClient>("robot", &specs::client())
        .await;
    let storage =
        json!({ "postgres": { "managed": { "size": "1Gi", "storageClassName": "fast" } } });
    let spec = specs::with(specs::auth_server(), "/storage", storage);
    world.create::<McpAuthServer>("auth", &spec).await;

    let other = json!({ "spec": { "authServerRef": { "name": "other" } } });
    let patch = kube::api::Patch::Merge(&other);
    let params = kube::api::PatchParams::default();
    let refused = world
        .api::<ProtectedMcpServer>()
        .patch("notes", &params, &patch)
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("authServerRef is immutable"),
        "{refused}"
    );
    let refused = world
        .api::<McpOAuthClient>()
        .patch("robot", &params, &patch)
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("authServerRef is immutable"),
        "{refused}"
    );
    let other = json!({ "spec": { "storage": { "postgres": { "managed": { "storageClassName": "slow" } } } } });
    let patch = kube::api::Patch::Merge(&other);
    let refused = world
        .api::<McpAuthServer>()
        .patch("auth", &params, &patch)
        .await
        .unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("storageClassName is immutable"),
        "{refused}"
    );
}

#[tokio::test]
async fn the_examples_are_accepted() {
    let world = World::new("crd-examples").await;
    let folder =
        std::path::PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../examples");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "yaml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for object in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
            let (kind, name) = (
                object["kind"].as_str().unwrap(),
                object["metadata"]["name"].as_str().unwrap(),
            );
            // The examples have the same names.
            let name = format!("{name}-{seen}");
            let spec = &object["spec"];
            match kind {
                "McpAuthServer" => drop(world.create::<McpAuthServer>(&name, spec).await),
                "ProtectedMcpServer" => drop(world.create::<ProtectedMcpServer>(&name, spec).await),
                "McpOAuthClient" => drop(world.create::<McpOAuthClient>(&name, spec).await),
                _ => continue,
            }
            seen += 1;
        }
    }
    assert!(seen >= 6, "only {seen} examples were found");
}
