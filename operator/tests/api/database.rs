//! The managed database: its password, its version, its size, and what is left of it.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use mcpauth_api::McpAuthServer;
use mcpauth_test_support::wait::eventually;
use serde_json::{Value, json};

use crate::support::world::{Operator, World, specs};

const SET: &str = "auth-authserver-db";
const CLAIM: &str = "data-auth-authserver-db-0";

fn managed(settings: &Value) -> Value {
    let storage = json!({ "postgres": { "managed": settings } });
    specs::with(specs::auth_server(), "/storage", storage)
}

impl World {
    /// An operator with another default image of PostgreSQL.
    fn operator_with_postgres(&self, image: &str) -> Operator {
        self.operator_for(self.client.clone(), |config| {
            config.postgres_image = image.to_owned();
        })
    }

    /// Does what the StatefulSet controller and kubelet would do on the first start.
    async fn volume_is_made(&self, class: Option<&str>) {
        let set: StatefulSet = self.appears(SET).await;
        let spec = set.spec.unwrap();
        let mut claim = spec.volume_claim_templates.unwrap().remove(0);
        claim.metadata.name = Some(CLAIM.to_owned());
        claim.metadata.labels = spec.selector.match_labels;
        let spec = claim.spec.as_mut().unwrap();
        spec.storage_class_name = class.map(str::to_owned);
        spec.volume_name = Some("of-a-test".to_owned());
        let claims = self.api::<PersistentVolumeClaim>();
        claims.create(&PostParams::default(), &claim).await.unwrap();
        let status = json!({ "status": { "phase": "Bound", "capacity": { "storage": "1Gi" } } });
        let params = PatchParams::default();
        let patch = Patch::Merge(status);
        let bound = claims.patch_status(CLAIM, &params, &patch).await;
        bound.unwrap();
    }

    /// A pod of the StatefulSet, in which PostgreSQL of this version has started.
    async fn database_runs(&self, major: &str) {
        let set: StatefulSet = self.appears(SET).await;
        let template = set.spec.unwrap().template;
        let mut pod: Pod = serde_json::from_value(json!({ "metadata": { "name": "db" } })).unwrap();
        pod.metadata.labels = template.metadata.unwrap().labels;
        let mut spec = template.spec.unwrap();
        let claim = json!({ "name": "data", "persistentVolumeClaim": { "claimName": CLAIM } });
        let volumes = spec.volumes.get_or_insert_default();
        volumes.push(serde_json::from_value(claim).unwrap());
        pod.spec = Some(spec);
        let pods = self.api::<Pod>();
        if self.get::<Pod>("db").await.is_some() {
            let at_once = kube::api::DeleteParams {
                grace_period_seconds: Some(0),
                ..Default::default()
            };
            pods.delete("db", &at_once).await.unwrap();
        }
        pods.create(&PostParams::default(), &pod).await.unwrap();
        let ended = json!({ "exitCode": 0, "message": format!("{major}\n") });
        let status = json!({ "status": { "initContainerStatuses": [{
            "name": "prepare", "image": "", "imageID": "", "ready": true, "restartCount": 0,
            "state": { "terminated": ended },
        }] } });
        let params = PatchParams::default();
        let patch = Patch::Merge(status);
        pods.patch_status("db", &params, &patch).await.unwrap();
        self.database_is_up(SET).await;
    }

    async fn image_of_database(&self) -> String {
        let set: StatefulSet = self.appears(SET).await;
        let pod = set.spec.unwrap().template.spec.unwrap();
        let prepare = pod.init_containers.unwrap().remove(0).image;
        let image = pod.containers.into_iter().next().unwrap().image;
        assert_eq!(prepare, image);
        image.unwrap()
    }

    async fn major_is(&self, major: i32) {
        eventually(&format!("PostgreSQL {major} is known"), || async {
            let claim = self.get::<PersistentVolumeClaim>(CLAIM).await?;
            let noted = claim
                .annotations()
                .get("mcpauth.io/postgres-major")?
                .clone();
            let status = self.get::<McpAuthServer>("auth").await?.status?;
            let told = status.database?.major;
            (noted == major.to_string() && told == major).then_some(())
        })
        .await;
    }

    async fn request_of_claim(&self) -> String {
        let claim: PersistentVolumeClaim = self.get(CLAIM).await.unwrap();
        let requests = claim.spec.unwrap().resources.unwrap().requests.unwrap();
        requests["storage"].0.clone()
    }

    async fn storage_is(&self, storage: &Value) {
        let patch = json!({ "spec": { "storage": storage } });
        self.patch::<McpAuthServer>("auth", &patch).await;
    }

    async fn size_is(&self, size: &str) {
        self.storage_is(&json!({ "postgres": { "managed": { "size": size } } }))
            .await;
    }

