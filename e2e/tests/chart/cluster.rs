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
