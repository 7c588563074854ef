//! What a spec says of its pods: what reaches them, and what is refused.

use k8s_openapi::api::core::v1::{Container, PodSpec};
use serde_json::{Value, json};

use super::environment::{self, SourceKind};
use super::tests::{
    auth_server_pod, build_auth_server, build_protected_server, protected_server_pod,
    try_auth_server, try_protected_server,
};
use super::{pod_security, protected_server};

/// A ProtectedMcpServer with these fields in `server.template` besides.
fn server_with(fields: &Value) -> Value {
    let mut template = json!({ "image": "notes:1", "http": { "port": 8000 } });
    for (key, value) in fields.as_object().unwrap() {
        template[key] = value.clone();
    }
    json!({ "server": { "template": template } })
}

fn pod_with(spec: &Value) -> Value {
    json!({ "podTemplate": { "spec": spec } })
}

fn container<'a>(pod: &'a PodSpec, name: &str) -> &'a Container {
    let init = pod.init_containers.iter().flatten();
    init.chain(&pod.containers)
        .find(|c| c.name == name)
        .unwrap()
}

#[test]
fn the_servers_own_fields_reach_its_container() {
    let fields = json!({
        "imagePullPolicy": "Always",
        "env": [
            { "name": "A.B", "value": "1" },
            { "name": "NODE", "valueFrom": { "fieldRef": { "fieldPath": "spec.nodeName" } } },
        ],
        "envFrom": [{ "prefix": "X_", "configMapRef": { "name": "settings", "optional": true } }],
        "volumes": [
            { "name": "data", "persistentVolumeClaim": { "claimName": "notes" } },
            { "name": "cache", "emptyDir": { "sizeLimit": "1Gi", "medium": "Memory" } },
        ],
        "volumeMounts": [{ "name": "data", "mountPath": "/data", "subPath": "notes" }],
        "livenessProbe": { "exec": { "command": ["true"] }, "periodSeconds": 7 },
        "readinessProbe": { "httpGet": { "path": "/ok", "port": "http" } },
        "startupProbe": { "tcpSocket": { "port": 8000 }, "failureThreshold": 30 },
    });
    let pod = protected_server_pod(&build_protected_server(&server_with(&fields)));
    let server = serde_json::to_value(container(&pod, "server")).unwrap();
    for (field, value) in fields.as_object().unwrap() {
        match field.as_str() {
            "volumes" => assert_eq!(
                serde_json::to_value(&pod.volumes.as_ref().unwrap()[4..]).unwrap(),
                *value
            ),
            "volumeMounts" => {
                let tmp = json!({ "name": "tmp", "mountPath": "/tmp" });
                assert_eq!(server[field], json!([value[0], tmp]));
            }
            _ => assert_eq!(server[field], *value, "{field}"),
        }
    }
    assert_eq!(pod_security::of_pod(&pod), Vec::<String>::new());
}

#[test]
fn a_servers_own_tmp_takes_the_place_of_ours() {
    let fields = json!({
        "volumes": [{ "name": "big", "emptyDir": {} }],
        "volumeMounts": [{ "name": "big", "mountPath": "/tmp/" }],
    });
    let pod = protected_server_pod(&build_protected_server(&server_with(&fields)));
    let mounts = container(&pod, "server").volume_mounts.as_ref().unwrap();
    assert_eq!(mounts.len(), 1);
}

#[test]
fn a_server_gets_no_volume_of_ours() {
    for (fields, field) in [
        (
            json!({ "volumes": [{ "name": "mcpauth-proxy", "emptyDir": {} }] }),
            "volumes[mcpauth-proxy]",
        ),
        (
            json!({ "volumes": [{ "name": "mcpauth-new", "emptyDir": {} }] }),
            "volumes[mcpauth-new]",
        ),
        (
            json!({ "volumes": [{ "name": "tmp", "emptyDir": {} }] }),
            "volumes[tmp]",
        ),
        (
            json!({ "volumeMounts": [{ "name": "mcpauth-token", "mountPath": "/t" }] }),
            "volumeMounts[mcpauth-token]",
        ),
    ] {
        let refused = try_protected_server(&server_with(&fields)).unwrap_err();
        let expected = format!("spec.server.template.{field}: ");
        assert!(refused.to_string().starts_with(&expected), "{refused}");
    }
    let tmp = json!({ "volumeMounts": [{ "name": "tmp", "mountPath": "/var/cache" }] });
    assert!(try_protected_server(&server_with(&tmp)).is_ok());
}

