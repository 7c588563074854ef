//! Bad objects, a bad API server, and operators that die.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures::StreamExt as _;
use http::Method;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use mcpauth_api::{McpAuthServer, McpOAuthClient, ProtectedMcpServer};
use serde_json::json;
use tokio::io::AsyncReadExt as _;

use crate::support::authserver::AuthServer;
use crate::support::faults::{self, Decide, Fate};
use crate::support::world::{Operator, World, specs};
use mcpauth_test_support::wait::eventually;

#[tokio::test]
async fn an_invalid_spec_condition_and_event_no_crash_other_objects_go_on() {
    let world = World::new("unreadable").await;
    let operator = world.operator();
    // A quantity may be an integer, so the schema lets this one pass.
    let limits = json!({ "limits": { "cpu": -1 } });
    let spec = specs::with(specs::auth_server(), "/resources", limits);
    let raw = world.raw::<McpAuthServer>();
    let bad = json!({
        "apiVersion": "mcpauth.io/v1alpha1", "kind": "McpAuthServer",
        "metadata": { "name": "bad" }, "spec": spec,
    });
    raw.create(
        &kube::api::PostParams::default(),
        &serde_json::from_value(bad).unwrap(),
    )
    .await
    .unwrap();
    let reason = |object: kube::api::DynamicObject| {
        let conditions = object.data["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        conditions
            .into_iter()
            .find(|c| c["type"] == "Ready")
            .map(|c| c["reason"].clone())
    };
    eventually("the object that does not parse says so", || async {
        let reason = reason(raw.get("bad").await.unwrap())?;
        (reason == "InvalidSpec").then_some(())
    })
    .await;
    assert_eq!(world.events("bad", "InvalidSpec").await.len(), 1);

    world
        .create::<McpAuthServer>("good", &specs::auth_server())
        .await;
    world.pods_are_up("good-authserver").await;
    world.is_ready::<McpAuthServer>("good").await;

    // It is not counted any longer than it lives.
    world.ends::<McpAuthServer>("bad").await;
    eventually("no object is counted as not ready", || async {
        let text = operator.context.metrics.encode();
        text.contains(r#"objects{kind="McpAuthServer",ready="false"} 0"#)
            .then_some(())
    })
    .await;
    operator.stop().await;
}

#[tokio::test]
async fn what_no_longer_parses_is_let_go_with_what_it_has_elsewhere() {
    let world = World::new("unreadable-gone").await;
    let operator = world.operator();
    let authserver = AuthServer::create(&world, "auth").await;
    world
        .create::<ProtectedMcpServer>("notes", &specs::protected_server())
        .await;
    world
        .reaches::<ProtectedMcpServer>("notes", "Registered", "True", "Ready")
        .await;
    let path = format!("resources/{}.notes", world.namespace);
    assert!(authserver.get(&world, "auth", &path).await.is_some());

    world
        .spoil::<ProtectedMcpServer>("notes", "/spec/server/template/resources")
        .await;
    world
        .spoil::<McpAuthServer>("auth", "/spec/resources")
        .await;
    world.ends::<ProtectedMcpServer>("notes").await;
    assert!(authserver.get(&world, "auth", &path).await.is_none());

    world.ends::<McpAuthServer>("auth").await;
    operator.stop().await;
}

/// A reconcile may begin with an object that is gone: nothing is made for it then, since nothing would take
/// it away again.
#[tokio::test]
async fn nothing_is_made_for_an_object_that_is_gone() {
    let world = World::new("gone-before").await;
    let client = faults::client(
        world.cluster,
        Arc::new(|method, path| match *method == Method::PATCH {
            true if path.ends_with("/mcpoauthclients/robot") => Fate::Status(404),
            _ => Fate::Pass,
        }),
    );
    let operator = world.operator_with(client, Some(&world.namespace));
    let authserver = AuthServer::create(&world, "auth").await;
    world
        .create::<McpOAuthClient>("robot", &specs::client())
        .await;
    operator.goes_on(6).await;
    assert!(world.get::<Secret>("robot-oauth-client").await.is_none());
    let path = format!("clients/{}_robot", world.namespace);
    assert!(authserver.get(&world, "auth", &path).await.is_none());
    operator.stop().await;
}

/// An authorization server that takes connections and never answers holds up its own clients only.
#[tokio::test]
async fn a_silent_authorization_server_keeps_few_workers() {
    let world = World::new("mute").await;
    let operator = world.operator();
    world
        .create::<McpAuthServer>("auth", &specs::auth_server())
        .await;
    let silent = Silent::start(&world, "auth").await;
    for i in 0..24 {
        let name = format!("robot-{i}");
        world
            .create::<McpOAuthClient>(&name, &specs::client())
            .await;
    }
    world
        .is_unknown::<McpOAuthClient>("robot-0", "AuthServerUnreachable")
        .await;
    eventually("the first calls have ended", || async {
        (silent.open.load(Ordering::SeqCst) <= 1).then_some(())
    })
    .await;
    silent.most.store(0, Ordering::SeqCst);
    let calls = silent.calls.load(Ordering::SeqCst);
    eventually("three more calls were made", || async {
        (silent.calls.load(Ordering::SeqCst) >= calls + 3).then_some(())
    })
    .await;
    // One call at a time; the connection of the one before may still be closing.
    let most = silent.most.load(Ordering::SeqCst);
    assert!(most <= 2, "{most} calls at once");
    operator.stop().await;
}

/// While the authorization server is silent, only a probe asks it: objects get their children and wait.
#[tokio::test]
async fn objects_of_a_silent_authorization_server_send_it_nothing() {
    let world = World::new("hushed").await;
    let operator = world.operator_for(world.client.clone(), |config| config.concurrency = 1);
    world
        .create::<McpAuthServer>("auth", &specs::auth_server())
        .await;
    let silent = Silent::start(&world, "auth").await;
    let server = specs::protected_server();
    world.create::<ProtectedMcpServer>("first", &server).await;
    world
        .is_unknown::<ProtectedMcpServer>("first", "AuthServerUnreachable")
        .await;
    let puts = silent.puts.load(Ordering::SeqCst);
    for i in 0..10 {
        let name = format!("late-{i}");
        world.create::<ProtectedMcpServer>(&name, &server).await;
    }
    for i in 0..10 {
        let name = format!("late-{i}");
        world.appears::<Deployment>(&name).await;
        world
            .is_unknown::<ProtectedMcpServer>(&name, "AuthServerUnreachable")
            .await;
    }
    assert_eq!(silent.puts.load(Ordering::SeqCst), puts);
    operator.stop().await;
}

/// Nothing else would reconcile the object: no resync, and no condition of the McpAuthServer that changes.
#[tokio::test]
async fn an_authorization_server_that_responds_again_gets_what_waits_for_it() {
    let world = World::new("awoken").await;
    let operator = world.operator_for(world.client.clone(), |config| {
        (config.resync_seconds, config.long_resync_seconds) = (3600, 3600);
    });
    let authserver = AuthServer::create(&world, "auth").await;
    let _silent = Silent::start(&world, "auth").await;
    world
        .create::<McpOAuthClient>("robot", &specs::client())
        .await;
    world
        .is_unknown::<McpOAuthClient>("robot", "AuthServerUnreachable")
        .await;
    authserver.is_found(&world, "auth");
    world.is_ready::<McpOAuthClient>("robot").await;
    operator.stop().await;
}

/// What is new has no children yet, so looking for them is a request for nothing.
#[tokio::test]
async fn children_of_a_new_object_are_created_without_a_read_before() {
    let world = World::new("fresh").await;
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let record = Arc::clone(&seen);
    let decide: Decide = Arc::new(move |method, path| {
        record.lock().unwrap().push(format!("{method} {path}"));
        Fate::Pass
    });
    let client = faults::client(world.cluster, decide);
    let operator = world.operator_with(client, Some(&world.namespace));
    world
        .create::<McpAuthServer>("auth", &specs::auth_server())
        .await;
    world.appears::<Deployment>("auth-authserver").await;
    seen.lock().unwrap().clear();
    world
        .create::<ProtectedMcpServer>("notes", &specs::protected_server())
        .await;
    world.appears::<Deployment>("notes").await;
    let seen = seen.lock().unwrap().clone();
    let made = seen
        .iter()
        .position(|r| r.starts_with("POST ") && r.ends_with("/deployments"));
    let read = seen
        .iter()
        .position(|r| r.starts_with("GET ") && r.ends_with("/deployments/notes"));
    assert!(read.is_none_or(|read| Some(read) > made), "{seen:?}");
    operator.stop().await;
}

/// Among many new objects each gets its pods before the first of them is finished.
#[tokio::test]
async fn many_new_objects_get_their_children_before_the_rest() {
    const OBJECTS: usize = 8;
    let world = World::new("crowd").await;
    let before = world.operator();
    let authserver = AuthServer::create(&world, "auth").await;
    before.stop().await;
    for i in 0..OBJECTS {
        let url = json!(format!("http://localhost:9001/mcp/{i}"));
        let spec = specs::with(specs::protected_server(), "/resource", url);
        world
            .create::<ProtectedMcpServer>(&format!("notes-{i}"), &spec)
            .await;
    }
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let record = Arc::clone(&seen);
    let decide: Decide = Arc::new(move |method, path| {
        record.lock().unwrap().push(format!("{method} {path}"));
        Fate::Pass
    });
    let client = faults::client(world.cluster, decide);
    let operator = world.operator_for(client, |config| config.concurrency = 3);
    for i in 0..OBJECTS {
        let name = format!("notes-{i}");
        world
            .reaches::<ProtectedMcpServer>(&name, "Registered", "True", "Ready")
            .await;
        let path = format!("resources/{}.{name}", world.namespace);
        assert!(authserver.get(&world, "auth", &path).await.is_some());
        let object: ProtectedMcpServer = world.get(&name).await.unwrap();
        assert!(
            object.metadata.finalizers.is_some()
                && object.annotations().contains_key("mcpauth.io/claimed-by")
        );
    }
    let seen = seen.lock().unwrap().clone();
    let status = seen
        .iter()
        .position(|r| r.contains("/protectedmcpservers/") && r.ends_with("/status"));
    let before = &seen[..status.unwrap()];
    let made = before
        .iter()
        .filter(|r| r.starts_with("POST ") && r.ends_with("/deployments"));
    // The last of them has nobody to give way to.
    assert!(made.count() + 1 >= OBJECTS, "{seen:#?}");
    let is_claim = |r: &&String| r.starts_with("PATCH ") && r.contains("/protectedmcpservers/");
    let last = before
        .iter()
        .rposition(|r| r.starts_with("POST ") && r.ends_with("/deployments"));
    let claims = before[..last.unwrap()].iter().filter(is_claim).count();
    assert!(
        claims <= 2,
        "the claim of the McpAuthServer is enough: {seen:#?}"
    );
    operator.stop().await;
}

/// A port that takes connections and says nothing.
struct Silent {
    /// How many connections were made, are open, and were open at most.
    calls: Arc<AtomicU64>,
    open: Arc<AtomicU64>,
    most: Arc<AtomicU64>,
    /// How many of them began with a PUT.
    puts: Arc<AtomicU64>,
}

impl Silent {
    async fn start(world: &World, name: &str) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        world.endpoints.lock().unwrap().insert(name.to_owned(), url);
        let silent = Self {
            calls: Arc::default(),
            open: Arc::default(),
            most: Arc::default(),
            puts: Arc::default(),
        };
        let calls = Arc::clone(&silent.calls);
        let (open, most) = (Arc::clone(&silent.open), Arc::clone(&silent.most));
        let puts = Arc::clone(&silent.puts);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                calls.fetch_add(1, Ordering::SeqCst);
                let now = open.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(now, Ordering::SeqCst);
                let (open, puts) = (Arc::clone(&open), Arc::clone(&puts));
                tokio::spawn(async move {
                    let mut method = [0; 3];
                    let read = stream.read_exact(&mut method).await;
                    if read.is_ok() && &method == b"PUT" {
                        puts.fetch_add(1, Ordering::SeqCst);
                    }
                    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        silent
    }
}

#[tokio::test]
async fn a_thousand_bad_objects_do_not_delay_good_ones() {
    let world = World::new("thousand").await;
    let operator = world.operator();
    let _authserver = AuthServer::create(&world, "auth").await;
    let lost = specs::with(
        specs::client(),
        "/authServerRef",
        json!({ "name": "nobody" }),
    );
    futures::stream::iter(0..1000)
        .for_each_concurrent(32, |i| {
            let (world, lost) = (&world, &lost);
            async move {
                world
                    .create::<McpOAuthClient>(&format!("bad-{i}"), lost)
                    .await;
            }
        })
        .await;
    // All are tried again and again, and the good one does not queue behind them.
    world
        .not_ready::<McpOAuthClient>("bad-999", "AuthServerNotFound")
        .await;
    world
        .create::<McpOAuthClient>("good", &specs::client())
        .await;
    world.is_ready::<McpOAuthClient>("good").await;
    operator.stop().await;
}

/// Whatever write is the last of a process, the next process brings the work to its end.
#[tokio::test]
async fn killed_at_any_point_the_next_run_converges() {
    for fate in [Fate::Lost, Fate::AnswerLost] {
        let mut point = 0;
        while auth_server_survives(point, fate).await {
            point += 1;
        }
        assert!(point >= 10, "only {point} writes were tried");
    }
}

#[tokio::test]
async fn killed_at_any_point_a_client_keeps_its_secret() {
    let world = World::new("killed-client").await;
    let operator = world.operator();
    let authserver = AuthServer::create(&world, "auth").await;
    operator.stop().await;
    for fate in [Fate::Lost, Fate::AnswerLost] {
        let mut point = 0;
        while client_survives(&world, &authserver, point, fate).await {
            point += 1;
        }
        assert!(point >= 3, "only {point} writes were tried");
    }
}

/// An operator whose write after `point` others is its last, and whether it has come to that.
fn doomed(world: &World, point: i64, fate: Fate) -> (Operator, Arc<AtomicBool>) {
    let decide = faults::killed_after(point, fate);
    let dead = Arc::new(AtomicBool::new(false));
    let client = faults::client(world.cluster, {
        let dead = Arc::clone(&dead);
        Arc::new(move |method: &Method, path: &str| {
            let fate = decide(method, path);
            if fate != Fate::Pass {
                dead.store(true, Ordering::SeqCst);
            }
            fate
        })
    });
    (world.operator_with(client, Some(&world.namespace)), dead)
}

/// Gives whether the first operator came to its death: else its work has fewer writes.
async fn auth_server_survives(point: i64, fate: Fate) -> bool {
    let world = World::new("killed").await;
    let (operator, dead) = doomed(&world, point, fate);
    let storage = json!({ "postgres": { "managed": {} } });
    let spec = specs::with(specs::auth_server(), "/storage", storage);
    world.create::<McpAuthServer>("auth", &spec).await;
    eventually(
        "the process came to its last write, or to the end of its work",
        || async {
            let ended = world
                .condition::<McpAuthServer>("auth", "Ready")
                .await
                .is_some();
            (dead.load(Ordering::SeqCst) || ended).then_some(())
        },
    )
    .await;
    let died = dead.load(Ordering::SeqCst);
    operator.kill().await;
    let kept: Option<Secret> = world.get("auth-authserver-keys").await;

    let operator = world.operator();
    world.pods_are_up("auth-authserver").await;
    world.database_is_up("auth-authserver-db").await;
    world.is_ready::<McpAuthServer>("auth").await;
    if let Some(kept) = kept {
        assert_eq!(
            world
                .get::<Secret>("auth-authserver-keys")
                .await
                .unwrap()
                .data,
            kept.data
        );
    }
    operator.stop().await;
    died
}

async fn client_survives(world: &World, authserver: &AuthServer, point: i64, fate: Fate) -> bool {
    // The new process looks over the McpAuthServer's children too; its writes count.
    let (operator, dead) = doomed(world, point, fate);
    let name = format!("robot-{point}-{}", fate == Fate::Lost);
    world
        .create::<McpOAuthClient>(&name, &specs::client())
        .await;
    eventually(
        "the process came to its last write, or to the end of its work",
        || async {
            let ended = world
                .condition::<McpOAuthClient>(&name, "Ready")
                .await
                .is_some();
            (dead.load(Ordering::SeqCst) || ended).then_some(())
        },
    )
    .await;
    let died = dead.load(Ordering::SeqCst);
    operator.kill().await;
    let secret = format!("{name}-oauth-client");
    let kept: Option<Secret> = world.get(&secret).await;

    let operator = world.operator();
    world.is_ready::<McpOAuthClient>(&name).await;
    let path = format!("clients/{}_{name}", world.namespace);
    assert!(authserver.get(world, "auth", &path).await.is_some());
    if let Some(kept) = kept {
        assert_eq!(world.get::<Secret>(&secret).await.unwrap().data, kept.data);
    }
    world.delete::<McpOAuthClient>(&name).await;
    world.disappears::<McpOAuthClient>(&name).await;
    operator.stop().await;
    died
}

#[tokio::test]
async fn an_api_server_that_is_slow_away_or_answers_with_errors_is_outlived() {
    let world = World::new("errors").await;
    let requests = AtomicU64::new(0);
    let client = faults::client(
        world.cluster,
        Arc::new(move |method, path| {
            // Watches go through: their own backoff is the library's.
            if *method == Method::GET && !path.contains("/auth") {
                return Fate::Pass;
            }
            match requests.fetch_add(1, Ordering::SeqCst) {
                1 => Fate::Status(409),
                3 => Fate::Status(429),
                5 => Fate::Status(500),
                7 => Fate::Status(503),
                _ => Fate::Pass,
            }
        }),
    );
    let operator = world.operator_with(client, Some(&world.namespace));
    world
        .create::<McpAuthServer>("auth", &specs::auth_server())
        .await;
    world.pods_are_up("auth-authserver").await;
    world.is_ready::<McpAuthServer>("auth").await;
    operator.kill().await;
}

#[tokio::test]
async fn a_request_that_hangs_ends_with_the_reconciles_deadline() {
    let world = World::new("hang").await;
    let hung = AtomicU64::new(0);
    let client = faults::client(
        world.cluster,
        Arc::new(move |method, path| {
            let first = *method == Method::POST
                && path.ends_with("/deployments")
                && hung.fetch_add(1, Ordering::SeqCst) == 0;
            if first { Fate::Lost } else { Fate::Pass }
        }),
    );
    let operator = world.operator_for(client, |config| config.reconcile_timeout_seconds = 1);
    world
        .create::<McpAuthServer>("auth", &specs::auth_server())
        .await;
    world.appears::<Deployment>("auth-authserver").await;
    operator.kill().await;
}

/// O18: a permission that is missing is told, wherever it is needed, and does not hide what else is wrong.
#[tokio::test]
async fn missing_permissions_reach_the_status() {
    let world = World::new("denied").await;
    let denied = Arc::new(std::sync::Mutex::new("/deployments"));
    let what = Arc::clone(&denied);
    let deny = move |_: &Method, path: &str| match path.contains(*what.lock().unwrap()) {
        true => Fate::Status(403),
        false => Fate::Pass,
    };
    let client = faults::client(world.cluster, Arc::new(deny));
    let operator = world.operator_with(client, Some(&world.namespace));
    world
        .create::<McpAuthServer>("auth", &specs::auth_server())
        .await;
    let told = world
        .not_ready::<McpAuthServer>("auth", "ApplyFailed")
        .await;
    assert!(told.message.contains("Deployment"), "{}", told.message);
    // Without its McpAuthServer no child is reached; the Deployment is looked for all the same.
    let lost = specs::with(
        specs::protected_server(),
        "/authServerRef/name",
        "none".into(),
    );
    world.create::<ProtectedMcpServer>("notes", &lost).await;
    world
        .not_ready::<ProtectedMcpServer>("notes", "AuthServerNotFound")
        .await;

    // Nothing can be claimed: an event is all that may be written.
    *denied.lock().unwrap() = "/mcpoauthclients/robot";
    world
        .create::<McpOAuthClient>("robot", &specs::client())
        .await;
    let notes = world.events("robot", "AccessDenied").await;
    assert!(notes[0].contains("grant the permission"), "{notes:?}");
    operator.stop().await;
}
