//! A namespace of a test, and an operator that serves it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams,
};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt};
use mcp_auth_operator::authserver::{Endpoint, Server};
use mcp_auth_operator::config::{Config, UserIds};
use mcp_auth_operator::framework::context::Context;
use mcp_auth_operator::metrics::Metrics;
use mcp_auth_operator::run::run_controllers;
use mcpauth_service::clock::Clock;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::proxies;
use mcpauth_test_support::api_server::Cluster;
use mcpauth_test_support::wait::eventually;

/// The operator's own namespace and ServiceAccount.
pub const OWN: &str = "mcp-auth-system";
/// The operator's ServiceAccount.
pub const ACCOUNT: &str = "mcp-auth-operator";

/// What tests create and read.
pub trait Object:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + std::fmt::Debug
    + DeserializeOwned
    + Serialize
{
}
impl<T> Object for T where
    T: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Serialize
{
}

/// A namespace of its own for one test.
pub struct World {
    pub cluster: &'static Cluster,
    pub client: Client,
    pub namespace: String,
    /// Where authorization servers are reached, by their name; others nowhere.
    pub endpoints: Arc<Mutex<HashMap<String, String>>>,
    /// The operator's clock.
    pub clock: Clock,
}

impl World {
    /// A new namespace whose name begins with `name`, on the API server that tests share.
    pub async fn new(name: &str) -> Self {
        Self::on(Cluster::get().await, name).await
    }

    /// As [`Self::new`], on an API server of its own: for an operator that serves all namespaces.
    pub async fn apart(name: &str) -> Self {
        Self::on(Cluster::apart().await, name).await
    }

    /// Another namespace on the same API server.
    pub async fn neighbour(&self, name: &str) -> Self {
        Self::on(self.cluster, name).await
    }

    async fn on(cluster: &'static Cluster, name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let client = cluster.client();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // Tests may be processes of their own. A namespace has at most 63 characters.
        let suffix = format!("-{}-{count}", std::process::id());
        let begin = name.len().min(63 - suffix.len());
        let namespace = format!("{}{suffix}", &name[..begin]);
        for name in [&namespace, OWN] {
            let object: Namespace =
                serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap();
            let created = Api::all(client.clone())
                .create(&PostParams::default(), &object)
                .await;
            assert!(created.is_ok() || name == OWN, "{created:?}");
        }
        let account: ServiceAccount =
            serde_json::from_value(json!({ "metadata": { "name": ACCOUNT } })).unwrap();
        let _ = Api::namespaced(client.clone(), OWN)
            .create(&PostParams::default(), &account)
            .await;
        Self {
            cluster,
            client,
            namespace,
            endpoints: Arc::default(),
            clock: Clock::shifted(),
        }
    }

    pub fn api<K: Object>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Objects of `K` as they are stored, also those that do not parse.
    pub fn raw<K: Object>(&self) -> Api<DynamicObject> {
        let kind = ApiResource::erase::<K>(&());
        Api::namespaced_with(self.client.clone(), &self.namespace, &kind)
    }

    /// Creates an object of `K` from its spec.
    pub async fn create<K: Object>(&self, name: &str, spec: &Value) -> K {
        self.try_create(name, spec).await.unwrap()
    }

