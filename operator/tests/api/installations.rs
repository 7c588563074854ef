//! Two installations of the operator over the same objects.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::PostParams;
use mcpauth_api::{McpAuthServer, ProtectedMcpServer};
use mcpauth_test_support::process::{Process, free_ports};
use mcpauth_test_support::wait::eventually;
use serde_json::{Value, json};

use crate::support::faults::{self, Fate};
use crate::support::world::{OWN, Object, Operator, World, specs};

const CLAIM: &str = "mcpauth.io/claimed-by";

/// An installation as a process, whose Lease has this name in the world's namespace.
struct Installation {
    process: Process,
    health: u16,
}

impl Installation {
    fn start(world: &World, lease: &str) -> Self {
        let [health] = free_ports();
        let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-auth-operator"));
        command
            .args(["--watch-namespace", &world.namespace])
            .args(["--namespace", &world.namespace])
            .args(["--lease-name", lease])
            .args(["--health-address", &format!("127.0.0.1:{health}")])
            .args(["--long-resync-seconds", "1", "--resync-seconds", "1"])
            .env("KUBECONFIG", world.cluster.kubeconfig());
        let process = Process::start(&mut command);
        Self { process, health }
    }

    /// The value of a metric, without the prefix of its name; nothing before it is first counted.
    async fn metric(&self, name: &str) -> Option<f64> {
        let url = format!("http://127.0.0.1:{}/metrics", self.health);
        let text = reqwest::get(url).await.ok()?.text().await.ok()?;
        let name = format!("mcpauth_operator_{name}");
        let line = text.lines().find(|line| line.starts_with(&name))?;
        line.rsplit(' ').next()?.parse().ok()
    }
}

async fn claim<K: Object>(world: &World, name: &str) -> Option<String> {
    world
        .get::<K>(name)
        .await?
        .annotations()
        .get(CLAIM)
        .cloned()
}

async fn is_claimed<K: Object>(world: &World, name: &str, lease: &str) {
    let expected = format!("{}/{lease}", world.namespace);
    eventually(&format!("{name} is claimed by {expected}"), || async {
        let claim = claim::<K>(world, name).await;
        let seen = format!("{claim:?}");
        claim.filter(|claim| *claim == expected).ok_or(seen)
    })
    .await;
}

async fn annotate(world: &World, key: &str, value: &str) {
    let patch = json!({ "metadata": { "annotations": { key: value } } });
    world.patch::<McpAuthServer>("auth", &patch).await;
}

/// How many McpAuthServers an operator in this process leaves alone.
fn left_alone(operator: &Operator) -> usize {
    let text = operator.context.metrics.encode();
    let gauge = r#"mcpauth_operator_objects_claimed_elsewhere{kind="McpAuthServer"} "#;
    let count = text.lines().find_map(|line| line.strip_prefix(gauge));
    count.map_or(0, |count| count.parse().unwrap())
}

/// The versions of everything, once nobody writes any more.
async fn settled(world: &World) -> Vec<(String, String)> {
    let mut before = world.versions().await;
    loop {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let now = world.versions().await;
        if now == before {
            return now;
        }
        before = now;
    }
}

