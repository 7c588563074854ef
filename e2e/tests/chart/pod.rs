//! The operator's pods.

use serde_json::json;

use crate::render::{container, of_kind, only, pod, render, rendered, strings};

#[test]
fn it_meets_the_restricted_standard_without_a_fixed_user() {
    let objects = rendered(&[]);
    let deployment = only(&objects, "Deployment");
    assert_eq!(deployment["spec"]["replicas"], 2);
    let pods = [pod(&objects), &only(&objects, "Pod")["spec"]];
    for pod in pods {
        let security = &pod["securityContext"];
        assert_eq!(security["runAsNonRoot"], true);
        assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault");
        for fixed in ["runAsUser", "runAsGroup", "fsGroup"] {
            assert!(security.get(fixed).is_none(), "{fixed}");
        }
        assert_ne!(pod["hostNetwork"], true);
        let container = &pod["containers"][0];
        let security = &container["securityContext"];
        assert_eq!(security["allowPrivilegeEscalation"], false);
        assert_eq!(security["readOnlyRootFilesystem"], true);
        assert_eq!(strings(&security["capabilities"]["drop"]), ["ALL"]);
        assert!(container["resources"]["requests"]["cpu"].is_string());
        assert!(container["resources"]["limits"]["memory"].is_string());
    }
    let container = container(&objects);
    assert_ne!(
        container["livenessProbe"]["httpGet"]["path"],
        container["readinessProbe"]["httpGet"]["path"]
    );
}

#[test]
fn what_a_platform_sets_can_be_left_out() {
    let objects = rendered(&[
        "podSecurityContext=null",
        "securityContext=null",
        "resources=null",
    ]);
    assert!(pod(&objects).get("securityContext").is_none());
    assert!(container(&objects).get("securityContext").is_none());
    assert!(container(&objects).get("resources").is_none());
    // One key of it as well.
    let objects = rendered(&[
        "podSecurityContext.seccompProfile=null",
        "podSecurityContext.runAsUser=1234",
    ]);
    let expected = json!({ "runAsNonRoot": true, "runAsUser": 1234 });
    assert_eq!(pod(&objects)["securityContext"], expected);
}

#[test]
fn the_operator_finds_out_who_chooses_uids_unless_it_is_told() {
    let args = |settings: &[&str]| {
        let objects = rendered(settings);
        let args = strings(&container(&objects)["args"]);
        let flag = args
            .into_iter()
            .find_map(|arg| arg.strip_prefix("--user-ids="));
        flag.map(str::to_owned)
    };
    assert_eq!(args(&[]), None);
    for told in ["fixed", "platform"] {
        let setting = format!("workloads.userIds={told}");
        assert_eq!(args(&[&setting]).as_deref(), Some(told));
    }
    assert!(render(&["workloads.userIds=random"]).is_err());
}

#[test]
fn what_is_given_gets_into_the_pod() {
    let objects = rendered(&[
        "extraArgs={--concurrency=2}",
        "extraEnv[0].name=HTTPS_PROXY,extraEnv[0].value=http://proxy:3128",
        "volumes[0].name=ca,volumes[0].configMap.name=ca",
        "volumeMounts[0].name=ca,volumeMounts[0].mountPath=/etc/ca",
        "nodeSelector.disk=ssd",
        "tolerations[0].key=infra,tolerations[0].operator=Exists",
        "affinity.nodeAffinity.x=1",
        "priorityClassName=system-cluster-critical",
        "topologySpreadConstraints[0].maxSkew=1,topologySpreadConstraints[0].topologyKey=zone",
        "podLabels.team=platform",
        "podAnnotations.note=x",
        "log=debug",
    ]);
    let (pod, container) = (pod(&objects), container(&objects));
    assert_eq!(strings(&container["args"]).last(), Some(&"--concurrency=2"));
    let env = container["env"].as_array().unwrap();
    assert!(env.contains(&json!({ "name": "HTTPS_PROXY", "value": "http://proxy:3128" })));
    assert!(env.contains(&json!({ "name": "RUST_LOG", "value": "debug" })));
    assert_eq!(
        pod["volumes"],
        json!([{ "name": "ca", "configMap": { "name": "ca" } }])
    );
    assert_eq!(
        container["volumeMounts"],
        json!([{ "name": "ca", "mountPath": "/etc/ca" }])
    );
    assert_eq!(pod["nodeSelector"], json!({ "disk": "ssd" }));
    assert_eq!(
        pod["tolerations"],
        json!([{ "key": "infra", "operator": "Exists" }])
    );
    assert_eq!(pod["affinity"], json!({ "nodeAffinity": { "x": 1 } }));
    assert_eq!(pod["priorityClassName"], "system-cluster-critical");
    assert_eq!(
        pod["topologySpreadConstraints"],
        json!([{ "maxSkew": 1, "topologyKey": "zone" }])
    );
    let metadata = &only(&objects, "Deployment")["spec"]["template"]["metadata"];
    assert_eq!(metadata["labels"]["team"], "platform");
    assert_eq!(metadata["annotations"]["note"], "x");
}