    pub async fn try_create<K: Object>(&self, name: &str, spec: &Value) -> Result<K, kube::Error> {
        let object = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": { "name": name },
            "spec": spec,
        });
        let object = serde_json::from_value(object).unwrap();
        let made = self
            .raw::<K>()
            .create(&PostParams::default(), &object)
            .await?;
        Ok(serde_json::from_value(serde_json::to_value(made).unwrap()).unwrap())
    }

    pub async fn patch<K: Object>(&self, name: &str, patch: &Value) -> K {
        self.api::<K>()
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap()
    }

    pub async fn delete<K: Object>(&self, name: &str) {
        self.api::<K>()
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
    }

    pub async fn get<K: Object>(&self, name: &str) -> Option<K> {
        self.api::<K>().get_opt(name).await.unwrap()
    }

    /// Waits for an object.
    pub async fn appears<K: Object>(&self, name: &str) -> K {
        eventually(&format!("{} {name} appears", K::kind(&())), || {
            self.get::<K>(name)
        })
        .await
    }

    /// Waits until an object is gone.
    pub async fn disappears<K: Object>(&self, name: &str) {
        eventually(&format!("{} {name} disappears", K::kind(&())), || async {
            self.get::<K>(name).await.is_none().then_some(())
        })
        .await;
    }

    /// One condition of an object.
    pub async fn condition<K: Object>(&self, name: &str, type_: &str) -> Option<Condition> {
        let object = serde_json::to_value(self.get::<K>(name).await?).unwrap();
        let conditions: Vec<Condition> =
            serde_json::from_value(object["status"]["conditions"].clone()).ok()?;
        conditions.into_iter().find(|c| c.type_ == type_)
    }

    /// Waits until an object, which need not parse, is gone.
    pub async fn ends<K: Object>(&self, name: &str) {
        let api = self.raw::<K>();
        api.delete(name, &DeleteParams::default()).await.unwrap();
        eventually(&format!("{} {name} is gone", K::kind(&())), || async {
            api.get_opt(name).await.unwrap().is_none().then_some(())
        })
        .await;
    }

    /// Changes an object so that it no longer parses, and waits until the operator says so.
    pub async fn spoil<K: Object>(&self, name: &str, pointer: &str) {
        let api = self.raw::<K>();
        // A quantity may be an integer, so the schema lets this one pass.
        let add = json!([{ "op": "add", "path": pointer, "value": { "limits": { "cpu": -1 } } }]);
        let patch: Patch<()> = Patch::Json(serde_json::from_value(add).unwrap());
        let params = PatchParams::default();
        api.patch(name, &params, &patch).await.unwrap();
        eventually(&format!("{name} does not parse"), || async {
            let object = api.get(name).await.unwrap();
            let conditions = object.data["status"]["conditions"].as_array()?.clone();
            let said = |c: &Value| c["type"] == "Ready" && c["reason"] == "InvalidSpec";
            conditions.iter().any(said).then_some(())
        })
        .await;
    }

    /// Waits until a condition has this status and reason.
    pub async fn reaches<K: Object>(
        &self,
        name: &str,
        type_: &str,
        status: &str,
        reason: &str,
    ) -> Condition {
        let what = format!("{} {name} is {type_}={status} {reason}", K::kind(&()));
        eventually(&what, || async {
            let condition = self.condition::<K>(name, type_).await;
            let seen = format!("{condition:?}");
            let there = condition.filter(|c| c.status == status && c.reason == reason);
            there.ok_or(seen)
        })
        .await
    }

    pub async fn is_ready<K: Object>(&self, name: &str) -> Condition {
        self.reaches::<K>(name, "Ready", "True", "Ready").await
    }

    pub async fn not_ready<K: Object>(&self, name: &str, reason: &str) -> Condition {
        self.reaches::<K>(name, "Ready", "False", reason).await
    }

    /// Does what the Deployment controller and kubelet would do. Proxies run the policy that they are given.
    pub async fn pods_are_up(&self, deployment: &str) {
        let found: Deployment = self.appears(deployment).await;
        let replicas = found.spec.as_ref().unwrap().replicas.unwrap_or(1);
        if proxies::has_one(&found) {
            let port = proxies::following(self.api(), deployment).await;
            self.proxies_are_up(deployment, &vec![port; usize::try_from(replicas).unwrap()])
                .await;
        }
        self.pods(deployment, found.metadata.generation, replicas)
            .await;
    }

    /// Replaces the pods of a Deployment: one for each port, on which its proxy's health port is.
    pub async fn proxies_are_up(&self, deployment: &str, ports: &[u16]) {
        let found: Deployment = self.appears(deployment).await;
        proxies::replace_pods(&self.api(), &found, ports).await;
    }

    /// Updates the status of a Deployment, whatever its pods are.
    pub async fn pods_are_up_as_they_are(&self, deployment: &str) {
        let found: Deployment = self.appears(deployment).await;
        let replicas = found.spec.as_ref().unwrap().replicas.unwrap_or(1);
        self.pods(deployment, found.metadata.generation, 0).await;
        self.pods(deployment, found.metadata.generation, replicas)
            .await;
    }

    pub async fn pods_are_down(&self, deployment: &str) {
        let found: Deployment = self.appears(deployment).await;
        proxies::replace_pods(&self.api(), &found, &[]).await;
        self.pods(deployment, found.metadata.generation, 0).await;
    }

    /// Waits until Ready is Unknown for this reason.
    pub async fn is_unknown<K: Object>(&self, name: &str, reason: &str) -> Condition {
        self.reaches::<K>(name, "Ready", "Unknown", reason).await
    }

    async fn pods(&self, deployment: &str, generation: Option<i64>, up: i32) {
        let status = json!({ "status": {
            "observedGeneration": generation, "replicas": up, "updatedReplicas": up,
            "readyReplicas": up, "availableReplicas": up,
        }});
        let api = self.api::<Deployment>();
        api.patch_status(deployment, &PatchParams::default(), &Patch::Merge(status))
            .await
            .unwrap();
    }

    pub async fn database_is_up(&self, name: &str) {
        let found: StatefulSet = self.appears(name).await;
        let status = json!({ "status": {
            "observedGeneration": found.metadata.generation, "replicas": 1, "updatedReplicas": 1,
            "readyReplicas": 1, "availableReplicas": 1, "currentReplicas": 1,
        }});
        let api = self.api::<StatefulSet>();
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(status))
            .await
            .unwrap();
    }

    /// The notes of events about an object with this reason. Waits for the first: it is published after the
    /// status that it is about is written.
    pub async fn events(&self, name: &str, reason: &str) -> Vec<String> {
        let api = self.api::<Event>();
        eventually(&format!("an event {reason} about {name}"), || async {
            let all = api.list(&ListParams::default()).await.unwrap();
            let notes: Vec<String> = all
                .into_iter()
                .filter(|e| e.regarding.as_ref().and_then(|r| r.name.as_deref()) == Some(name))
                .filter(|e| e.reason.as_deref() == Some(reason))
                .filter_map(|e| e.note)
                .collect();
            (!notes.is_empty()).then_some(notes)
        })
        .await
    }

    /// The resource versions of all children, by kind and name.
    pub async fn versions(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        found.extend(self.versions_of::<ServiceAccount>().await);
        found.extend(
            self.versions_of::<k8s_openapi::api::core::v1::ConfigMap>()
                .await,
        );
        found.extend(
            self.versions_of::<k8s_openapi::api::core::v1::Secret>()
                .await,
        );
        found.extend(
            self.versions_of::<k8s_openapi::api::core::v1::Service>()
                .await,
        );
        found.extend(
            self.versions_of::<k8s_openapi::api::networking::v1::NetworkPolicy>()
                .await,
        );
        found.extend(self.versions_of::<Deployment>().await);
        found.extend(self.versions_of::<StatefulSet>().await);
        found.extend(self.versions_of::<mcpauth_api::McpAuthServer>().await);
        found.extend(self.versions_of::<mcpauth_api::ProtectedMcpServer>().await);
        found.extend(self.versions_of::<mcpauth_api::McpOAuthClient>().await);
        found
    }

    async fn versions_of<K: Object>(&self) -> Vec<(String, String)> {
        let all = self.api::<K>().list(&ListParams::default()).await.unwrap();
        let version = |o: &K| {
            (
                format!("{} {}", K::kind(&()), o.name_any()),
                o.resource_version().unwrap(),
            )
        };
        all.iter().map(version).collect()
    }

    /// A token of the operator for the internal port of the McpAuthServer `name`.
    pub async fn operator_token(&self, name: &str) -> String {
        let audience = format!(
            "http://{name}-authserver-internal.{}.svc:8081",
            self.namespace
        );
        self.token_of(OWN, ACCOUNT, vec![audience], 600).await
    }

    /// A token of a ServiceAccount; without audiences, for the API server.
    pub async fn token_of(
        &self,
        namespace: &str,
        account: &str,
        audiences: Vec<String>,
        seconds: u32,
    ) -> String {
        let request: TokenRequest = serde_json::from_value(json!({
            "metadata": {}, "spec": { "audiences": audiences, "expirationSeconds": seconds },
        }))
        .unwrap();
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let answer = accounts
            .create_token_request(account, &PostParams::default(), &request)
            .await;
        answer.unwrap().status.unwrap().token
    }

    /// An operator for this namespace only.
    pub fn operator(&self) -> Operator {
        self.operator_with(self.client.clone(), Some(&self.namespace))
    }

    /// An operator with a client of its own, for one namespace or for all.
    pub fn operator_with(&self, client: Client, namespace: Option<&str>) -> Operator {
        self.operator_for(client, |config| {
            config.watch_namespaces = namespace.map(str::to_owned).into_iter().collect();
        })
    }

    /// An operator with flags of its own.
    pub fn operator_for(&self, client: Client, change: impl FnOnce(&mut Config)) -> Operator {
        let metrics = Arc::new(Metrics::default());
        let mut config = config(&self.namespace);
        change(&mut config);
        let context = Context::new(client, config, metrics, self.clock.clone(), self.endpoint());
        let context = Arc::new(context);
        let stop = CancellationToken::new();
        let task = tokio::spawn({
            let (context, stop) = (Arc::clone(&context), stop.clone());
            async move { run_controllers(&context, &stop).await }
        });
        Operator {
            context,
            stop,
            task,
        }
    }

    fn endpoint(&self) -> Endpoint {
        let endpoints = Arc::clone(&self.endpoints);
        Arc::new(move |server: &Server, tls: bool| {
            // Nobody listens on port 1.
            let nowhere = || "http://127.0.0.1:1".to_owned();
            let known = endpoints.lock().unwrap().get(&server.name).cloned();
            let url = known.unwrap_or_else(nowhere);
            match tls {
                true => url.replace("http:", "https:"),
                false => url,
            }
        })
    }
}