#[tokio::test]
async fn a_second_installation_leaves_what_the_first_claims_until_that_is_gone() {
    let world = World::new("claims").await;
    let first = Installation::start(&world, "one");
    let spec = specs::auth_server();
    world.create::<McpAuthServer>("auth", &spec).await;
    world.appears::<Deployment>("auth-authserver").await;
    is_claimed::<McpAuthServer>(&world, "auth", "one").await;
    let before = settled(&world).await;

    // The second says so, once, and writes nothing.
    let mut second = Installation::start(&world, "two");
    let notes = world.events("auth", "ClaimedByAnother").await;
    let own = format!("{CLAIM}={}/two", world.namespace);
    assert!(notes[0].contains(&own), "{notes:?}");
    assert_eq!(settled(&world).await, before);
    assert_eq!(
        second
            .metric(r#"objects_claimed_elsewhere{kind="McpAuthServer"}"#)
            .await,
        Some(1.0)
    );
    assert_eq!(second.metric("writes_total{").await, None);

    // What is new goes to the installation that has its authorization server.
    for at in 0..8 {
        let resource = json!(format!("http://localhost:{}/mcp", 9100 + at));
        let spec = specs::with(specs::protected_server(), "/resource", resource);
        let name = format!("notes-{at}");
        world.create::<ProtectedMcpServer>(&name, &spec).await;
    }
    for at in 0..8 {
        let name = format!("notes-{at}");
        is_claimed::<ProtectedMcpServer>(&world, &name, "one").await;
        world.appears::<Deployment>(&name).await;
    }
    assert_eq!(second.metric("writes_total{").await, None);
    assert_eq!(world.events("auth", "ClaimedByAnother").await.len(), 1);

    // The first ends without a word, and its Lease gets old.
    drop(first);
    annotate(&world, "looked-at", "again").await;
    let old = json!({ "spec": { "renewTime": "2026-01-01T00:00:00.000000Z" } });
    world.patch::<Lease>("one", &old).await;
    annotate(&world, "looked-at", "once more").await;
    is_claimed::<McpAuthServer>(&world, "auth", "two").await;
    let notes = world.events("auth", "TakenOver").await;
    assert!(notes[0].contains("not renewed"), "{notes:?}");
    is_claimed::<ProtectedMcpServer>(&world, "notes-0", "two").await;
    assert_eq!(
        second
            .metric(r#"objects_claimed_elsewhere{kind="McpAuthServer"}"#)
            .await,
        Some(0.0)
    );

    // When the first comes back, it is the one that leaves the object alone.
    let before = settled(&world).await;
    let first = Installation::start(&world, "one");
    eventually("the first leaves it alone", || async {
        let left = first.metric(r#"objects_claimed_elsewhere{kind="McpAuthServer"}"#);
        (left.await == Some(1.0)).then_some(())
    })
    .await;
    assert_eq!(settled(&world).await, before);
    assert_eq!(first.metric("writes_total{").await, None);
    assert!(!second.process.has_ended());
}

#[tokio::test]
async fn a_claim_whose_lease_cannot_be_read_moves_by_annotation_alone() {
    let world = World::new("unreadable").await;
    let spec = specs::auth_server();
    world.create::<McpAuthServer>("auth", &spec).await;
    annotate(&world, CLAIM, "elsewhere/operator").await;
    let client = faults::client(
        world.cluster,
        Arc::new(
            |_: &Method, path: &str| match path.contains("/namespaces/elsewhere/leases/") {
                true => Fate::Status(403),
                false => Fate::Pass,
            },
        ),
    );
    let operator = world.operator_for(client, |config| config.lease_name = "own".into());
    let notes = world.events("auth", "ClaimedByAnother").await;
    assert!(notes[0].contains("does not change by itself"), "{notes:?}");
    // Longer than a Lease that is gone would need.
    for look in 0..10 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        annotate(&world, "looked-at", &look.to_string()).await;
    }
    let object: McpAuthServer = world.get("auth").await.unwrap();
    assert!(object.finalizers().is_empty() && object.status.is_none());
    assert_eq!(operator.writes(), 0);
    let command = notes[0]
        .rsplit_once(CLAIM)
        .unwrap()
        .1
        .trim_start_matches('=');
    annotate(&world, CLAIM, command).await;
    world.appears::<Deployment>("auth-authserver").await;

    // Not even its deletion is anybody else's business.
    annotate(&world, CLAIM, "not a claim").await;
    eventually("it is left alone again", || async {
        (left_alone(&operator) == 1).then_some(())
    })
    .await;
    let writes = operator.writes();
    world.delete::<McpAuthServer>("auth").await;
    operator.goes_on(1).await;
    assert!(world.get::<McpAuthServer>("auth").await.is_some());
    assert_eq!(operator.writes(), writes);
    annotate(&world, CLAIM, command).await;
    world.disappears::<McpAuthServer>("auth").await;
    operator.stop().await;
}

#[tokio::test]
async fn of_two_installations_at_once_one_claims_each_object() {
    let world = World::new("race").await;
    let now: Value = json!({ "renewTime": Timestamp::now().to_string() });
    let leases = ["one", "two"].map(|name| format!("{}-{name}", world.namespace));
    for name in &leases {
        let lease = json!({ "metadata": { "name": name }, "spec": now });
        let lease: Lease = serde_json::from_value(lease).unwrap();
        let api: kube::Api<Lease> = kube::Api::namespaced(world.client.clone(), OWN);
        api.create(&PostParams::default(), &lease).await.unwrap();
    }
    let operators = leases
        .map(|lease| world.operator_for(world.client.clone(), |config| config.lease_name = lease));
    for at in 0..10 {
        let issuer = json!(format!("http://localhost:{}", 9200 + at));
        let spec = specs::with(specs::auth_server(), "/issuer", issuer);
        world
            .create::<McpAuthServer>(&format!("auth-{at}"), &spec)
            .await;
    }
    for at in 0..10 {
        world
            .appears::<Deployment>(&format!("auth-{at}-authserver"))
            .await;
    }
    let before = settled(&world).await;
    for operator in &operators {
        operator.goes_on(5).await;
    }
    assert_eq!(settled(&world).await, before);
    let alone = operators.iter().map(left_alone);
    assert_eq!(alone.sum::<usize>(), 10);
    for operator in operators {
        operator.stop().await;
    }
}
