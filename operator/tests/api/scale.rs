//! How long many objects take, against a plain client that writes the same objects to the same API server: `make scale`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use http::Method;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams};
use mcp_auth_operator::config::Config;
use mcpauth_api::{McpAuthServer, ProtectedMcpServer};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::authserver::AuthServer;
use crate::support::faults::{self, Fate};
use crate::support::world::{Object, Operator, World, specs};

/// Requests at once, of the plain client and of whoever creates the objects.
const AT_ONCE: usize = 16;
/// How often it is looked whether all children are there.
const LOOK: Duration = Duration::from_millis(250);
/// So long after the last write, no more are expected.
const STILL: Duration = Duration::from_secs(10);
/// The longest that one run may take.
const PATIENCE: Duration = Duration::from_secs(600);

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |value| value.parse().unwrap())
}

/// What the authorization server does.
#[derive(Clone, Copy, Debug)]
enum AuthServerIs {
    There,
    Missing,
    Refusing,
    Silent,
}

/// The operator's own defaults, which tests shorten.
fn settings(config: &mut Config) {
    config.concurrency = u16::try_from(number("CONCURRENCY", 16)).unwrap();
    (config.resync_seconds, config.long_resync_seconds) = (30, 300);
}

/// Requests to the API server by method and kind.
type Requests = Arc<Mutex<BTreeMap<String, usize>>>;