#[test]
fn a_pod_template_is_merged_over_the_rendered_pod() {
    let template = json!({ "podTemplate": {
        "metadata": { "labels": { "team": "a" }, "annotations": { "scrape": "no" } },
        "spec": {
            "nodeSelector": { "disk": "ssd" },
            "tolerations": [{ "key": "spot", "operator": "Exists" }],
            "priorityClassName": "high",
            "imagePullSecrets": [{ "name": "mine" }],
            "securityContext": { "runAsUser": 1000, "fsGroup": 1000 },
            "containers": [
                { "name": "server", "workingDir": "/app",
                  "securityContext": { "readOnlyRootFilesystem": false } },
                { "name": "exporter", "image": "exporter:1" },
            ],
            "initContainers": [
                { "name": "resource-proxy", "resources": { "limits": { "memory": "1Gi", "cpu": 1 } } },
                { "name": "migrate", "image": "migrate:1", "securityContext": { "runAsUser": 7 } },
            ],
            "volumes": [{ "name": "data", "emptyDir": { "sizeLimit": 1 } }],
        },
    }});
    let objects = build_protected_server(&template);
    let pods = objects.deployment.spec.clone().unwrap().template;
    let metadata = pods.metadata.unwrap();
    assert_eq!(metadata.labels.as_ref().unwrap()["team"], "a");
    assert_eq!(
        metadata.labels.unwrap()["mcpauth.io/protected-server"],
        "notes"
    );
    assert_eq!(metadata.annotations.unwrap()["scrape"], "no");

    let pod = protected_server_pod(&objects);
    assert_eq!(pod.node_selector.as_ref().unwrap()["disk"], "ssd");
    assert_eq!(pod.tolerations.as_ref().unwrap().len(), 1);
    assert_eq!(pod.priority_class_name.as_deref(), Some("high"));
    let security = pod.security_context.as_ref().unwrap();
    assert_eq!(security.run_as_user, Some(1000));
    assert_eq!(security.run_as_group, Some(65532));
    assert_eq!(security.run_as_non_root, Some(true));

    let server = container(&pod, "server");
    assert_eq!(server.image.as_deref(), Some("notes:1"));
    assert_eq!(server.working_dir.as_deref(), Some("/app"));
    let security = server.security_context.as_ref().unwrap();
    assert_eq!(security.read_only_root_filesystem, Some(false));
    assert_eq!(security.allow_privilege_escalation, Some(false));

    let names = |list: &[Container]| list.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
    assert_eq!(
        names(pod.init_containers.as_ref().unwrap()),
        ["resource-proxy", "migrate"]
    );
    assert_eq!(names(&pod.containers), ["server", "exporter"]);
    let resources = container(&pod, "resource-proxy").resources.clone().unwrap();
    assert_eq!(resources.limits.unwrap()["cpu"].0, "1");
    assert_eq!(resources.requests.unwrap()["memory"].0, "32Mi");
    assert_eq!(pod_security::of_pod(&pod), Vec::<String>::new());
}

