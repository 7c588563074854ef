//! The chart on a real API server, which has no nodes: what is taken, and what the operator's account may do then.

use std::path::{Path, PathBuf};
use std::process::Command;

use mcpauth_test_support::api_server::Cluster;

use crate::render::{HELMS, helm, run};

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
        std::thread::scope(|scope| {
            let test = scope.spawn(|| gate.helm(&["test", "gate", "--timeout", "60s"]));
            // There is no kubelet to run it.
            let status = [
                "patch",
                "pod/gate-mcp-auth-operator-test",
                "--namespace",
                &gate.namespace,
                "--subresource=status",
                "--patch={\"status\":{\"phase\":\"Succeeded\"}}",
            ];
            while !test.is_finished() && gate.kubectl(&status).is_err() {
                std::thread::sleep(std::time::Duration::from_millis(200));
            }
            let said = test.join().unwrap().unwrap();
            assert!(said.contains("Succeeded"), "{helm}: {said}");
        });
        gate.helm(&["uninstall", "gate"]).unwrap();
        let left = gate.kubectl(&["get", "pods", "-n", &gate.namespace, "-o", "name"]);
        assert_eq!(left.unwrap(), "", "{helm}");
    }
}