/// The operator's flags in tests.
fn config(namespace: &str) -> Config {
    Config {
        watch_namespaces: vec![namespace.to_owned()],
        authserver_image: "authserver:test".into(),
        resource_proxy_image: "proxy:test".into(),
        postgres_image: "postgres:test".into(),
        image_pull_secrets: Vec::new(),
        user_ids: UserIds::Auto,
        network_policies: true,
        max_concurrent_upgrades: 10,
        concurrency: 8,
        resync_seconds: 1,
        long_resync_seconds: 1,
        reconcile_timeout_seconds: 30,
        namespace: OWN.into(),
        service_account: ACCOUNT.into(),
        admins: Vec::new(),
        identity: "test".into(),
        lease_name: "test".into(),
        health_address: SocketAddr::from(([127, 0, 0, 1], 0)),
    }
}

/// An operator that runs in this process.
pub struct Operator {
    pub context: Arc<Context>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Operator {
    /// Stops in order.
    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }

    /// Ends at once, as a killed process does.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    pub fn writes(&self) -> u64 {
        self.context.metrics.total_writes()
    }

    /// How many reconciles ended so far, of whatever result.
    pub fn reconciles(&self) -> u64 {
        self.reconciles_of("")
    }

    /// How many of them were of this kind.
    pub fn reconciles_of(&self, kind: &str) -> u64 {
        let text = self.context.metrics.encode();
        let lines = text
            .lines()
            .filter(|l| l.starts_with("mcpauth_operator_reconciles_total{") && l.contains(kind));
        lines
            .filter_map(|l| l.rsplit(' ').next()?.parse::<u64>().ok())
            .sum()
    }

    /// Waits until `count` more reconciles have ended.
    pub async fn goes_on(&self, count: u64) {
        let goal = self.reconciles() + count;
        eventually("the operator reconciles", || async {
            (self.reconciles() >= goal).then_some(())
        })
        .await;
    }
}

