//! The real authorization server as a process on loopback, run with what the operator rendered for it.

use std::path::{Path, PathBuf};
use std::process::Command;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use mcpauth_api::McpAuthServer;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::world::{World, specs};
use mcpauth_test_support::process::{Process, free_ports};
use mcpauth_test_support::wait::eventually;

/// A running authorization server. It ends when this is dropped, and forgets everything.
pub struct AuthServer {
    // Before its folder.
    _process: Process,
    public: u16,
    internal: u16,
    _folder: TempDir,
}

/// The program, built beside this one.
fn program() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let path = exe
        .parent()
        .unwrap()
        .parent()
        .unwrap()
        .join("mcp-authserver");
    assert!(
        path.is_file(),
        "{} is missing: run `make test-api`, or `cargo build --workspace --bins` first",
        path.display()
    );
    path
}

impl AuthServer {
    /// A McpAuthServer `name` as the operator makes it, started.
    pub async fn create(world: &World, name: &str) -> Self {
        world
            .create::<McpAuthServer>(name, &specs::auth_server())
            .await;
        Self::start(world, name).await
    }

    /// Starts the McpAuthServer `name`, with a memory in place of any database, and tells the operator where
    /// it is.
    pub async fn start(world: &World, name: &str) -> Self {
        let config: ConfigMap = world.appears(&format!("{name}-authserver-v1")).await;
        let keys: Secret = world.appears(&format!("{name}-authserver-keys")).await;
        let folder = tempfile::tempdir().unwrap();
        let pepper = folder.path().join("pepper");
        std::fs::write(&pepper, &keys.data.unwrap()["pepper"].0).unwrap();

        let [public, internal, health] = free_ports();
        let text = &config.data.unwrap()["authserver.yaml"];
        let mut file: Value = serde_saphyr::from_str(text).unwrap();
        let at = |port: u16| format!("127.0.0.1:{port}");
        file["listen"] =
            json!({ "public": at(public), "internal": at(internal), "health": at(health) });
        file["keysFile"] = json!(pepper);
        file["storage"] = json!({ "memory": {} });
        mount_callers(world, name, folder.path(), &mut file).await;
        mount_certificate(world, name, folder.path(), &mut file).await;
        let path = folder.path().join("authserver.yaml");
        std::fs::write(&path, serde_saphyr::to_string(&file).unwrap()).unwrap();

        let mut command = Command::new(program());
        command
            .arg("--config")
            .arg(&path)
            .env("KUBECONFIG", kubeconfig(world, name, folder.path()).await);
        let process = Process::logging(&mut command, &folder.path().join("log"));
        eventually("the authorization server is ready", || async {
            let answer = reqwest::get(format!("http://127.0.0.1:{health}/readyz")).await?;
            answer.error_for_status()
        })
        .await;
        let server = Self {
            _process: process,
            public,
            internal,
            _folder: folder,
        };
        server.is_found(world, name);
        server
    }

    /// An access token of a client with its own credentials, or the error that it gets.
    pub async fn token_of(
        &self,
        world: &World,
        client: &str,
        resource: &str,
    ) -> Result<String, String> {
        let secret: Secret = world.appears(&format!("{client}-oauth-client")).await;
        let value = |key: &str| {
            let bytes = secret.data.as_ref().unwrap()[key].0.clone();
            String::from_utf8(bytes).unwrap()
        };
        let form = [("grant_type", "client_credentials"), ("resource", resource)];
        let request = reqwest::Client::new()
            .post(format!("http://127.0.0.1:{}/token", self.public))
            .header("host", "localhost:9000")
            .basic_auth(value("client_id"), Some(value("client_secret")))
            .form(&form);
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        match answer["access_token"].as_str() {
            Some(token) => Ok(token.to_owned()),
            None => Err(answer["error"].as_str().unwrap_or_default().to_owned()),
        }
    }

    /// Its metadata (RFC 8414).
    pub async fn metadata(&self) -> Value {
        let path = "/.well-known/oauth-authorization-server";
        let request = reqwest::Client::new()
            .get(format!("http://127.0.0.1:{}{path}", self.public))
            .header("host", "localhost:9000");
        request.send().await.unwrap().json().await.unwrap()
    }

    /// Whether the proxy of the server `notes` in `world` finds a token active.
    pub async fn is_active(&self, world: &World, token: &str) -> bool {
        let audience = format!(
            "http://auth-authserver-internal.{}.svc:8081",
            world.namespace
        );
        let caller = world
            .token_of(&world.namespace, "notes", vec![audience], 600)
            .await;
        let request = reqwest::Client::new()
            .post(format!("http://127.0.0.1:{}/introspect", self.internal))
            .bearer_auth(caller)
            .form(&[("token", token)]);
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        answer["active"].as_bool().unwrap()
    }

