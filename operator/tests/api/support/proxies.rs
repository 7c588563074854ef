//! Pods with a proxy, where there is no kubelet: the pod as the API server has it, and the health port that its proxy
//! would have.

use std::sync::Arc;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use mcpauth_wire::proxy_health::{self, InForce};
use serde_json::json;

/// The proxy's container.
const CONTAINER: &str = "resource-proxy";

/// Whether the pods of a Deployment have a proxy.
pub fn has_one(deployment: &Deployment) -> bool {
    let template = &deployment.spec.as_ref().unwrap().template;
    let mut containers = template
        .spec
        .iter()
        .flat_map(|s| s.init_containers.iter().flatten());
    containers.any(|container| container.name == CONTAINER)
}

/// The health port of a proxy that runs whatever its ConfigMap says.
pub async fn following(maps: Api<ConfigMap>, server: &str) -> u16 {
    let map = format!("{server}-proxy-v1");
    answering(move || {
        let (maps, map) = (maps.clone(), map.clone());
        async move {
            let text = maps.get(&map).await.ok()?.data?.remove("proxy.yaml")?;
            Some(InForce {
                hash: proxy_health::hash(&text),
                rejected: None,
            })
        }
    })
    .await
}

/// A health port that answers with what `say` gives, or 404.
pub async fn answering<F>(say: impl Fn() -> F + Send + Sync + 'static) -> u16
where
    F: Future<Output = Option<InForce>> + Send + 'static,
{
    let say = Arc::new(say);
    let answer = move || {
        let say = Arc::clone(&say);
        async move {
            match say().await {
                Some(said) => Json(said).into_response(),
                None => StatusCode::NOT_FOUND.into_response(),
            }
        }
    };
    let route = axum::routing::get(
        move || -> std::pin::Pin<Box<dyn Future<Output = Response> + Send>> { Box::pin(answer()) },
    );
    let router = axum::Router::new().route(proxy_health::CONFIGURATION, route);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, router).await });
    port
}

/// Deletes the pods of a Deployment, and creates one for each port.
pub async fn replace_pods(api: &Api<Pod>, deployment: &Deployment, ports: &[u16]) {
    let labels = deployment
        .spec
        .as_ref()
        .unwrap()
        .selector
        .match_labels
        .clone()
        .unwrap();
    let selector: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let params = ListParams::default().labels(&selector.join(","));
    for pod in api.list(&params).await.unwrap() {
        let now = DeleteParams {
            grace_period_seconds: Some(0),
            ..DeleteParams::default()
        };
        api.delete(&pod.name_any(), &now).await.unwrap();
    }
    for port in ports {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "generateName": format!("{}-", deployment.name_any()), "labels": labels },
            "spec": {
                "automountServiceAccountToken": false,
                "initContainers": [{
                    "name": CONTAINER, "image": "x", "restartPolicy": "Always",
                    "ports": [{ "name": "health", "containerPort": port }],
                }],
                "containers": [{ "name": "server", "image": "x" }],
            },
        }))
        .unwrap();
        let made = api.create(&PostParams::default(), &pod).await.unwrap();
        let status = json!({ "status": {
            "phase": "Running", "podIP": "127.0.0.1", "podIPs": [{ "ip": "127.0.0.1" }],
            "initContainerStatuses": [{
                "name": CONTAINER, "image": "x", "imageID": "", "ready": true, "restartCount": 0,
                "state": { "running": {} },
            }],
        }});
        let patch = Patch::Merge(status);
        api.patch_status(&made.name_any(), &PatchParams::default(), &patch)
            .await
            .unwrap();
    }
}