/// Each line of what a podTemplate may not do, of a ProtectedMcpServer.
#[test]
fn what_a_pod_template_may_not_do_is_refused_by_its_field() {
    let own = |fields: Value| {
        let mut container = json!({ "name": "resource-proxy" });
        container
            .as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        json!({ "initContainers": [container] })
    };
    let mine = |fields: Value| {
        let mut container = json!({ "name": "mine", "image": "mine:1" });
        container
            .as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        json!({ "containers": [container] })
    };
    for (spec, field) in [
        (json!({ "hostNetwork": true }), "hostNetwork"),
        (json!({ "hostPID": true }), "hostPID"),
        (json!({ "hostIPC": true }), "hostIPC"),
        (
            json!({ "shareProcessNamespace": true }),
            "shareProcessNamespace",
        ),
        (
            own(json!({ "image": "evil" })),
            "initContainers[resource-proxy].image",
        ),
        (
            own(json!({ "args": [] })),
            "initContainers[resource-proxy].args",
        ),
        (
            own(json!({ "env": [{ "name": "RUST_LOG", "value": "trace" }] })),
            "initContainers[resource-proxy].env",
        ),
        (
            own(json!({ "volumeMounts": [{ "name": "x", "mountPath": "/etc/mcpauth/proxy" }] })),
            "initContainers[resource-proxy].volumeMounts",
        ),
        (
            own(json!({ "restartPolicy": "Always" })),
            "initContainers[resource-proxy].restartPolicy",
        ),
        (
            json!({ "containers": [{ "name": "resource-proxy", "image": "evil" }] }),
            "containers[resource-proxy].image",
        ),
        (
            json!({ "initContainers": [{ "name": "first" }, { "name": "resource-proxy" }] }),
            "initContainers[first]",
        ),
        (
            json!({ "volumes": [{ "name": "mcpauth-proxy", "configMap": { "name": "policy" } }] }),
            "volumes[mcpauth-proxy]",
        ),
        (
            json!({ "volumes": [{ "name": "tmp", "hostPath": { "path": "/" } }] }),
            "volumes[tmp]",
        ),
        (
            mine(json!({ "volumeMounts": [{ "name": "mcpauth-token", "mountPath": "/t" }] })),
            "containers[mine].volumeMounts[mcpauth-token]",
        ),
        (
            json!({ "containers": [{ "name": "server",
                "volumeMounts": [{ "name": "mcpauth-token", "mountPath": "/t" }] }] }),
            "containers[server].volumeMounts[mcpauth-token]",
        ),
        (
            json!({ "securityContext": { "runAsNonRoot": false } }),
            "securityContext.runAsNonRoot",
        ),
        (
            json!({ "securityContext": { "runAsUser": 0 } }),
            "securityContext.runAsUser",
        ),
        (
            json!({ "securityContext": { "seccompProfile": { "type": "Unconfined" } } }),
            "securityContext.seccompProfile",
        ),
        (
            json!({ "ephemeralContainers": [{ "name": "debug" }] }),
            "ephemeralContainers",
        ),
        (json!({ "serviceAccount": "other" }), "serviceAccount"),
        (
            json!({ "containers": [{ "image": "x" }] }),
            "containers[0].name",
        ),
        (mine(json!({ "imgae": "x" })), "containers[0].imgae"),
        (json!({ "toleration": [] }), "toleration"),
        (mine(json!({ "image": 1 })), "containers[0].image"),
        (json!({ "nodeSelector": "ssd" }), "nodeSelector"),
    ] {
        let refused = try_protected_server(&pod_with(&spec)).expect_err(field);
        let expected = format!("spec.podTemplate.spec.{field}: ");
        assert!(
            refused.to_string().starts_with(&expected),
            "{field}: {refused}"
        );
    }
    // What is said, but changes nothing of it, is fine.
    let fine = json!({
        "hostNetwork": false, "shareProcessNamespace": false, "automountServiceAccountToken": true,
        "containers": [{ "name": "mine", "volumeMounts": [{ "name": "tmp", "mountPath": "/tmp" }] }],
    });
    assert!(try_protected_server(&pod_with(&fine)).is_ok());
}

