//! What we write is what the programs read: their own parsers take our configuration files.

use std::collections::BTreeSet;
use std::fs;

use k8s_openapi::api::core::v1::PodSpec;
use mcp_auth_operator::desired::{
    Admin, AuthServerFacts, Images,
    auth_server::{self, AuthServerInputs},
    labels::Owner,
    names, postgres, protected_server,
};
use mcpauth_api::{McpAuthServer, McpAuthServerSpec, ProtectedMcpServer, ProtectedMcpServerSpec};
use mcpauth_test_support::certificates::Authority;
use mcpauth_wire::client::GrantType;
use serde_json::{Value, json};

use mcpauth_wire::authserver_config::SigningAlgorithm;

type AuthServerConfig = mcp_authserver::config::Config;
type ProxyConfig = mcp_resource_proxy::config::Config;

/// What is a CA to those who only look whether there is one.
pub const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n";

fn images() -> Images {
    Images {
        authserver: "authserver".to_owned(),
        resource_proxy: "resource-proxy".to_owned(),
        postgres: "postgres".to_owned(),
        pull_secrets: Vec::new(),
        fixed_user_ids: true,
    }
}

fn in_a_cluster<K: kube::Resource<DynamicType = ()>>(mut object: K) -> (K, Owner) {
    object.meta_mut().namespace = Some("team".to_owned());
    object.meta_mut().uid = Some("00000000-0000-0000-0000-000000000001".to_owned());
    let owner = Owner::of(&object).unwrap();
    (object, owner)
}

/// The pod of the database that the operator makes.
pub fn database_pod() -> PodSpec {
    let (object, owner) = in_a_cluster(McpAuthServer::new("auth", least_auth_server()));
    drop(object);
    let spec = serde_json::from_value(json!({})).unwrap();
    let set = postgres::build(
        &owner,
        &spec,
        &images(),
        &postgres::PostgresInputs::default(),
    )
    .stateful_set;
    set.spec.unwrap().template.spec.unwrap()
}

/// The `authserver.yaml` that the operator makes of a spec, unless the authserver would refuse it.
pub fn authserver_yaml(spec: &McpAuthServerSpec) -> Result<String, String> {
    let (object, owner) = in_a_cluster(McpAuthServer::new("auth", spec.clone()));
    let images = images();
    let admin = Admin {
        namespace: "system".into(),
        service_account: "operator".into(),
    };
    let inputs = AuthServerInputs {
        images: &images,
        admins: &BTreeSet::from([admin]),
        secrets_hash: "",
        database: &postgres::PostgresInputs::default(),
    };
    let objects = auth_server::build(&owner, &object.spec, &inputs);
    let objects = objects.map_err(|error| error.to_string())?;
    Ok(objects.config_map.data.unwrap()["authserver.yaml"].clone())
}

