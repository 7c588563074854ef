//! What we write is what the programs read: their own parsers take our configuration files.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::fs;

use mcp_auth_operator::desired::{
    Images,
    auth_server::{self, AuthServerInputs},
    labels::Owner,
    names,
    protected_server::{self, AuthServerFacts},
};
use mcpauth_api::{McpAuthServer, ProtectedMcpServer};
use serde_json::{Value, json};

type AuthServerConfig = mcp_authserver::config::Config;
type ProxyConfig = mcp_resource_proxy::config::Config;

const USERS: &str = "users: []\n";

fn images() -> Images {
    Images {
        authserver: "authserver".to_owned(),
        resource_proxy: "resource-proxy".to_owned(),
        postgres: "postgres".to_owned(),
    }
}

fn in_a_cluster<K: kube::Resource<DynamicType = ()>>(mut object: K) -> (K, Owner) {
    object.meta_mut().namespace = Some("team".to_owned());
    object.meta_mut().uid = Some("00000000-0000-0000-0000-000000000001".to_owned());
    let owner = Owner::of(&object).unwrap();
    (object, owner)
}

/// The authserver's configuration for `spec`, its files in a folder instead of `/etc/mcpauth`.
fn authserver_config(spec: Value) -> AuthServerConfig {
    let (object, owner) = in_a_cluster(McpAuthServer::new(
        "auth",
        serde_json::from_value(spec).unwrap(),
    ));
    let images = images();
    let inputs = AuthServerInputs {
        images: &images,
        admins: vec![names::service_account_principal("system", "operator")],
        secrets_hash: "",
    };
    let objects = auth_server::build(&owner, &object.spec, &inputs).unwrap();
    let keys = auth_server::keys_secret(&owner, &[7; 32]);
    let uri = &mcp_auth_operator::desired::postgres::secret(&owner, "password")
        .data
        .unwrap()["uri"]
        .0;

    let etc = tempfile::tempdir().unwrap();
    let put = |path: &str, text: &[u8]| {
        let path = etc.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    put("keys/pepper", &keys.data.unwrap()["pepper"].0);
    put("postgres/uri", uri);
    put("users/users.yaml", USERS.as_bytes());
    let text = objects.config_map.data.unwrap()["authserver.yaml"]
        .replace("/etc/mcpauth", &etc.path().display().to_string());
    AuthServerConfig::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn proxy_config(spec: Value) -> ProxyConfig {
    let (object, owner) = in_a_cluster(ProtectedMcpServer::new(
        "notes",
        serde_json::from_value(spec).unwrap(),
    ));
    let facts = AuthServerFacts {
        issuer: "https://auth.example".to_owned(),
        internal_url: names::internal_url("team", "auth"),
    };
    let objects = protected_server::build(&owner, &object.spec, &facts, &images()).unwrap();
    let text = objects.config_map.data.unwrap()["proxy.yaml"].clone();
    ProxyConfig::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

#[test]
fn the_authserver_takes_the_least_that_a_spec_can_say() {
    authserver_config(json!({
        "issuer": "http://localhost:9000",
        "storage": { "memory": {} },
        "login": { "developmentAutoApprove": {} },
    }));
}

#[test]
fn the_authserver_takes_everything_that_a_spec_can_say() {
    let config = authserver_config(json!({
        "issuer": "https://auth.example/tenant",
        "replicas": 2,
        "storage": { "postgres": { "managed": {} } },
        "login": { "localUsers": { "secretRef": { "name": "users" } } },
        "registration": { "dynamic": true, "allowedRedirectSchemes": ["cursor"] },
        "tokens": {
            "accessTokenSeconds": 1, "refreshTokenSeconds": 2, "grantSeconds": 3,
            "authorizationCodeSeconds": 4, "refreshGraceSeconds": 0,
        },
        "rateLimit": { "clientRequestsPerMinute": 5, "addressFailuresPerMinute": 6 },
    }));
    assert_eq!(config.tokens.access_token_seconds, 1);
    assert_eq!(config.tokens.refresh_grace_seconds, 0);
    assert_eq!(config.rate_limit.address_failures_per_minute, 6);
    assert_eq!(config.registration.allowed_redirect_schemes, ["cursor"]);
    assert_eq!(
        config.internal.token_review_audience.as_deref(),
        Some("http://auth-internal.team.svc:8081")
    );
    assert_eq!(
        config.internal.admins,
        ["system:serviceaccount:system:operator"]
    );
}

#[test]
fn the_proxy_takes_the_least_that_a_spec_can_say() {
    proxy_config(json!({
        "authServerRef": { "name": "auth" },
        "resource": "https://notes.example",
        "server": { "template": { "image": "notes", "port": 8000 } },
    }));
}

#[test]
fn the_proxy_takes_everything_that_a_spec_can_say() {
    let rate = json!({ "calls": 60, "periodSeconds": 60 });
    proxy_config(json!({
        "authServerRef": { "name": "auth", "namespace": "other" },
        "resource": "https://notes.example/mcp",
        "server": { "template": { "image": "notes", "port": 8000, "path": "/" } },
        "scopes": [
            { "name": "read" },
            { "name": "write", "description": "Write", "implies": ["read"] },
        ],
        "tools": [{ "name": "create_*", "scopes": ["write"] }, { "name": "ping" }],
        "unlistedTools": {},
        "friction": {
            "rate": rate,
            "groups": [{ "name": "writes", "tools": ["create_*"], "rate": rate }],
            "subjectRate": rate,
            "resourceRate": rate,
            "halfLifeSeconds": 10,
            "maxDelayMilliseconds": 1000,
            "warmupCalls": 0,
        },
        "limits": { "bodyBytes": 1024 },
        "allowedOrigins": ["https://app.example"],
        "identityHeaders": true,
    }));
}
