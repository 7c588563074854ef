//! McpAuthServer.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams, PostParams};
use mcpauth_api::McpAuthServer;
use serde_json::json;

use crate::configuration::CERTIFICATE;
use crate::support::authserver::AuthServer;
use crate::support::world::{ACCOUNT, OWN, World, specs};
use mcpauth_test_support::wait::eventually;

#[tokio::test]
async fn ready_tells_the_state_of_the_pods() {
    let world = World::new("ready").await;
    let operator = world.operator();
    world
        .create::<McpAuthServer>("auth", &specs::auth_server())
        .await;
    let waiting = world
        .not_ready::<McpAuthServer>("auth", "PodsNotReady")
        .await;
    assert_eq!(waiting.message, "pods are starting");

    world.pods_are_up("auth-authserver").await;
    let ready = world.is_ready::<McpAuthServer>("auth").await;
    assert_eq!(ready.message, "serving http://localhost:9000");
    assert_eq!(ready.observed_generation, Some(1));
    assert_eq!(
        world.events("auth", "Ready").await,
        ["serving http://localhost:9000"]
    );

    world.pods_are_down("auth-authserver").await;
    world
        .not_ready::<McpAuthServer>("auth", "PodsNotReady")
        .await;
    operator.stop().await;
}

#[tokio::test]
async fn children_have_their_names_owners_and_labels() {
    let world = World::new("children").await;
    let operator = world.operator();
    let object: McpAuthServer = world.create("auth", &specs::auth_server()).await;
    world
        .not_ready::<McpAuthServer>("auth", "PodsNotReady")
        .await;
    let deployment: Deployment = world.get("auth-authserver").await.unwrap();
    let internal: Service = world.get("auth-authserver-internal").await.unwrap();
    let config: ConfigMap = world.get("auth-authserver-v1").await.unwrap();
    let keys: Secret = world.get("auth-authserver-keys").await.unwrap();
    // It may outlive its owner.
    assert_eq!(keys.metadata.owner_references, None);
    assert_eq!(keys.labels()["mcpauth.io/auth-server"], "auth");
    for meta in [deployment.metadata, internal.metadata, config.metadata] {
        let owner = &meta.owner_references.unwrap()[0];
        assert_eq!(Some(&owner.uid), object.metadata.uid.as_ref());
        assert_eq!(owner.controller, Some(true));
        let labels = meta.labels.unwrap();
        assert_eq!(labels["app.kubernetes.io/managed-by"], "mcp-auth-operator");
        assert_eq!(labels["app.kubernetes.io/instance"], "auth");
        assert!(
            meta.annotations
                .unwrap()
                .contains_key("mcpauth.io/desired-hash")
        );
    }
    operator.stop().await;
}

#[tokio::test]
async fn an_image_that_cannot_be_pulled_is_named_in_the_condition() {
    let world = World::new("image").await;
    let operator = world.operator();
    world
        .create::<McpAuthServer>("auth", &specs::auth_server())
        .await;
    let deployment: Deployment = world.appears("auth-authserver").await;
    let template = deployment.spec.unwrap().template;
    let mut pod: Pod = serde_json::from_value(json!({ "metadata": { "name": "auth-x" } })).unwrap();
    pod.metadata.labels = template.metadata.unwrap().labels;
    pod.spec = template.spec;
    world
        .api::<Pod>()
        .create(&PostParams::default(), &pod)
        .await
        .unwrap();
    let status = json!({ "status": { "containerStatuses": [{
        "name": "authserver", "image": "authserver:test", "imageID": "", "ready": false, "restartCount": 0,
        "state": { "waiting": { "reason": "ImagePullBackOff", "message": "Back-off pulling image" } },
    }]}});
    let api = world.api::<Pod>();
    api.patch_status("auth-x", &PatchParams::default(), &Patch::Merge(status))
        .await
        .unwrap();
    eventually("the condition names the image's trouble", || async {
        let condition = world.condition::<McpAuthServer>("auth", "Ready").await?;
        condition
            .message
            .contains("ImagePullBackOff (Back-off pulling image)")
            .then_some(())
    })
    .await;
    operator.stop().await;
}