    async fn class(&self, grows: bool) -> String {
        let name = format!("{}-{grows}", self.namespace);
        let class: StorageClass = serde_json::from_value(json!({
            "metadata": { "name": name }, "provisioner": "example.com/none", "allowVolumeExpansion": grows,
        }))
        .unwrap();
        let classes: Api<StorageClass> = Api::all(self.client.clone());
        classes
            .create(&PostParams::default(), &class)
            .await
            .unwrap();
        name
    }
}

/// O11.
#[tokio::test]
async fn a_lost_password_is_replaced_and_the_volume_stays() {
    let world = World::new("password").await;
    let operator = world.operator();
    world
        .create::<McpAuthServer>("auth", &managed(&json!({})))
        .await;
    world.pods_are_up("auth-authserver").await;
    world.database_is_up(SET).await;
    world.is_ready::<McpAuthServer>("auth").await;
    let annotations = async || {
        let set: StatefulSet = world.get(SET).await.unwrap();
        let deployment: Deployment = world.get("auth-authserver").await.unwrap();
        let of = |meta: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta>| {
            meta.unwrap().annotations.unwrap()["mcpauth.io/config-hash"].clone()
        };
        [
            of(set.spec.unwrap().template.metadata),
            of(deployment.spec.unwrap().template.metadata),
        ]
    };
    let before = annotations().await;
    let set: StatefulSet = world.get(SET).await.unwrap();
    let lost: Secret = world.get(SET).await.unwrap();

    world.delete::<Secret>(SET).await;
    let found: Secret = world.appears(SET).await;
    let password = |secret: &Secret| secret.data.as_ref().unwrap()["password"].0.clone();
    assert_ne!(password(&lost), password(&found));
    // The database's pod gives the role its new password, and the server's pods read it.
    eventually("both are rolled", || async {
        let now = annotations().await;
        (now[0] != before[0] && now[1] != before[1]).then_some(())
    })
    .await;
    let after: StatefulSet = world.get(SET).await.unwrap();
    assert_eq!(after.uid(), set.uid());

    // A damaged one says what to do.
    let patch = json!({ "data": { "password": null } });
    world.patch::<Secret>(SET, &patch).await;
    let condition = world.not_ready::<McpAuthServer>("auth", "SecretLost").await;
    assert!(
        condition.message.contains("delete it, and a new one"),
        "{}",
        condition.message
    );
    assert!(
        !condition.message.contains("StatefulSet"),
        "{}",
        condition.message
    );
    operator.stop().await;
}

/// O10.
#[tokio::test]
async fn the_major_version_of_the_database_stays() {
    let world = World::new("major").await;
    let operator = world.operator_with_postgres("postgres:15");
    world
        .create::<McpAuthServer>("auth", &managed(&json!({})))
        .await;
    world.volume_is_made(None).await;
    world.pods_are_up("auth-authserver").await;
    world.database_runs("15").await;
    world.major_is(15).await;
    operator.stop().await;

    // A newer operator has another default.
    let operator = world.operator_with_postgres("postgres:17");
    operator.goes_on(3).await;
    assert_eq!(world.image_of_database().await, "postgres:15");
    world.is_ready::<McpAuthServer>("auth").await;
    operator.stop().await;
    // Also when the McpAuthServer was deleted meanwhile, and only the volume is left.
    world.delete::<StatefulSet>(SET).await;
    let operator = world.operator_with_postgres("postgres:17");
    assert_eq!(world.image_of_database().await, "postgres:15");
    operator.stop().await;
    // A default of the same version is taken, whatever it is called.
    let operator = world.operator_with_postgres("mirror/postgres:15.4@sha256:aa");
    eventually("the default is taken", || async {
        let image = world.image_of_database().await;
        (image == "mirror/postgres:15.4@sha256:aa").then_some(())
    })
    .await;
    world.database_runs("15").await;

    world
        .storage_is(&json!({ "postgres": { "managed": { "image": "postgres:17" } } }))
        .await;
    let condition = world
        .not_ready::<McpAuthServer>("auth", "DatabaseMajorChange")
        .await;
    for words in [
        "postgres:17 is PostgreSQL 17",
        "holds PostgreSQL 15",
        "docs/operations/database.md",
    ] {
        assert!(condition.message.contains(words), "{}", condition.message);
    }
    world
        .reaches::<McpAuthServer>("auth", "Degraded", "True", "DatabaseMajorChange")
        .await;
    assert_eq!(
        world.image_of_database().await,
        "mirror/postgres:15.4@sha256:aa"
    );

    // After a dump. The pod still uses the volume, so the claim stays until it is gone.
    world.delete::<PersistentVolumeClaim>(CLAIM).await;
    let claim: PersistentVolumeClaim = world.get(CLAIM).await.unwrap();
    assert!(claim.metadata.deletion_timestamp.is_some());
    world
        .storage_is(&json!({ "postgres": { "managed": { "image": "postgres:17.0" } } }))
        .await;
    eventually("the new version is taken", || async {
        (world.image_of_database().await == "postgres:17.0").then_some(())
    })
    .await;
    operator.stop().await;
}

