//! The chart on a real API server, which has no nodes: what is taken, and what the operator's account may do then.

use std::path::{Path, PathBuf};
use std::process::Command;

use mcpauth_test_support::api_server::Cluster;
use mcpauth_test_support::process::{Process, free_ports};
use mcpauth_test_support::wait::eventually;
use serde_json::{Value, json};

use crate::render::{HELMS, container, helm, read, run, strings};

#[derive(Clone)]
struct Installation {
    helm: &'static str,
    kubeconfig: PathBuf,
    namespace: String,
}

impl Installation {
    fn kubectl(&self, args: &[&str]) -> Result<String, String> {
        run(Command::new("kubectl")
            .args(args)
            .env("KUBECONFIG", &self.kubeconfig))
    }

    fn helm(&self, args: &[&str]) -> Result<String, String> {
        run(helm(self.helm)
            .args(args)
            .args(["--namespace", &self.namespace])
            .env("KUBECONFIG", &self.kubeconfig))
    }

    fn install(&self, settings: &str) {
        let chart = ["upgrade", "--install", "gate", "charts/mcp-auth-operator"];
        // The API server of the tests has the kinds.
        let kinds = "crds.enabled=false";
        self.helm(&[&chart[..], &["--set", kinds, "--set", settings]].concat())
            .unwrap();
    }

    fn may(&self, verb: &str, resource: &str, namespace: &str) -> bool {
        let account = format!(
            "system:serviceaccount:{}:gate-mcp-auth-operator",
            self.namespace
        );
        let args = [
            "auth", "can-i", verb, resource, "-n", namespace, "--as", &account,
        ];
        // `no` is a failure.
        self.kubectl(&args).is_ok()
    }
}

fn namespaces<const N: usize>(kubeconfig: &Path, helm: &str, names: [&str; N]) -> [String; N] {
    let names = names.map(|name| format!("chart-{helm}-{name}-{}", std::process::id()));
    for name in &names {
        run(Command::new("kubectl")
            .args(["create", "namespace", name])
            .env("KUBECONFIG", kubeconfig))
        .unwrap();
    }
    names
}

#[tokio::test]
async fn an_operator_of_some_namespaces_has_rights_there_and_in_its_own() {
    let cluster = Cluster::get().await;
    for helm in HELMS {
        let kubeconfig = cluster.kubeconfig();
        let names = ["system", "team-a", "team-b", "other"];
        let [system, team_a, team_b, other] = namespaces(&kubeconfig, helm, names);
        let gate = Installation {
            helm,
            kubeconfig,
            namespace: system.clone(),
        };
        let reads = |namespace: &str| gate.may("get", "secrets", namespace);

        gate.install(&format!("watchNamespaces={{{team_a},{team_b}}}"));
        for namespace in [&team_a, &team_b] {
            assert!(reads(namespace), "{helm}: {namespace}");
            assert!(gate.may("create", "deployments.apps", namespace));
            assert!(gate.may("watch", "protectedmcpservers.mcpauth.io", namespace));
            assert!(!gate.may("delete", "deployments.apps", namespace));
        }
        for namespace in [&system, &other, &"kube-system".to_owned()] {
            assert!(!reads(namespace), "{helm}: {namespace}");
            assert!(!gate.may("list", "protectedmcpservers.mcpauth.io", namespace));
        }
        assert!(!gate.may("list", "namespaces", &team_a));
        assert!(gate.may("create", "leases.coordination.k8s.io", &system));

        // One namespace less, then all.
        gate.install(&format!("watchNamespaces={{{team_a}}}"));
        assert!(reads(&team_a) && !reads(&team_b), "{helm}");
        gate.install("watchNamespaces=null");
        assert!(reads(&other) && gate.may("watch", "namespaces", &other));

        gate.helm(&["uninstall", "gate"]).unwrap();
        assert!(!reads(&team_a) && !reads(&other), "{helm}");
        let left = ["get", "clusterroles,clusterrolebindings", "-o", "name"];
        assert!(!gate.kubectl(&left).unwrap().contains(&system), "{helm}");
    }
}

#[tokio::test]
async fn helm_test_passes_when_its_pod_does() {
    let cluster = Cluster::get().await;
    for helm in HELMS {
        let kubeconfig = cluster.kubeconfig();
        let [namespace] = namespaces(&kubeconfig, helm, ["test"]);
        let gate = Installation {
            helm,
            kubeconfig,
            namespace,
        };
        gate.install("rbac.aggregateClusterRoles=false");
        let tested = gate.clone();
        let test =
            tokio::task::spawn_blocking(move || tested.helm(&["test", "gate", "--timeout", "60s"]));
        // There is no kubelet to run it.
        let status = [
            "patch",
            "pod/gate-mcp-auth-operator-test",
            "--namespace",
            &gate.namespace,
            "--subresource=status",
            "--patch={\"status\":{\"phase\":\"Succeeded\"}}",
        ];
        eventually("the pod of the test is there", || async {
            gate.kubectl(&status)
        })
        .await;
        let said = test.await.unwrap().unwrap();
        assert!(said.contains("Succeeded"), "{helm}: {said}");
        gate.helm(&["uninstall", "gate"]).unwrap();
        let left = gate.kubectl(&["get", "pods", "-n", &gate.namespace, "-o", "name"]);
        assert_eq!(left.unwrap(), "", "{helm}");
    }
}