/// The authserver's reading of an `authserver.yaml`, the files that it names in a folder instead of
/// `/etc/mcpauth`.
pub fn read_by_authserver(yaml: &str) -> Result<AuthServerConfig, String> {
    let (_, owner) = in_a_cluster(McpAuthServer::new("auth", least_auth_server()));
    let keys = auth_server::keys_secret(&owner, &[7; 32]);
    let uri = &postgres::secret(&owner, "password").data.unwrap()["uri"].0;
    let etc = tempfile::tempdir().unwrap();
    let put = |path: &str, text: &[u8]| {
        let path = etc.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    put("keys/pepper", &keys.data.unwrap()["pepper"].0);
    put("postgres/uri", uri);
    put("postgres-ca/ca.crt", CERTIFICATE.as_bytes());
    put("users/users.yaml", b"users: []\n");
    put("registration/token", b"0123456789abcdef0123456789abcdef\n");
    put("otlp/headers", b"x-api-key: 1\n");
    let written = mcpauth_wire::authserver_config::AuthServerConfig::parse(yaml);
    for caller in written.iter().flat_map(|file| &file.introspection.callers) {
        let path = caller.secret_file.strip_prefix("/etc/mcpauth").unwrap();
        put(
            path.to_str().unwrap(),
            b"0123456789abcdef0123456789abcdef\n",
        );
    }
    if written.is_ok_and(|file| file.internal.tls.is_some()) {
        let authority = Authority::new();
        let (certificate, key) = authority.certify("auth");
        put("internal-tls/tls.crt", &fs::read(certificate).unwrap());
        put("internal-tls/tls.key", &fs::read(key).unwrap());
    }
    let text = yaml.replace("/etc/mcpauth", &etc.path().display().to_string());
    AuthServerConfig::parse(&text).map_err(|error| error.to_string())
}

/// The `proxy.yaml` that the operator makes of a spec, unless the proxy would refuse it.
pub fn proxy_yaml(spec: &ProtectedMcpServerSpec) -> Result<String, String> {
    let (object, owner) = in_a_cluster(ProtectedMcpServer::new("notes", spec.clone()));
    let facts = AuthServerFacts {
        issuer: "https://auth.example".to_owned(),
        internal_url: names::internal_url("team", "auth", false),
        internal_ca: None,
    };
    let Some(template) = object.spec.server.template() else {
        return Err("it has no proxy".to_owned());
    };
    let objects = protected_server::build(&owner, &object.spec, template, &facts, &images());
    let objects = objects.map_err(|error| error.to_string())?;
    Ok(objects.config_map.data.unwrap()["proxy.yaml"].clone())
}

/// The proxy's reading of a `proxy.yaml`.
pub fn read_by_proxy(yaml: &str) -> Result<ProxyConfig, String> {
    ProxyConfig::parse(yaml).map_err(|error| error.to_string())
}

fn authserver_config(spec: Value) -> AuthServerConfig {
    let yaml = authserver_yaml(&serde_json::from_value(spec).unwrap()).unwrap();
    read_by_authserver(&yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"))
}

fn proxy_config(spec: Value) -> ProxyConfig {
    let yaml = proxy_yaml(&serde_json::from_value(spec).unwrap()).unwrap();
    read_by_proxy(&yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"))
}

fn least_auth_server() -> McpAuthServerSpec {
    let spec = json!({
        "issuer": "http://localhost:9000",
        "storage": { "memory": {} },
        "login": { "developmentAutoApprove": {} },
    });
    serde_json::from_value(spec).unwrap()
}

#[test]
fn the_authserver_takes_the_least_that_a_spec_can_say() {
    authserver_config(serde_json::to_value(least_auth_server()).unwrap());
}

#[test]
fn the_authserver_takes_everything_that_a_spec_can_say() {
    let config = authserver_config(json!({
        "issuer": "https://auth.example/tenant",
        "replicas": 2,
        "storage": { "postgres": { "managed": {} } },
        "login": { "localUsers": { "secretRef": { "name": "users" } } },
        "registration": {
            "dynamic": {
                "neverUsedHours": 1, "idleDays": 2, "maxClients": 3, "grantTypes": ["authorization_code"],
                "initialAccessTokenSecretRef": { "name": "gate" },
            },
            "allowedRedirectSchemes": ["cursor"],
        },
        "telemetry": {
            "logLevel": "debug", "audit": { "enabled": false },
            "otlp": { "endpoint": "http://collector:4318", "headersSecretRef": { "name": "otlp" } },
        },
        "tokens": {
            "accessTokenSeconds": 1, "refreshTokenSeconds": 2, "grantSeconds": 3,
            "authorizationCodeSeconds": 4, "refreshGraceSeconds": 0,
        },
        "rateLimit": { "clientRequestsPerMinute": 5, "addressFailuresPerMinute": 6, "loginFailuresPerMinute": 7 },
        "signingKeys": { "algorithms": ["RS256"], "rotationDays": 8 },
        "clientAddress": { "trustedProxies": ["192.0.2.10/32"], "header": "X-Real-IP" },
    }));
    let client_address = config.trusted_proxies.unwrap();
    assert_eq!(client_address.header(), "x-real-ip");
    let (gateway, client) = ("192.0.2.10".parse().unwrap(), "198.51.100.7");
    assert_eq!(
        client_address
            .client(gateway, [client].into_iter())
            .to_string(),
        client
    );
    assert_eq!(config.signing_keys.algorithms, [SigningAlgorithm::Rs256]);
    assert_eq!(config.signing_keys.rotation_days, 8);
    assert_eq!(config.tokens.access_token_seconds, 1);
    assert_eq!(config.tokens.refresh_grace_seconds, 0);
    assert_eq!(config.rate_limit.address_failures_per_minute, 6);
    assert_eq!(config.rate_limit.login_failures_per_minute, 7);
    assert_eq!(config.registration.allowed_redirect_schemes, ["cursor"]);
    let dynamic = config.registration.dynamic.unwrap();
    let numbers = [
        dynamic.never_used_hours,
        dynamic.idle_days,
        dynamic.max_clients,
    ];
    assert_eq!(numbers, [1, 2, 3]);
    assert_eq!(dynamic.grant_types, [GrantType::AuthorizationCode]);
    assert!(dynamic.initial_access_token_file.is_some());
    assert_eq!(config.traces.unwrap().headers.len(), 1);
    assert_eq!(
        config.internal.service_account_audience.as_deref(),
        Some("http://auth-authserver-internal.team.svc:8081")
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
        "server": { "template": { "image": "notes", "http": { "port": 8000 } } },
    }));
}

#[test]
fn the_proxy_takes_everything_that_a_spec_can_say() {
    let rate = json!({ "calls": 60, "periodSeconds": 60 });
    proxy_config(json!({
        "authServerRef": { "name": "auth", "namespace": "other" },
        "resource": "https://notes.example/mcp",
        "server": { "template": { "image": "notes", "http": { "port": 8000, "path": "/" } } },
        "scopes": [
            { "name": "read" },
            { "name": "write", "description": "Write", "implies": ["read"] },
        ],
        "replicas": 0,
        "access": {
            "rules": [
                { "tools": ["create_*"], "scopes": ["write"] },
                { "tools": ["ping"], "anyToken": true },
                { "resources": ["notes://*"], "scopes": ["read"] },
                { "prompts": ["*"], "scopes": ["read"] },
                { "methods": ["acme/export"], "scopes": ["read"] },
            ],
            "initialScopes": ["read"],
            "lists": "Grantable",
            "unmatched": "AnyToken",
        },
        "friction": {
            "rate": rate,
            "groups": [{ "name": "writes", "tools": ["create_*"], "rate": rate }],
            "subjectRate": rate,
            "resourceRate": rate,
            "halfLifeSeconds": 10,
            "maxDelayMilliseconds": 1000,
            "warmupCalls": 0,
        },
        "limits": { "bodyBytes": 1024, "responseHeaderSeconds": 7 },
        "allowedOrigins": ["https://app.example"],
        "identity": { "headers": {} },
        "telemetry": {
            "logLevel": "debug", "audit": { "enabled": false },
            "otlp": { "endpoint": "http://collector:4318", "headersSecretRef": { "name": "otlp" } },
        },
    }));
}