#[tokio::test]
async fn an_unreachable_database_is_told_in_the_words_of_the_pod() {
    let world = World::new("silent-database").await;
    let operator = world.operator();
    let secret: Secret = serde_json::from_value(json!({
        "metadata": { "name": "database" },
        "stringData": { "uri": "postgres://u:p@db/d" },
    }))
    .unwrap();
    let api = world.api::<Secret>();
    api.create(&PostParams::default(), &secret).await.unwrap();
    let storage = json!({ "postgres": { "external": { "urlSecretRef": { "name": "database" } } } });
    let spec = specs::with(specs::auth_server(), "/storage", storage);
    world.create::<McpAuthServer>("auth", &spec).await;

    let words = "the database does not answer: connection refused";
    let port = pod_that_says(words).await;
    let deployment: Deployment = world.appears("auth-authserver").await;
    let template = deployment.spec.unwrap().template;
    let pod = json!({
        "metadata": { "name": "auth-x", "labels": template.metadata.unwrap().labels },
        "spec": { "containers": [{ "name": "authserver", "image": "authserver:test",
            "ports": [{ "name": "health", "containerPort": port }] }] },
    });
    let pod: Pod = serde_json::from_value(pod).unwrap();
    let pods = world.api::<Pod>();
    pods.create(&PostParams::default(), &pod).await.unwrap();
    let up = json!({ "status": {
        "phase": "Running", "podIP": "127.0.0.1", "podIPs": [{ "ip": "127.0.0.1" }],
    }});
    let params = PatchParams::default();
    pods.patch_status("auth-x", &params, &Patch::Merge(up))
        .await
        .unwrap();
    let condition = world
        .not_ready::<McpAuthServer>("auth", "DatabaseNotReady")
        .await;
    assert_eq!(
        condition.message,
        format!("pods are starting; a pod reports: {words}")
    );
    operator.stop().await;
}