#[test]
fn labels_and_annotations_of_the_operator_are_refused() {
    let with =
        |kind: &str, key: &str| json!({ "podTemplate": { "metadata": { kind: { key: "x" } } } });
    for key in [
        "mcpauth.io/protected-server",
        "mcpauth.io/new",
        "new.mcpauth.io/x",
        "app.kubernetes.io/name",
        "app.kubernetes.io/managed-by",
    ] {
        let refused = try_protected_server(&with("labels", key)).unwrap_err();
        let expected = format!("spec.podTemplate.metadata.labels[{key}]: ");
        assert!(refused.to_string().starts_with(&expected), "{refused}");
    }
    let refused = try_auth_server(&with("annotations", "mcpauth.io/config-hash"), "").unwrap_err();
    let expected = "spec.podTemplate.metadata.annotations[mcpauth.io/config-hash]: ";
    assert!(refused.to_string().starts_with(expected), "{refused}");
    for key in ["app.kubernetes.io/part-of", "team", "notmcpauth.io/x"] {
        assert!(try_protected_server(&with("labels", key)).is_ok(), "{key}");
    }
}

#[test]
fn an_authorization_servers_pod_is_guarded_too() {
    for (spec, field) in [
        (
            json!({ "containers": [{ "name": "authserver", "image": "evil" }] }),
            "containers[authserver].image",
        ),
        (
            json!({ "volumes": [{ "name": "keys", "emptyDir": {} }] }),
            "volumes[keys]",
        ),
        (
            json!({ "containers": [{ "name": "mine", "volumeMounts": [{ "name": "keys", "mountPath": "/k" }] }] }),
            "containers[mine].volumeMounts[keys]",
        ),
        (
            json!({ "automountServiceAccountToken": false }),
            "automountServiceAccountToken",
        ),
        (
            json!({ "shareProcessNamespace": true }),
            "shareProcessNamespace",
        ),
    ] {
        let refused = try_auth_server(&pod_with(&spec), "").unwrap_err();
        let expected = format!("spec.podTemplate.spec.{field}: ");
        assert!(refused.to_string().starts_with(&expected), "{refused}");
    }
    let fine = json!({ "serviceAccountName": "theirs", "containers": [
        { "name": "authserver", "resources": { "requests": { "cpu": "2" } } },
    ] });
    let pod = auth_server_pod(&build_auth_server(&pod_with(&fine)));
    assert_eq!(pod.service_account_name.as_deref(), Some("theirs"));
    let resources = container(&pod, "authserver").resources.clone().unwrap();
    assert_eq!(resources.requests.unwrap()["cpu"].0, "2");
}

#[test]
fn every_refusal_is_told_at_once() {
    let spec = json!({ "hostNetwork": true, "hostPID": true, "toleration": [] });
    let refused = try_protected_server(&pod_with(&spec)).unwrap_err();
    let refused = refused.to_string();
    for field in ["hostNetwork", "hostPID", "toleration"] {
        assert!(refused.contains(&format!(".{field}: ")), "{refused}");
    }
}

#[test]
fn another_service_account_is_the_introspector() {
    let objects = build_protected_server(&json!({}));
    let account = protected_server::service_account(&objects.deployment);
    assert_eq!(account, Some("notes"));
    let theirs = pod_with(&json!({ "serviceAccountName": "theirs" }));
    let objects = build_protected_server(&theirs);
    let account = protected_server::service_account(&objects.deployment);
    assert_eq!(account, Some("theirs"));
}