#[tokio::test]
async fn the_volume_grows_and_the_stateful_set_is_left_alone() {
    let world = World::new("grows").await;
    let operator = world.operator();
    let class = world.class(true).await;
    let settings = json!({ "size": "1Gi" });
    world
        .create::<McpAuthServer>("auth", &managed(&settings))
        .await;
    world.volume_is_made(Some(&class)).await;
    world.pods_are_up("auth-authserver").await;
    world.database_runs("15").await;
    world.major_is(15).await;
    let set: StatefulSet = world.get(SET).await.unwrap();

    world.size_is("2Gi").await;
    eventually("the claim asks for more", || async {
        (world.request_of_claim().await == "2Gi").then_some(())
    })
    .await;
    world.is_ready::<McpAuthServer>("auth").await;
    world.major_is(15).await;
    let after: StatefulSet = world.get(SET).await.unwrap();
    assert_eq!(after.uid(), set.uid());

    world.size_is("1500Mi").await;
    let condition = world
        .not_ready::<McpAuthServer>("auth", "InvalidSpec")
        .await;
    assert!(
        condition.message.ends_with("set it to 2Gi or more"),
        "{}",
        condition.message
    );
    assert_eq!(world.request_of_claim().await, "2Gi");
    world.size_is("2048Mi").await;
    world.is_ready::<McpAuthServer>("auth").await;
    let writes = operator.writes();
    operator.goes_on(3).await;
    assert_eq!(operator.writes(), writes);
    operator.stop().await;
}

#[tokio::test]
async fn a_volume_that_cannot_grow_is_told_in_the_words_of_the_api_server() {
    let world = World::new("fixed").await;
    let operator = world.operator();
    let class = world.class(false).await;
    world
        .create::<McpAuthServer>("auth", &managed(&json!({})))
        .await;
    world.volume_is_made(Some(&class)).await;
    world.pods_are_up("auth-authserver").await;
    world.database_runs("15").await;
    world.is_ready::<McpAuthServer>("auth").await;

    world.size_is("2Gi").await;
    let condition = world
        .not_ready::<McpAuthServer>("auth", "ApplyFailed")
        .await;
    for words in [CLAIM, "must support resize"] {
        assert!(condition.message.contains(words), "{}", condition.message);
    }
    // The way back.
    world.size_is("1Gi").await;
    world.is_ready::<McpAuthServer>("auth").await;
    operator.stop().await;
}

#[tokio::test]
async fn a_database_that_is_no_longer_used_is_not_forgotten() {
    let world = World::new("left").await;
    let operator = world.operator();
    world
        .create::<McpAuthServer>("auth", &managed(&json!({})))
        .await;
    world.volume_is_made(None).await;
    world.pods_are_up("auth-authserver").await;
    world.database_runs("15").await;
    world.is_ready::<McpAuthServer>("auth").await;
    let condition = world
        .condition::<McpAuthServer>("auth", "DatabaseLeftBehind")
        .await;
    assert_eq!(condition, None);

    let memory = json!({ "memory": {}, "postgres": null });
    world.storage_is(&memory).await;
    let left = async |status: &str| {
        let reason = if status == "True" {
            "StorageChanged"
        } else {
            "Ready"
        };
        world
            .reaches::<McpAuthServer>("auth", "DatabaseLeftBehind", status, reason)
            .await
    };
    let message = left("True").await.message;
    for words in [SET, CLAIM, "to use them again"] {
        assert!(message.contains(words), "{message}");
    }
    assert_eq!(world.events("auth", "DatabaseLeftBehind").await, [message]);
    let status = world
        .get::<McpAuthServer>("auth")
        .await
        .unwrap()
        .status
        .unwrap();
    assert_eq!(status.database, None);

    let postgres = json!({ "memory": null, "postgres": { "managed": {} } });
    world.storage_is(&postgres).await;
    left("False").await;

    // What is deleted with the McpAuthServer is not the volume, so it is not what opens it.
    world.storage_is(&memory).await;
    left("True").await;
    world.delete::<McpAuthServer>("auth").await;
    world.disappears::<McpAuthServer>("auth").await;
    for name in ["auth-authserver-keys", SET] {
        assert!(world.get::<Secret>(name).await.is_some(), "{name}");
    }
    operator.stop().await;
}