impl Installation {
    /// A kubeconfig of the operator's account, in `folder`.
    fn kubeconfig_of_operator(&self, folder: &Path) -> PathBuf {
        let account = [
            "create",
            "token",
            "gate-mcp-auth-operator",
            "-n",
            &self.namespace,
        ];
        let token = self.kubectl(&account).unwrap();
        let text = std::fs::read_to_string(&self.kubeconfig).unwrap();
        let mut config: Value = serde_json::from_str(&text).unwrap();
        config["users"][0]["user"] = json!({ "token": token.trim() });
        let path = folder.join("kubeconfig");
        std::fs::write(&path, config.to_string()).unwrap();
        path
    }

    /// The operator as its Deployment says, as a process.
    fn operator(&self, folder: &Path) -> Process {
        let deployment = ["get", "deployments", "-n", &self.namespace, "-o", "json"];
        let list: Value = serde_json::from_str(&self.kubectl(&deployment).unwrap()).unwrap();
        let [port] = free_ports();
        let program = std::env::current_exe().unwrap();
        // Tests are in a folder below that of the programs.
        let program = program
            .parent()
            .unwrap()
            .with_file_name("mcp-auth-operator");
        assert!(program.exists(), "`make test-chart` builds {program:?}");
        let mut command = Command::new(&program);
        command
            .args(strings(
                &container(list["items"].as_array().unwrap())["args"],
            ))
            .args(["--health-address", &format!("127.0.0.1:{port}")])
            .env("POD_NAME", "one")
            .env("POD_NAMESPACE", &self.namespace)
            .env("KUBECONFIG", self.kubeconfig_of_operator(folder));
        let process = Process::logging(&mut command, &folder.join("log"));
        let url = format!("http://127.0.0.1:{port}/readyz");
        run(Command::new(program).args(["probe", &url])).unwrap();
        process
    }

    fn get(&self, what: &str, namespace: &str) -> Option<Value> {
        let text = self.kubectl(&["get", what, "-n", namespace, "-o", "json"]);
        serde_json::from_str(&text.ok()?).ok()
    }
}

/// The roles are enough: nothing that the operator asks for is refused.
#[tokio::test]
async fn an_operator_gets_along_with_the_charts_roles() {
    let cluster = Cluster::get().await;
    for (way, port) in [("some", "nodePort: 307"), ("all", "nodePort: 308")] {
        let kubeconfig = cluster.kubeconfig();
        let [system, team] = namespaces(&kubeconfig, way, ["system", "team"]);
        let gate = Installation {
            helm: HELMS[0],
            kubeconfig,
            namespace: system,
        };
        let settings = match way {
            "some" => format!("watchNamespaces={{{team}}}"),
            _ => "workloads.networkPolicies=false".to_owned(),
        };
        gate.install(&settings);
        let folder = tempfile::tempdir().unwrap();
        let operator = gate.operator(folder.path());

        let manifest = folder.path().join("notes.yaml");
        // A node port is the cluster's.
        let text = read("examples/notes-postgres.yaml").replace("nodePort: 309", port);
        std::fs::write(&manifest, text).unwrap();
        let apply = ["apply", "-n", &team, "-f", manifest.to_str().unwrap()];
        gate.kubectl(&apply).unwrap();
        for made in [
            "deployment/notes",
            "statefulset/auth-authserver-db",
            "deployment/auth-authserver",
        ] {
            eventually(made, || async { gate.get(made, &team).map(drop) }).await;
        }
        for kind in ["mas", "pms", "moc"] {
            eventually(&format!("{kind} has its conditions"), || async {
                let objects = gate.get(kind, &team)?;
                let mut objects = objects["items"].as_array()?.iter();
                objects
                    .all(|object| object["status"]["conditions"].is_array())
                    .then_some(())
            })
            .await;
        }
        let policy = gate.get("networkpolicy/notes", &team);
        assert_eq!(policy.is_some(), way == "some");
        // The finalizers are taken off, too.
        let delete = [
            "delete",
            "-n",
            &team,
            "-f",
            manifest.to_str().unwrap(),
            "--timeout=60s",
        ];
        gate.kubectl(&delete).unwrap();
        drop(operator);
        let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
        assert!(
            !log.contains("orbidden") && !log.contains("cannot list"),
            "{log}"
        );
        gate.helm(&["uninstall", "gate"]).unwrap();
    }
}