/// A client of the cluster that counts what it sends.
fn counting(world: &World, requests: &Requests) -> kube::Client {
    let requests = Arc::clone(requests);
    let count = move |method: &Method, path: &str| {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let kind = parts.iter().skip_while(|p| **p != "namespaces").skip(2);
        let kind: Vec<&str> = kind
            .copied()
            .enumerate()
            .filter(|(i, _)| *i != 1)
            .map(|(_, p)| p)
            .collect();
        let key = format!("{method} {}", kind.join("/"));
        *requests.lock().unwrap().entry(key).or_default() += 1;
        Fate::Pass
    };
    faults::client(world.cluster, Arc::new(count))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures for minutes: make scale"]
async fn with_the_authorization_server_there() {
    run(AuthServerIs::There).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures for minutes: make scale"]
async fn with_the_authorization_server_missing() {
    run(AuthServerIs::Missing).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures for minutes: make scale"]
async fn with_the_authorization_server_refusing() {
    run(AuthServerIs::Refusing).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures for minutes: make scale"]
async fn with_the_authorization_server_silent() {
    run(AuthServerIs::Silent).await;
}

async fn run(state: AuthServerIs) {
    let objects = number("OBJECTS", 1000);
    let quiet = Duration::from_secs(number("QUIET", 300) as u64);
    println!("{state:?}: {objects} objects, {AT_ONCE} requests at once");
    let world = World::new("many").await;
    let requests = Requests::default();
    let operator = world.operator_for(counting(&world, &requests), settings);
    let _running = prepare(&world, state).await;
    let first = late(&world, "first").await;
    let plain = plain(&world, objects).await;

    requests.lock().unwrap().clear();
    let (reconciles, already) = (operator.reconciles(), count::<Deployment>(&world).await);
    let started = Instant::now();
    create_all(&world, objects).await;
    let created = started.elapsed();
    until(|| async { count::<Deployment>(&world).await >= already + objects }).await;
    let took = started.elapsed();
    let sent = requests.lock().unwrap().clone();
    println!(
        "{state:?}: children of all after {:.1} s (objects created after {:.1} s); plain client {:.1} s; ratio {:.2}; {} reconciles, {} requests",
        took.as_secs_f64(),
        created.as_secs_f64(),
        plain.as_secs_f64(),
        took.as_secs_f64() / plain.as_secs_f64(),
        operator.reconciles() - reconciles,
        sent.values().sum::<usize>(),
    );
    for (what, times) in sent.iter().filter(|(_, times)| **times * 10 > objects) {
        println!("    {:.2} {what}", *times as f64 / objects as f64);
    }
    let among = late(&world, "late").await;
    println!(
        "{state:?}: first child of a new object after {} ms among none, {} ms among {objects}",
        first.as_millis(),
        among.as_millis(),
    );
    is_quiet(state, &world, operator, objects, quiet).await;
}

/// Afterwards nothing is written, neither by the operator that made the objects nor by the next one.
async fn is_quiet(
    state: AuthServerIs,
    world: &World,
    operator: Operator,
    objects: usize,
    quiet: Duration,
) {
    // Statuses follow the children.
    let started = Instant::now();
    let (mut before, mut last) = (0, started);
    while before != operator.writes() || last.elapsed() < STILL {
        if before != operator.writes() {
            (before, last) = (operator.writes(), Instant::now());
        }
        tokio::time::sleep(LOOK).await;
    }
    println!(
        "{state:?}: the last status {:.1} s after the children",
        (last - started).as_secs_f64()
    );
    let (reconciles, writes) = (operator.reconciles(), operator.writes());
    tokio::time::sleep(quiet).await;
    println!(
        "{state:?}: {} writes and {} reconciles in {} s of rest",
        operator.writes() - writes,
        operator.reconciles() - reconciles,
        quiet.as_secs(),
    );
    operator.stop().await;
    let next = world.operator_for(world.client.clone(), settings);
    let started = Instant::now();
    until(|| async { next.reconciles_of("ProtectedMcpServer") >= objects as u64 }).await;
    println!(
        "{state:?}: the next operator has seen all after {:.1} s, with {} writes",
        started.elapsed().as_secs_f64(),
        next.writes(),
    );
    next.stop().await;
}

/// What runs until it is dropped.
enum Running {
    Nothing,
    Process(#[expect(dead_code, reason = "ends when dropped")] AuthServer),
}

async fn prepare(world: &World, state: AuthServerIs) -> Running {
    if matches!(state, AuthServerIs::There) {
        return Running::Process(AuthServer::create(world, "auth").await);
    }
    world
        .create::<McpAuthServer>("auth", &specs::auth_server())
        .await;
    if matches!(state, AuthServerIs::Missing) {
        return Running::Nothing;
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    world
        .endpoints
        .lock()
        .unwrap()
        .insert("auth".to_owned(), url);
    match state {
        AuthServerIs::Refusing => {
            let refuse = axum::Router::new().fallback(async || axum::http::StatusCode::FORBIDDEN);
            tokio::spawn(async move { axum::serve(listener, refuse).await });
        }
        _ => {
            tokio::spawn(async move {
                let mut open = Vec::new();
                while let Ok((stream, _)) = listener.accept().await {
                    open.push(stream);
                }
            });
        }
    }
    Running::Nothing
}

async fn until<F: Future<Output = bool>>(is: impl Fn() -> F) {
    let started = Instant::now();
    while !is().await {
        assert!(
            started.elapsed() < PATIENCE,
            "not within {} s",
            PATIENCE.as_secs()
        );
        tokio::time::sleep(LOOK).await;
    }
}

/// How many there are, without reading them all.
async fn count<K: Object>(world: &World) -> usize {
    let one = ListParams::default().limit(1);
    let list = world.api::<K>().list_metadata(&one).await.unwrap();
    list.items.len() + usize::try_from(list.metadata.remaining_item_count.unwrap_or(0)).unwrap()
}

fn spec(at: usize) -> Value {
    let url = json!(format!("http://localhost:9001/mcp/{at}"));
    specs::with(specs::protected_server(), "/resource", url)
}

async fn create_all(world: &World, objects: usize) {
    futures::stream::iter(0..objects)
        .for_each_concurrent(AT_ONCE, |at| async move {
            let name = format!("server-{at}");
            world.create::<ProtectedMcpServer>(&name, &spec(at)).await;
        })
        .await;
}

/// How long the first child of a new object takes.
async fn late(world: &World, name: &str) -> Duration {
    static COUNT: AtomicUsize = AtomicUsize::new(1_000_000);
    let at = COUNT.fetch_add(1, Ordering::Relaxed);
    let started = Instant::now();
    world.create::<ProtectedMcpServer>(name, &spec(at)).await;
    while world.get::<ServiceAccount>(name).await.is_none() {
        assert!(started.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    started.elapsed()
}

/// How long a plain client takes for the same objects and children, in a namespace that no operator serves.
async fn plain(world: &World, objects: usize) -> Duration {
    let there = world.neighbour("plain").await;
    let first = "first";
    world.appears::<Deployment>(first).await;
    let (account, config) = (
        template::<ServiceAccount>(world, first).await,
        config(world).await,
    );
    let (service, policy) = (
        template::<Service>(world, first).await,
        template::<NetworkPolicy>(world, first).await,
    );
    let deployment = template::<Deployment>(world, first).await;
    let keys = template::<Secret>(world, &format!("{first}-proxy-keys")).await;
    let (there, account, config, keys) = (&there, &account, &config, &keys);
    let (service, policy, deployment) = (&service, &policy, &deployment);
    let started = Instant::now();
    futures::stream::iter(0..objects)
        .for_each_concurrent(AT_ONCE, |at| async move {
            let name = format!("server-{at}");
            there.create::<ProtectedMcpServer>(&name, &spec(at)).await;
            write(there, account, &name).await;
            write(there, keys, &format!("{name}-proxy-keys")).await;
            write(there, config, &name).await;
            write(there, service, &name).await;
            write(there, policy, &name).await;
            write(there, deployment, &name).await;
        })
        .await;
    let took = started.elapsed();
    // For each new Service the API server counts all addresses that it has given: the operator starts with as few.
    let (delete, list) = (DeleteParams::default(), ListParams::default());
    let services = there.api::<Service>();
    services.delete_collection(&delete, &list).await.unwrap();
    until(|| async { count::<Service>(there).await == 0 }).await;
    took
}

async fn config(world: &World) -> ConfigMap {
    let all = world
        .api::<ConfigMap>()
        .list(&ListParams::default())
        .await
        .unwrap();
    let name = all
        .iter()
        .map(ResourceExt::name_any)
        .find(|n| n.starts_with("first-"))
        .unwrap();
    template(world, &name).await
}

async fn template<K: Object>(world: &World, name: &str) -> K {
    let mut value = serde_json::to_value(world.appears::<K>(name).await).unwrap();
    let labels = value["metadata"]["labels"].clone();
    value["metadata"] = json!({ "labels": labels });
    value["spec"].as_object_mut().map(|spec| {
        spec.remove("clusterIP");
        spec.remove("clusterIPs")
    });
    value.as_object_mut().unwrap().remove("status");
    serde_json::from_value(value).unwrap()
}

async fn write<K: Object>(world: &World, template: &K, name: &str) {
    let mut object = template.clone();
    let meta: &mut ObjectMeta = object.meta_mut();
    meta.name = Some(name.to_owned());
    world
        .api::<K>()
        .create(&PostParams::default(), &object)
        .await
        .unwrap();
}