#[test]
fn selectors_find_the_pod_and_not_the_one_of_helm_test() {
    for settings in [
        &[
            "networkPolicy.enabled=true",
            "metrics.podMonitors.operator.enabled=true",
        ][..],
        &[
            "networkPolicy.enabled=true",
            "metrics.podMonitors.operator.enabled=true",
            "nameOverride=auth",
            "podLabels.app\\.kubernetes\\.io/name=theirs",
            "commonLabels.app\\.kubernetes\\.io/instance=theirs",
        ],
    ] {
        let objects = rendered(settings);
        let labels = &only(&objects, "Deployment")["spec"]["template"]["metadata"]["labels"];
        let tests = &only(&objects, "Pod")["metadata"]["labels"];
        let selectors = [
            &only(&objects, "Deployment")["spec"]["selector"]["matchLabels"],
            &only(&objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
            &only(&objects, "Service")["spec"]["selector"],
            &only(&objects, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
            &only(&objects, "PodMonitor")["spec"]["selector"]["matchLabels"],
        ];
        for selector in selectors {
            let selector = selector.as_object().unwrap();
            assert!(!selector.is_empty());
            for (key, value) in selector {
                assert_eq!(&labels[key], value, "{key}");
            }
            assert!(selector.iter().any(|(key, value)| &tests[key] != value));
        }
    }
}

#[test]
fn a_budget_is_made_for_more_than_one_replica() {
    let budget = |settings: &[&str]| {
        let objects = rendered(settings);
        let found = of_kind(&objects, "PodDisruptionBudget");
        found.first().map(|budget| budget["spec"].clone())
    };
    assert_eq!(budget(&[]).unwrap()["maxUnavailable"], 1);
    let least = budget(&["podDisruptionBudget.minAvailable=50%"]).unwrap();
    assert_eq!(least["minAvailable"], "50%");
    assert!(least.get("maxUnavailable").is_none());
    assert!(budget(&["replicaCount=1"]).is_none());
    assert!(budget(&["podDisruptionBudget.enabled=false"]).is_none());
}

#[test]
fn images_come_from_where_the_values_say() {
    let digest = format!("sha256:{}", "ab".repeat(32));
    let images = |settings: &[&str]| {
        let objects = rendered(settings);
        let container = container(&objects);
        let args = strings(&container["args"]).into_iter();
        let mut images = vec![container["image"].as_str().unwrap().to_owned()];
        images.extend(args.filter_map(|arg| Some(arg.split_once("-image=")?.1.to_owned())));
        assert_eq!(
            only(&objects, "Pod")["spec"]["containers"][0]["image"],
            images[0]
        );
        images
    };
    let version = env!("CARGO_PKG_VERSION");
    let own = |name: &str| format!("ghcr.io/mcpauth/{name}:{version}");
    let expected = [
        own("operator"),
        own("authserver"),
        own("resource-proxy"),
        "docker.io/library/postgres:15".to_owned(),
    ];
    assert_eq!(images(&[]), expected);

    // A digest wins over a tag.
    let given = images(&[
        &format!("images.operator.digest={digest}"),
        "images.operator.tag=dev",
        "images.authserver.tag=dev",
        "images.resourceProxy.registry=registry.example:5000,images.resourceProxy.repository=a/b",
        "images.postgres.registry=",
    ]);
    let expected = [
        format!("ghcr.io/mcpauth/operator@{digest}"),
        "ghcr.io/mcpauth/authserver:dev".to_owned(),
        format!("registry.example:5000/a/b:{version}"),
        "library/postgres:15".to_owned(),
    ];
    assert_eq!(given, expected);

    for image in images(&["global.imageRegistry=mirror.example"]) {
        assert!(image.starts_with("mirror.example/"), "{image}");
    }
}

#[test]
fn pull_secrets_go_where_they_belong() {
    let objects = rendered(&[
        "global.imagePullSecrets[0].name=everywhere",
        "imagePullSecrets[0].name=own",
        "workloads.imagePullSecrets[0].name=made",
        "workloads.imagePullSecrets[1].name=everywhere",
    ]);
    let own = json!([{ "name": "everywhere" }, { "name": "own" }]);
    assert_eq!(pod(&objects)["imagePullSecrets"], own);
    assert_eq!(only(&objects, "Pod")["spec"]["imagePullSecrets"], own);
    let args = strings(&container(&objects)["args"]).into_iter();
    let given: Vec<&str> = args
        .filter_map(|arg| arg.strip_prefix("--image-pull-secret="))
        .collect();
    assert_eq!(given, ["everywhere", "made"]);
}

#[test]
fn network_policies_of_what_it_makes_are_on_unless_told_otherwise() {
    let flag = "--network-policies=false";
    let told = |settings: &[&str]| strings(&container(&rendered(settings))["args"]).contains(&flag);
    assert!(!told(&[]));
    assert!(told(&["workloads.networkPolicies=false"]));
}

#[test]
fn helm_test_asks_the_service() {
    let objects = rendered(&["fullnameOverride=auth"]);
    let test = only(&objects, "Pod");
    assert_eq!(test["metadata"]["annotations"]["helm.sh/hook"], "test");
    let service = only(&objects, "Service")["metadata"]["name"]
        .as_str()
        .unwrap();
    let url = format!("http://{service}.mcp-auth-system.svc:9090/readyz");
    assert_eq!(
        strings(&test["spec"]["containers"][0]["args"]),
        ["probe", &url]
    );
    assert_eq!(test["spec"]["automountServiceAccountToken"], false);
    // Without the Service there is nothing to ask.
    let objects = render(&["metrics.service.enabled=false"]).unwrap();
    assert!(of_kind(&objects, "Pod").is_empty() && of_kind(&objects, "Service").is_empty());
}