    /// How the public port answers to an introspection with an id and a secret: the status, and the body.
    pub async fn introspect(&self, id: &str, secret: &str, token: &str) -> (u16, Value) {
        let request = reqwest::Client::new()
            .post(format!("http://127.0.0.1:{}/introspect", self.public))
            .basic_auth(id, Some(secret))
            .form(&[("token", token)]);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// An address of the internal port that answers 404 to the operator.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/admin/v1/clients/none", self.internal)
    }

    /// How the internal port answers the bearer of a token.
    pub async fn status_for(&self, token: &str) -> u16 {
        let request = reqwest::Client::new().get(self.url()).bearer_auth(token);
        request.send().await.unwrap().status().as_u16()
    }

    /// Lets the operator find it.
    pub fn is_found(&self, world: &World, name: &str) {
        let url = format!("http://127.0.0.1:{}", self.internal);
        world.endpoints.lock().unwrap().insert(name.to_owned(), url);
    }

    /// Puts a public client at `path` behind the operator's back.
    pub async fn put_client(&self, world: &World, name: &str, path: &str) {
        let token = world.operator_token(name).await;
        let url = format!("http://127.0.0.1:{}/admin/v1/{path}", self.internal);
        let client = json!({
            "clientName": "x", "tokenEndpointAuthMethod": "none", "grantTypes": ["authorization_code"],
            "redirectUris": ["http://localhost/callback"],
        });
        let request = reqwest::Client::new().put(url).bearer_auth(token);
        let answer = request.json(&client).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
    }

    /// What the admin API has at `path`, as an administrator whose token `world` gives.
    pub async fn get(&self, world: &World, name: &str, path: &str) -> Option<Value> {
        let token = world.operator_token(name).await;
        let url = format!("http://127.0.0.1:{}/admin/v1/{path}", self.internal);
        let answer = reqwest::Client::new()
            .get(url)
            .bearer_auth(token)
            .send()
            .await
            .unwrap();
        match answer.status().as_u16() {
            200 => Some(answer.json().await.unwrap()),
            404 => None,
            other => panic!("{other}: {}", answer.text().await.unwrap()),
        }
    }
}

/// Mounts the secrets of the callers that introspect, as the kubelet does by the Deployment's volume.
async fn mount_callers(world: &World, name: &str, folder: &Path, file: &mut Value) {
    let deployment: Deployment = world.appears(&format!("{name}-authserver")).await;
    let pod = deployment.spec.unwrap().template.spec.unwrap();
    let volumes = pod.volumes.unwrap_or_default();
    let Some(volume) = volumes.into_iter().find(|v| v.name == "introspection") else {
        return;
    };
    for source in volume.projected.unwrap().sources.unwrap() {
        let source = source.secret.unwrap();
        let secret: Secret = world.appears(&source.name).await;
        for item in source.items.unwrap() {
            let value = &secret.data.as_ref().unwrap()[&item.key].0;
            std::fs::write(folder.join(item.path), value).unwrap();
        }
    }
    for caller in file["introspection"]["callers"].as_array_mut().unwrap() {
        let mounted = caller["secretFile"].as_str().unwrap();
        let name = mounted.strip_prefix("/etc/mcpauth/introspection/").unwrap();
        caller["secretFile"] = json!(folder.join(name));
    }
}

/// Mounts the certificate of the internal port, as the kubelet does by the Deployment's volume.
async fn mount_certificate(world: &World, name: &str, folder: &Path, file: &mut Value) {
    if file["internal"]["tls"].is_null() {
        return;
    }
    let deployment: Deployment = world.appears(&format!("{name}-authserver")).await;
    let pod = deployment.spec.unwrap().template.spec.unwrap();
    let volumes = pod.volumes.unwrap_or_default();
    let volume = volumes.into_iter().find(|v| v.name == "internal-tls");
    let source = volume.unwrap().secret.unwrap();
    let secret: Secret = world.appears(&source.secret_name.unwrap()).await;
    for item in source.items.unwrap() {
        let value = &secret.data.as_ref().unwrap()[&item.key].0;
        std::fs::write(folder.join(item.path), value).unwrap();
    }
    for key in ["certFile", "keyFile"] {
        let mounted = file["internal"]["tls"][key].as_str().unwrap();
        let name = mounted.strip_prefix("/etc/mcpauth/internal-tls/").unwrap();
        file["internal"]["tls"][key] = json!(folder.join(name));
    }
}

/// As its pod would reach the API server: with the ServiceAccount that the operator made.
async fn kubeconfig(world: &World, name: &str, folder: &Path) -> PathBuf {
    let account = format!("{name}-authserver");
    world.appears::<ServiceAccount>(&account).await;
    let token = world
        .token_of(&world.namespace, &account, Vec::new(), 3600)
        .await;
    let path = folder.join("kubeconfig");
    world.cluster.write_kubeconfig(&path, &token);
    path
}