/// Each line of the restricted Pod Security Standard.
#[test]
fn what_weakens_a_container_or_brings_the_node_in_is_named() {
    let context =
        |fields: Value| json!({ "containers": [{ "name": "server", "securityContext": fields }] });
    for (spec, field) in [
        (
            context(json!({ "privileged": true })),
            "containers[server].securityContext.privileged",
        ),
        (
            context(json!({ "allowPrivilegeEscalation": true })),
            "containers[server].securityContext.allowPrivilegeEscalation",
        ),
        (
            context(json!({ "runAsNonRoot": false })),
            "containers[server].securityContext.runAsNonRoot",
        ),
        (
            context(json!({ "runAsUser": 0 })),
            "containers[server].securityContext.runAsUser",
        ),
        (
            context(json!({ "capabilities": { "drop": ["KILL"] } })),
            "containers[server].securityContext.capabilities.drop",
        ),
        (
            context(json!({ "capabilities": { "add": ["NET_BIND_SERVICE", "NET_ADMIN"] } })),
            "containers[server].securityContext.capabilities.add",
        ),
        (
            context(json!({ "seccompProfile": { "type": "Unconfined" } })),
            "containers[server].securityContext.seccompProfile",
        ),
        (
            context(json!({ "appArmorProfile": { "type": "Unconfined" } })),
            "containers[server].securityContext.appArmorProfile",
        ),
        (
            context(json!({ "seLinuxOptions": { "type": "spc_t" } })),
            "containers[server].securityContext.seLinuxOptions",
        ),
        (
            context(json!({ "procMount": "Unmasked" })),
            "containers[server].securityContext.procMount",
        ),
        (
            json!({ "containers": [{ "name": "server", "ports": [{ "containerPort": 8000, "hostPort": 80 }] }] }),
            "containers[server].ports[8000].hostPort",
        ),
        (
            json!({ "initContainers": [{ "name": "mine", "securityContext": { "privileged": true } }] }),
            "initContainers[mine].securityContext.privileged",
        ),
        (
            json!({ "volumes": [{ "name": "node", "hostPath": { "path": "/" } }] }),
            "volumes[node].hostPath",
        ),
    ] {
        let pod = protected_server_pod(&build_protected_server(&pod_with(&spec)));
        let below = pod_security::of_pod(&pod);
        assert!(below.contains(&field.to_owned()), "{field}: {below:?}");
    }
    let strict =
        context(json!({ "runAsUser": 7, "capabilities": { "add": ["NET_BIND_SERVICE"] } }));
    let pod = protected_server_pod(&build_protected_server(&pod_with(&strict)));
    assert_eq!(pod_security::of_pod(&pod), Vec::<String>::new());
}

#[test]
fn the_sources_of_the_environment_are_found_in_every_container() {
    let from = |kind: &str, name: &str, key: &str| json!({ "name": "X", "valueFrom": { kind: { "name": name, "key": key } } });
    let mut changes = server_with(&json!({
        "env": [from("secretKeyRef", "one", "a"), { "name": "PLAIN", "value": "1" }],
        "envFrom": [{ "secretRef": { "name": "all" } }],
    }));
    let mine = json!({ "name": "mine", "env": [
        from("secretKeyRef", "one", "b"), from("configMapKeyRef", "one", "c"), from("secretKeyRef", "all", "x"),
    ]});
    let last = json!({ "name": "last", "envFrom": [{ "configMapRef": { "name": "settings" } }] });
    changes["podTemplate"] = json!({ "spec": { "initContainers": [mine], "containers": [last] } });
    let mut deployment = build_protected_server(&changes).deployment;
    let sources = environment::sources(&deployment);
    let keys = |kind, name: &str| sources[&(kind, name.to_owned())].clone();
    let some = |keys: &[&str]| Some(keys.iter().map(|key| (*key).to_owned()).collect());
    assert_eq!(keys(SourceKind::Secret, "one"), some(&["a", "b"]));
    assert_eq!(keys(SourceKind::ConfigMap, "one"), some(&["c"]));
    assert_eq!(keys(SourceKind::Secret, "all"), None);
    assert_eq!(keys(SourceKind::ConfigMap, "settings"), None);
    assert_eq!(sources.len(), 4);

    environment::put_hash(&mut deployment, "x".to_owned());
    let annotations = deployment
        .spec
        .unwrap()
        .template
        .metadata
        .unwrap()
        .annotations;
    assert_eq!(annotations.unwrap()["mcpauth.io/environment-hash"], "x");
    let none = build_protected_server(&json!({})).deployment;
    assert!(environment::sources(&none).is_empty());
}
