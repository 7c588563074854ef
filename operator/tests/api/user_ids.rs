//! Platforms that choose the uids of pods and refuse others, as OpenShift's security context constraints do.

use std::process::Command;

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use mcp_auth_operator::config::UserIds;
use mcp_auth_operator::platform;
use mcpauth_api::{McpAuthServer, ProtectedMcpServer};
use mcpauth_test_support::process::{Process, free_ports};
use mcpauth_test_support::wait::eventually;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::support::world::{World, specs};

fn parsed<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

/// Refuses pods that name a uid or gid, and waits until it does.
async fn refuse_fixed_ids(world: &World) {
    let new = PostParams::default();
    let none =
        "!has(s.runAsUser) && !has(s.runAsGroup) && !has(s.fsGroup) && !has(s.supplementalGroups)";
    let of_container = "!has(s.runAsUser) && !has(s.runAsGroup)";
    let policy = json!({
        "metadata": { "name": "no-fixed-ids" },
        "spec": {
            "matchConstraints": { "resourceRules": [{
                "apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
                "resources": ["deployments", "statefulsets"],
            }]},
            "variables": [{ "name": "pod", "expression": "object.spec.template.spec" }, {
                "name": "containers",
                "expression": "variables.pod.containers + (has(variables.pod.initContainers) ? variables.pod.initContainers : [])",
            }],
            "validations": [{
                "expression": format!("!has(variables.pod.securityContext) || [variables.pod.securityContext].all(s, {none})"),
                "message": "the platform sets uids and gids",
            }, {
                "expression": format!("variables.containers.all(c, !has(c.securityContext) || [c.securityContext].all(s, {of_container}))"),
                "message": "the platform sets uids and gids of containers",
            }],
        },
    });
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(world.client.clone());
    policies.create(&new, &parsed(policy)).await.unwrap();
    let binding = json!({
        "metadata": { "name": "no-fixed-ids" },
        "spec": { "policyName": "no-fixed-ids", "validationActions": ["Deny"] },
    });
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(world.client.clone());
    bindings.create(&new, &parsed(binding)).await.unwrap();

    let probe: Deployment = parsed(json!({
        "metadata": { "name": "probe" },
        "spec": { "selector": { "matchLabels": { "a": "b" } }, "template": {
            "metadata": { "labels": { "a": "b" } },
            "spec": { "securityContext": { "fsGroup": 7 }, "containers": [{ "name": "c", "image": "i" }] },
        }},
    }));
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    eventually("fixed ids are refused", || async {
        world.api().create(&dry, &probe).await.err().map(drop)
    })
    .await;
}

/// Serves the API group of OpenShift's security context constraints.
async fn serve_constraints(world: &World) {
    let definition = json!({
        "metadata": { "name": "securitycontextconstraints.security.openshift.io" },
        "spec": {
            "group": "security.openshift.io", "scope": "Cluster",
            "names": { "kind": "SecurityContextConstraints", "plural": "securitycontextconstraints",
                       "singular": "securitycontextconstraints" },
            "versions": [{ "name": "v1", "served": true, "storage": true,
                           "schema": { "openAPIV3Schema": { "type": "object" } } }],
        },
    });
    let definitions: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    let new = PostParams::default();
    definitions.create(&new, &parsed(definition)).await.unwrap();
    eventually("the platform is recognized", || async {
        let user_ids = platform::user_ids(&world.client, UserIds::Auto).await;
        (user_ids.unwrap() == UserIds::Platform).then_some(())
    })
    .await;
}

fn operator(world: &World, flags: &[&str]) -> Process {
    let [health] = free_ports();
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-auth-operator"));
    command
        .args(["--watch-namespace", &world.namespace])
        .args(["--namespace", &world.namespace])
        .args(["--health-address", &format!("127.0.0.1:{health}")])
        .args(flags)
        .env("KUBECONFIG", world.cluster.kubeconfig());
    Process::start(&mut command)
}

#[tokio::test]
async fn on_openshift_no_pod_names_a_uid() {
    // Of its own, because what the cluster serves is the same for all.
    let world = World::apart("user-ids").await;
    let elsewhere = platform::user_ids(&world.client, UserIds::Auto).await;
    assert_eq!(elsewhere.unwrap(), UserIds::Fixed);
    serve_constraints(&world).await;
    refuse_fixed_ids(&world).await;
    for fixed in [UserIds::Fixed, UserIds::Platform] {
        let decided = platform::user_ids(&world.client, fixed).await.unwrap();
        assert_eq!(decided, fixed, "a flag is not questioned");
    }
    let managed = json!({ "postgres": { "managed": {} } });
    let auth = specs::with(specs::auth_server(), "/storage", managed);
    world.create::<McpAuthServer>("auth", &auth).await;
    let notes = specs::protected_server();
    world.create::<ProtectedMcpServer>("notes", &notes).await;

    let told = operator(&world, &["--user-ids=fixed"]);
    let refused = world
        .not_ready::<ProtectedMcpServer>("notes", "ApplyFailed")
        .await;
    let why = "the platform sets uids and gids";
    assert!(refused.message.contains(why), "{}", refused.message);
    drop(told);
    let leases = world.api::<k8s_openapi::api::coordination::v1::Lease>();
    let lease = DeleteParams::default();
    leases.delete("mcp-auth-operator", &lease).await.unwrap();

    let _finding_out = operator(&world, &[]);
    world.appears::<Deployment>("notes").await;
    world.appears::<Deployment>("auth-authserver").await;
    world.appears::<StatefulSet>("auth-authserver-db").await;
}