/// Specs that are valid.
pub mod specs {
    use serde_json::{Value, json};

    pub fn auth_server() -> Value {
        json!({
            "issuer": "http://localhost:9000",
            "storage": { "memory": {} },
            "login": { "developmentAutoApprove": {} },
            "registration": { "dynamic": {} },
        })
    }

    pub fn protected_server() -> Value {
        json!({
            "authServerRef": { "name": "auth" },
            "resource": "http://localhost:9001/mcp",
            "server": { "template": { "image": "notes:test", "http": { "port": 8000 } } },
            "scopes": [
                { "name": "notes:read" },
                { "name": "notes:write", "implies": ["notes:read"] },
            ],
            "access": { "rules": [{ "tools": ["create_*"], "scopes": ["notes:write"] }] },
        })
    }

    pub fn client() -> Value {
        json!({
            "authServerRef": { "name": "auth" },
            "clientName": "Robot",
            "tokenEndpointAuthMethod": "client_secret_basic",
            "grantTypes": ["client_credentials"],
        })
    }

    /// `spec` with the value at a JSON pointer replaced, or taken away by null.
    pub fn with(mut spec: Value, pointer: &str, value: Value) -> Value {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = if parent.is_empty() {
            &mut spec
        } else {
            spec.pointer_mut(parent).unwrap()
        };
        match parent {
            Value::Array(items) => items[key.parse::<usize>().unwrap()] = value,
            object => {
                if value.is_null() {
                    object.as_object_mut().unwrap().remove(key);
                } else {
                    object[key] = value;
                }
            }
        }
        spec
    }
}