/// A health port that is not ready, and its number.
async fn pod_that_says(words: &'static str) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = move || async move { (axum::http::StatusCode::SERVICE_UNAVAILABLE, words) };
    let router = axum::Router::new().route("/readyz", axum::routing::get(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    port
}

#[tokio::test]
async fn a_steady_state_writes_nothing() {
    let world = World::new("steady").await;
    let operator = world.operator();
    world
        .create::<McpAuthServer>("auth", &specs::auth_server())
        .await;
    world.pods_are_up("auth-authserver").await;
    world.is_ready::<McpAuthServer>("auth").await;
    operator.goes_on(3).await;
    let (versions, writes) = (world.versions().await, operator.writes());
    operator.goes_on(5).await;
    assert_eq!(world.versions().await, versions);
    assert_eq!(operator.writes(), writes);
    operator.stop().await;

    // The next process looks once at each child, and leaves it as it is.
    let operator = world.operator();
    operator.goes_on(3).await;
    let (versions, writes) = (world.versions().await, operator.writes());
    operator.goes_on(5).await;
    assert_eq!(world.versions().await, versions);
    assert_eq!(operator.writes(), writes);
    operator.stop().await;
}

#[tokio::test]
async fn a_change_made_by_hand_to_a_child_is_repaired() {
    let world = World::new("drift").await;
    let operator = world.operator();
    world
        .create::<McpAuthServer>("auth", &specs::auth_server())
        .await;
    world.pods_are_up("auth-authserver").await;
    world.is_ready::<McpAuthServer>("auth").await;

    let before: Deployment = world.get("auth-authserver").await.unwrap();
    world
        .patch::<Deployment>("auth-authserver", &json!({ "spec": { "replicas": 5 } }))
        .await;
    eventually("replicas are back", || async {
        (world
            .get::<Deployment>("auth-authserver")
            .await?
            .spec?
            .replicas
            == Some(1))
        .then_some(())
    })
    .await;
    let container = &before.spec.unwrap().template.spec.unwrap().containers[0];
    assert_eq!(container.image.as_deref(), Some("authserver:test"));

    world
        .patch::<Service>(
            "auth-authserver",
            &json!({ "spec": { "selector": { "added": "by-hand" } } }),
        )
        .await;
    eventually("the selector is back", || async {
        let selector = world
            .get::<Service>("auth-authserver")
            .await?
            .spec?
            .selector?;
        (!selector.contains_key("added")).then_some(())
    })
    .await;

    world.delete::<ConfigMap>("auth-authserver-v1").await;
    world.appears::<ConfigMap>("auth-authserver-v1").await;
    operator.stop().await;
}

#[tokio::test]
async fn a_field_that_the_spec_no_longer_has_is_taken_away() {
    let world = World::new("field").await;
    let operator = world.operator();
    let spec = specs::with(
        specs::auth_server(),
        "/service",
        json!({ "type": "NodePort" }),
    );
    let spec = specs::with(spec, "/resources", json!({ "limits": { "cpu": "1" } }));
    world.create::<McpAuthServer>("auth", &spec).await;
    world.pods_are_up("auth-authserver").await;
    world.is_ready::<McpAuthServer>("auth").await;

    let patch = json!({ "spec": { "resources": null } });
    world.patch::<McpAuthServer>("auth", &patch).await;
    eventually("the limit is gone", || async {
        let spec = world
            .get::<Deployment>("auth-authserver")
            .await?
            .spec?
            .template
            .spec?;
        let limits = spec.containers[0]
            .resources
            .clone()?
            .limits
            .unwrap_or_default();
        (!limits.contains_key("cpu")).then_some(())
    })
    .await;
    operator.stop().await;
}

#[tokio::test]
async fn a_resource_whose_child_name_is_already_someone_elses_is_refused_never_stolen() {
    let world = World::new("conflict").await;
    let theirs: Service = serde_json::from_value(json!({
        "metadata": { "name": "auth-authserver", "labels": { "theirs": "yes" } },
        "spec": { "ports": [{ "port": 80 }], "selector": { "theirs": "yes" } },
    }))
    .unwrap();
    let theirs = world
        .api::<Service>()
        .create(&PostParams::default(), &theirs)
        .await
        .unwrap();
    let operator = world.operator();
    world
        .create::<McpAuthServer>("auth", &specs::auth_server())
        .await;
    let condition = world
        .not_ready::<McpAuthServer>("auth", "NameConflict")
        .await;
    assert!(
        condition.message.starts_with(
            "Service auth-authserver already exists and is not managed by this object"
        )
    );
    world
        .reaches::<McpAuthServer>("auth", "Degraded", "True", "NameConflict")
        .await;
    assert_eq!(world.events("auth", "NameConflict").await.len(), 1);
    let now: Service = world.get("auth-authserver").await.unwrap();
    assert_eq!(now.resource_version(), theirs.resource_version());

    world.delete::<Service>("auth-authserver").await;
    world
        .not_ready::<McpAuthServer>("auth", "PodsNotReady")
        .await;
    world
        .reaches::<McpAuthServer>("auth", "Degraded", "False", "Ready")
        .await;
    operator.stop().await;
}

/// What the authorization server says of its keys is in the status; without it, what it said last.
#[tokio::test]
async fn signing_keys_are_in_the_status() {
    let world = World::new("signing-keys").await;
    let operator = world.operator();
    let authserver = AuthServer::create(&world, "auth").await;
    world.pods_are_up("auth-authserver").await;
    world.is_ready::<McpAuthServer>("auth").await;
    eventually("both keys are in the status", || async {
        let object = world.api::<McpAuthServer>().get("auth").await?;
        let keys = object.status.unwrap_or_default().signing_keys;
        let mut stated: Vec<_> = keys
            .iter()
            .map(|key| (key.algorithm.as_str(), key.state.as_str()))
            .collect();
        stated.sort_unstable();
        match stated.as_slice() {
            [("ES256", "Active"), ("RS256", "Active")] => Ok(()),
            other => Err(anyhow::anyhow!("{other:?}")),
        }
    })
    .await;
    drop(authserver);
    operator.stop().await;
}

/// The authorization server runs with the ServiceAccount that the operator made for it, which has no right in the
/// cluster: verifying callers needs none.
#[tokio::test]
async fn callers_are_known_without_rights_and_junk_keeps_nobody_waiting() {
    let world = World::new("callers").await;
    let operator = world.operator();
    let authserver = AuthServer::create(&world, "auth").await;
    world.pods_are_up("auth-authserver").await;
    world.is_ready::<McpAuthServer>("auth").await;
    let good = world.operator_token("auth").await;
    assert_eq!(authserver.status_for(&good).await, 404);

    let audience = |audiences: &[&str], seconds: u32| {
        let audiences: Vec<String> = audiences.iter().map(ToString::to_string).collect();
        world.token_of(OWN, ACCOUNT, audiences, seconds)
    };
    let own = format!(
        "http://auth-authserver-internal.{}.svc:8081",
        world.namespace
    );
    let default = "https://kubernetes.default.svc";
    for refused in [
        audience(&[default], 600).await,
        audience(&[&own, default], 600).await,
        audience(&["http://other.default.svc:8081"], 600).await,
        audience(&[&own], 3600).await,
        good.replace('.', "x"),
        format!("{good}x"),
    ] {
        assert_eq!(authserver.status_for(&refused).await, 401, "{refused}");
    }

    // 400 connections with junk and with tokens of an unknown key, again and again.
    let junk = [unknown_key(&good), "junk".to_owned()];
    let flood: Vec<_> = (0..400)
        .map(|at| {
            let (authserver, junk) = (authserver.url(), junk[at % 2].clone());
            tokio::spawn(async move {
                let client = reqwest::Client::new();
                loop {
                    let request = client.get(&authserver).bearer_auth(&junk).send().await;
                    assert_eq!(request.unwrap().status(), 401);
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    for _ in 0..7 {
        let fresh = world.operator_token("auth").await;
        assert_eq!(authserver.status_for(&fresh).await, 404);
    }
    for connection in flood {
        connection.abort();
        let ended = connection.await;
        assert!(ended.is_err_and(|error| error.is_cancelled()));
    }
    operator.stop().await;
}

/// A token as it would be if another cluster had signed it.
fn unknown_key(token: &str) -> String {
    let (_, rest) = token.split_once('.').unwrap();
    let header = json!({ "alg": "RS256", "kid": "of-another-cluster" }).to_string();
    format!("{}.{rest}", BASE64_URL_SAFE_NO_PAD.encode(header))
}

#[tokio::test]
async fn a_secret_that_is_missing_is_ready_false_never_regenerated_over_a_live_one() {
    let world = World::new("pepper").await;
    let operator = world.operator();
    world
        .create::<McpAuthServer>("auth", &specs::auth_server())
        .await;
    world.pods_are_up("auth-authserver").await;
    world.is_ready::<McpAuthServer>("auth").await;

    let kept: Secret = world.get("auth-authserver-keys").await.unwrap();
    world.delete::<Secret>("auth-authserver-keys").await;
    let condition = world.not_ready::<McpAuthServer>("auth", "SecretLost").await;
    assert!(
        condition.message.contains("restore it from a backup"),
        "{}",
        condition.message
    );
    operator.goes_on(2).await;
    assert!(world.get::<Secret>("auth-authserver-keys").await.is_none());
    // What runs is told all the same.
    world
        .reaches::<McpAuthServer>("auth", "Available", "True", "Ready")
        .await;
    world.pods_are_down("auth-authserver").await;
    world
        .reaches::<McpAuthServer>("auth", "Available", "False", "PodsNotReady")
        .await;
    world.pods_are_up("auth-authserver").await;

    let mut restored = kept.clone();
    restored.metadata.resource_version = None;
    restored.metadata.uid = None;
    world
        .api::<Secret>()
        .create(&PostParams::default(), &restored)
        .await
        .unwrap();
    world.is_ready::<McpAuthServer>("auth").await;
    assert_eq!(
        world
            .get::<Secret>("auth-authserver-keys")
            .await
            .unwrap()
            .data,
        kept.data
    );
    operator.stop().await;
}

#[tokio::test]
async fn secrets_that_the_user_keeps_are_waited_for() {
    let world = World::new("users").await;
    let operator = world.operator();
    let login = json!({ "localUsers": { "secretRef": { "name": "people" } } });
    let spec = specs::with(specs::auth_server(), "/login", login);
    world.create::<McpAuthServer>("auth", &spec).await;
    let condition = world
        .not_ready::<McpAuthServer>("auth", "SecretNotFound")
        .await;
    assert_eq!(
        condition.message,
        "spec.login.localUsers.secretRef: Secret people does not exist: create it with key users.yaml"
    );
    let empty: Secret =
        serde_json::from_value(json!({ "metadata": { "name": "people" } })).unwrap();
    world
        .api::<Secret>()
        .create(&PostParams::default(), &empty)
        .await
        .unwrap();
    world
        .not_ready::<McpAuthServer>("auth", "SecretInvalid")
        .await;
    world
        .patch::<Secret>(
            "people",
            &json!({ "stringData": { "users.yaml": "users: []" } }),
        )
        .await;
    world
        .not_ready::<McpAuthServer>("auth", "PodsNotReady")
        .await;

    let hash = |d: Deployment| {
        d.spec
            .unwrap()
            .template
            .metadata
            .unwrap()
            .annotations
            .unwrap()
    };
    let before = hash(world.get("auth-authserver").await.unwrap());
    world
        .patch::<Secret>(
            "people",
            &json!({ "stringData": { "users.yaml": "users: [] # more" } }),
        )
        .await;
    // The server reads it whenever somebody signs in.
    operator.goes_on(3).await;
    assert_eq!(hash(world.get("auth-authserver").await.unwrap()), before);
    operator.stop().await;
}

#[tokio::test]
async fn a_rotated_database_password_rolls_the_pods() {
    let world = World::new("rotated").await;
    let operator = world.operator();
    // As CloudNativePG makes it: the keys that are of no use here are left alone.
    let app = json!({
        "metadata": { "name": "db-app" },
        "stringData": {
            "username": "app", "password": "one", "dbname": "app", "host": "db-rw", "port": "5432",
            "uri": "postgresql://app:one@db-rw.team:5432/app", "jdbc-uri": "jdbc:postgresql://db-rw",
        },
    });
    let secrets = world.api::<Secret>();
    let app: Secret = serde_json::from_value(app).unwrap();
    secrets.create(&PostParams::default(), &app).await.unwrap();
    let ca = json!({
        "metadata": { "name": "db-ca" },
        "stringData": { "ca.crt": CERTIFICATE, "ca.key": "not for us" },
    });
    let ca: Secret = serde_json::from_value(ca).unwrap();
    secrets.create(&PostParams::default(), &ca).await.unwrap();
    let external = json!({
        "urlSecretRef": { "name": "db-app", "key": "uri" },
        "caSecretRef": { "name": "db-ca", "key": "ca.crt" },
        "maxConnections": 7,
    });
    let storage = json!({ "postgres": { "external": external } });
    let spec = specs::with(specs::auth_server(), "/storage", storage);
    world.create::<McpAuthServer>("auth", &spec).await;
    let config: ConfigMap = world.appears("auth-authserver-v1").await;
    let text = &config.data.unwrap()["authserver.yaml"];
    assert!(text.contains("maxConnections: 7"), "{text}");
    let annotations = async || {
        let deployment: Deployment = world.appears("auth-authserver").await;
        let template = deployment.spec.unwrap().template;
        template.metadata.unwrap().annotations.unwrap()
    };
    let new_password = json!({ "uri": "postgresql://app:two@db-rw.team:5432/app" });
    let new_ca = json!({ "ca.crt": format!("{CERTIFICATE}{CERTIFICATE}") });
    for (secret, data) in [("db-app", new_password), ("db-ca", new_ca)] {
        let before = annotations().await;
        let patch = json!({ "stringData": data });
        world.patch::<Secret>(secret, &patch).await;
        eventually(&format!("{secret} has rolled the pods"), || async {
            (annotations().await != before).then_some(())
        })
        .await;
    }
    // What is of no use here does not.
    let before = annotations().await;
    let patch = json!({ "stringData": { "ca.key": "another", "jdbc-uri": "jdbc:another" } });
    world.patch::<Secret>("db-ca", &patch).await;
    world.patch::<Secret>("db-app", &patch).await;
    operator.goes_on(3).await;
    assert_eq!(annotations().await, before);
    operator.stop().await;
}

#[tokio::test]
async fn a_ca_may_be_in_a_config_map_and_is_checked() {
    let world = World::new("ca").await;
    let operator = world.operator();
    let url: Secret = serde_json::from_value(json!({
        "metadata": { "name": "database" }, "stringData": { "uri": "postgres://u:p@db/d" },
    }))
    .unwrap();
    let secrets = world.api::<Secret>();
    secrets.create(&PostParams::default(), &url).await.unwrap();
    let external = json!({
        "urlSecretRef": { "name": "database" }, "caConfigMapRef": { "name": "bundle" },
    });
    let storage = json!({ "postgres": { "external": external } });
    let spec = specs::with(specs::auth_server(), "/storage", storage);
    world.create::<McpAuthServer>("auth", &spec).await;
    let field = "spec.storage.postgres.external.caConfigMapRef";
    let condition = world
        .not_ready::<McpAuthServer>("auth", "SecretNotFound")
        .await;
    assert_eq!(
        condition.message,
        format!("{field}: ConfigMap bundle does not exist: create it with key ca.crt")
    );
    let bundle: ConfigMap = serde_json::from_value(json!({
        "metadata": { "name": "bundle" }, "data": { "ca.crt": "MA==" },
    }))
    .unwrap();
    let config_maps = world.api::<ConfigMap>();
    config_maps
        .create(&PostParams::default(), &bundle)
        .await
        .unwrap();
    let condition = world
        .not_ready::<McpAuthServer>("auth", "SecretInvalid")
        .await;
    let words = format!("{field}: expected certificates in PEM");
    assert!(
        condition.message.starts_with(&words),
        "{}",
        condition.message
    );
    let patch = json!({ "data": { "ca.crt": CERTIFICATE } });
    world.patch::<ConfigMap>("bundle", &patch).await;
    let config: ConfigMap = world.appears("auth-authserver-v1").await;
    let text = &config.data.unwrap()["authserver.yaml"];
    assert!(
        text.contains("caFile: /etc/mcpauth/postgres-ca/ca.crt"),
        "{text}"
    );
    let deployment: Deployment = world.appears("auth-authserver").await;
    let pod = deployment.spec.unwrap().template.spec.unwrap();
    let mut mounts = pod.containers[0].volume_mounts.iter().flatten();
    let mount = mounts.find(|mount| mount.name == "postgres-ca").unwrap();
    assert_eq!(mount.mount_path, "/etc/mcpauth/postgres-ca");
    let mut volumes = pod.volumes.into_iter().flatten();
    let volume = volumes.find(|volume| volume.name == "postgres-ca").unwrap();
    let source = volume.config_map.unwrap();
    assert_eq!(source.name, "bundle");
    assert_eq!(source.items.unwrap()[0].path, "ca.crt");
    operator.stop().await;
}

/// O5: from a backup everything comes back under another UID, the Secrets among it, and opens what it opened.
#[tokio::test]
async fn what_is_restored_or_retained_is_taken_up_again() {
    let world = World::new("restored").await;
    let operator = world.operator();
    let of = async |name: &str| {
        let secret: Secret = world.appears(name).await;
        secret.data.unwrap()
    };
    let storage = json!({ "postgres": { "managed": {} } });
    let retained = specs::with(specs::auth_server(), "/storage", storage);
    world.create::<McpAuthServer>("auth", &retained).await;
    let names = ["auth-authserver-keys", "auth-authserver-db"];
    let before = (of(names[0]).await, of(names[1]).await);
    let set: StatefulSet = world.appears("auth-authserver-db").await;
    let policy = set.spec.unwrap().persistent_volume_claim_retention_policy;
    assert_eq!(policy.unwrap().when_deleted.as_deref(), Some("Retain"));

    // Deleted, the state is kept by default.
    world.delete::<McpAuthServer>("auth").await;
    world.disappears::<McpAuthServer>("auth").await;
    assert_eq!((of(names[0]).await, of(names[1]).await), before);
    // As the garbage collector would.
    for deployment in ["auth-authserver"] {
        world.delete::<Deployment>(deployment).await;
    }
    world.delete::<StatefulSet>("auth-authserver-db").await;
    world.delete::<ServiceAccount>("auth-authserver").await;
    world.delete::<ConfigMap>("auth-authserver-v1").await;
    for service in [
        "auth-authserver",
        "auth-authserver-internal",
        "auth-authserver-db",
    ] {
        world.delete::<Service>(service).await;
    }
    for policy in ["auth-authserver", "auth-authserver-db"] {
        world.delete::<NetworkPolicy>(policy).await;
    }

    let delete = json!({ "postgres": { "managed": { "deletionPolicy": "Delete" } } });
    let deleted = specs::with(specs::auth_server(), "/storage", delete);
    world.create::<McpAuthServer>("auth", &deleted).await;
    world.pods_are_up("auth-authserver").await;
    world.database_is_up("auth-authserver-db").await;
    world.is_ready::<McpAuthServer>("auth").await;
    assert_eq!((of(names[0]).await, of(names[1]).await), before);

    world.delete::<McpAuthServer>("auth").await;
    world.disappears::<McpAuthServer>("auth").await;
    for name in names {
        assert!(world.get::<Secret>(name).await.is_none(), "{name}");
    }
    operator.stop().await;
}

#[tokio::test]
async fn a_managed_database_comes_with_its_secret_and_is_part_of_ready() {
    let world = World::new("database").await;
    let operator = world.operator();
    let storage = json!({ "postgres": { "managed": {} } });
    let spec = specs::with(specs::auth_server(), "/storage", storage);
    world.create::<McpAuthServer>("auth", &spec).await;
    world.pods_are_up("auth-authserver").await;
    world
        .not_ready::<McpAuthServer>("auth", "DatabaseNotReady")
        .await;
    world.database_is_up("auth-authserver-db").await;
    world.is_ready::<McpAuthServer>("auth").await;

    let secret: Secret = world.get("auth-authserver-db").await.unwrap();
    let password = secret.data.unwrap()["password"].0.clone();
    assert!(password.len() >= 32);
    operator.stop().await;
}

#[tokio::test]
async fn storage_can_change_both_ways() {
    let world = World::new("storage").await;
    let operator = world.operator();
    world
        .create::<McpAuthServer>("auth", &specs::auth_server())
        .await;
    let strategy = async |type_: &str| {
        eventually(&format!("the strategy is {type_}"), || async {
            let strategy = world
                .get::<Deployment>("auth-authserver")
                .await?
                .spec?
                .strategy?;
            (strategy.type_.as_deref() == Some(type_)).then_some(())
        })
        .await;
    };
    strategy("Recreate").await;
    let postgres = json!({ "memory": null, "postgres": { "managed": {} } });
    let memory = json!({ "memory": {}, "postgres": null });
    for (storage, type_) in [(postgres, "RollingUpdate"), (memory, "Recreate")] {
        let patch = json!({ "spec": { "storage": storage } });
        world.patch::<McpAuthServer>("auth", &patch).await;
        strategy(type_).await;
    }
    operator.stop().await;
}

/// `kubectl replace --force`: the garbage collector is not as quick as whoever creates the object anew.
#[tokio::test]
async fn a_remnant_of_the_object_before_is_waited_for() {
    let world = World::new("remnant").await;
    let remnant: Service = serde_json::from_value(json!({
        "metadata": { "name": "auth-authserver", "labels": { "app.kubernetes.io/managed-by": "mcp-auth-operator" },
            "ownerReferences": [{ "apiVersion": "mcpauth.io/v1alpha1", "kind": "McpAuthServer", "name": "auth",
                "uid": "00000000-0000-0000-0000-000000000001", "controller": true }] },
        "spec": { "ports": [{ "port": 80 }] },
    }))
    .unwrap();
    let services = world.api::<Service>();
    services
        .create(&PostParams::default(), &remnant)
        .await
        .unwrap();
    let operator = world.operator();
    world
        .create::<McpAuthServer>("auth", &specs::auth_server())
        .await;
    let condition = world
        .not_ready::<McpAuthServer>("auth", "NameConflict")
        .await;
    assert!(
        condition
            .message
            .contains("a deleted object of the same name"),
        "{}",
        condition.message
    );
    world
        .reaches::<McpAuthServer>("auth", "Degraded", "False", "Ready")
        .await;
    world.delete::<Service>("auth-authserver").await;
    world
        .not_ready::<McpAuthServer>("auth", "PodsNotReady")
        .await;
    operator.stop().await;
}

#[tokio::test]
async fn names_at_the_length_limit_work() {
    let world = World::new("n".repeat(60).as_str()).await;
    let operator = world.operator();
    let name = "a".repeat(38);
    let storage = json!({ "postgres": { "managed": {} } });
    let spec = specs::with(specs::auth_server(), "/storage", storage);
    world.create::<McpAuthServer>(&name, &spec).await;
    world.pods_are_up(&format!("{name}-authserver")).await;
    world.database_is_up(&format!("{name}-authserver-db")).await;
    world.is_ready::<McpAuthServer>(&name).await;
    operator.stop().await;
}

#[tokio::test]
async fn an_initial_access_token_is_checked_and_needs_no_restart() {
    let world = World::new("gate").await;
    let operator = world.operator();
    let gate = json!({ "dynamic": { "initialAccessTokenSecretRef": { "name": "gate" } } });
    let spec = specs::with(specs::auth_server(), "/registration", gate);
    world.create::<McpAuthServer>("auth", &spec).await;
    let missing = world
        .not_ready::<McpAuthServer>("auth", "SecretNotFound")
        .await;
    assert_eq!(
        missing.message,
        "spec.registration.dynamic.initialAccessTokenSecretRef: Secret gate does not exist: create it with key token"
    );
    let weak = json!({ "metadata": { "name": "gate" }, "stringData": { "token": "hunter2" } });
    let weak: Secret = serde_json::from_value(weak).unwrap();
    let api = world.api::<Secret>();
    api.create(&PostParams::default(), &weak).await.unwrap();
    let weak = world
        .not_ready::<McpAuthServer>("auth", "SecretInvalid")
        .await;
    assert!(
        weak.message.contains("a random secret is required"),
        "{}",
        weak.message
    );
    assert!(!weak.message.contains("hunter2"), "{}", weak.message);

    let change = async |token: &str| {
        let patch = json!({ "stringData": { "token": token } });
        world.patch::<Secret>("gate", &patch).await;
    };
    change("first-0123456789abcdef-0123").await;
    let before: Deployment = world.appears("auth-authserver").await;
    change("second-0123456789abcdef-0123").await;
    operator.goes_on(2).await;
    let after: Deployment = world.get("auth-authserver").await.unwrap();
    let template = |deployment: Deployment| deployment.spec.unwrap().template;
    assert_eq!(template(after), template(before));
    operator.stop().await;
}

/// A pepper of one's own is checked by the server's rule and mounted; none is generated.
#[tokio::test]
async fn a_pepper_of_ones_own_is_checked_and_used() {
    let world = World::new("pepper").await;
    let operator = world.operator();
    let keys = json!({ "secretRef": { "name": "own" } });
    let spec = specs::with(specs::auth_server(), "/keys", keys);
    world.create::<McpAuthServer>("auth", &spec).await;
    let missing = world
        .not_ready::<McpAuthServer>("auth", "SecretNotFound")
        .await;
    assert_eq!(
        missing.message,
        "spec.keys.secretRef: Secret own does not exist: create it with key pepper"
    );
    let own = json!({ "metadata": { "name": "own" }, "stringData": { "pepper": "1:hunter2" } });
    let own: Secret = serde_json::from_value(own).unwrap();
    let api = world.api::<Secret>();
    api.create(&PostParams::default(), &own).await.unwrap();
    let invalid = world
        .not_ready::<McpAuthServer>("auth", "SecretInvalid")
        .await;
    assert!(
        invalid.message.contains("line 1: expected `VERSION:base64"),
        "{}",
        invalid.message
    );
    assert!(!invalid.message.contains("hunter2"), "{}", invalid.message);

    let line = "7:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n";
    let patch = json!({ "stringData": { "pepper": line } });
    world.patch::<Secret>("own", &patch).await;
    let deployment: Deployment = world.appears("auth-authserver").await;
    let pod = deployment.spec.unwrap().template.spec.unwrap();
    let mut volumes = pod.volumes.unwrap().into_iter();
    let keys = volumes.find(|volume| volume.name == "keys").unwrap();
    assert_eq!(keys.secret.unwrap().secret_name.unwrap(), "own");
    assert!(world.get::<Secret>("auth-authserver-keys").await.is_none());
    operator.stop().await;
}
