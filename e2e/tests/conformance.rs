//! The official conformance suite for servers: each check of every scenario ends through the proxy, with an access token and
//! without rules, as it does at the server itself.

#[cfg(test)]
mod conformance {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use mcp_auth_e2e::{local::Local, top};
    use mcpauth_test_support::{oauth::Client, process::free_ports};
    use serde_json::{Value, json};

    const REVISIONS: [&str; 2] = ["2025-11-25", "2026-07-28"];
    /// Scenarios and checks of what the proxy enforces itself, whatever the server does: they may end better through it.
    const OWN: [(&str, &str); 7] = [
        (
            "dns-rebinding-protection",
            "localhost-host-rebinding-rejected",
        ),
        (
            "server-stateless",
            "sep-2575-request-meta-invalid-missing-meta",
        ),
        (
            "server-stateless",
            "sep-2575-request-meta-invalid-missing-protocol-version",
        ),
        (
            "server-stateless",
            "sep-2575-http-server-header-mismatch-400",
        ),
        ("server-stateless", "sep-2575-http-server-error-jsonrpc-id"),
        (
            "server-stateless",
            "sep-2575-http-server-method-not-found-404-resources-subscribe",
        ),
        (
            "server-stateless",
            "sep-2575-http-server-method-not-found-404-resources-unsubscribe",
        ),
    ];

    /// The scenario and the id of a check, and how each of its occurrences ended.
    type Outcome = BTreeMap<(String, String), Vec<String>>;

    /// A server behind a proxy without rules, both on ports of their own.
    struct Protected {
        server: String,
        proxy: String,
        token: String,
        _programs: Local,
    }

    impl Protected {
        /// The server is started by this command of Node.js with the number of its port, which it gets as `PORT` too.
        async fn start(command: impl Fn(u16) -> Vec<String>) -> Self {
            let [issuer, proxy, port] = free_ports();
            let issuer = format!("http://localhost:{issuer}");
            let url = |port| format!("http://localhost:{port}/mcp");
            let environment = [
                format!("NODE_PATH={}", modules().display()),
                format!("PORT={port}"),
            ];
            let node = vec!["env".to_owned()].into_iter().chain(environment);
            let command: Vec<String> = node.chain([node_js()]).chain(command(port)).collect();
            let programs = Local::start(&manifest(&issuer, &url(proxy), port, &command)).unwrap();
            let client = Client::register(&issuer).await.unwrap();
            let tokens = client.authorize(&url(proxy), "all").await.unwrap();
            Self {
                server: url(port),
                proxy: url(proxy),
                token: tokens.access,
                _programs: programs,
            }
        }

        /// Compares, and gives how the checks end at the server itself.
        fn compare(&self, revision: &str) -> Outcome {
            let bare = run(&self.server, revision, None);
            let proxied = run(&self.proxy, revision, Some(&self.token));
            println!(
                "{revision}: {} at the server, {} through the proxy",
                count(&bare),
                count(&proxied)
            );
            let names: BTreeSet<_> = bare.keys().chain(proxied.keys()).collect();
            let none = Vec::new();
            let differs = |name: &&(String, String)| {
                let ends = |outcome: &Outcome| outcome.get(*name).unwrap_or(&none).clone();
                let (bare, proxied) = (ends(&bare), ends(&proxied));
                let is_own = OWN.contains(&(&*name.0, &*name.1));
                bare != proxied && !(is_own && failures(&proxied) < failures(&bare))
            };
            let different: Vec<_> = names
                .into_iter()
                .filter(differs)
                .map(|name| format!("{name:?}: {:?} {:?}", bare.get(name), proxied.get(name)))
                .collect();
            assert!(different.is_empty(), "{revision}\n{}", different.join("\n"));
            bare
        }
    }

    fn manifest(issuer: &str, resource: &str, port: u16, command: &[String]) -> String {
        let object = |kind: &str, name: &str, spec: Value| {
            json!({
                "apiVersion": "mcpauth.io/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec,
            })
            .to_string()
        };
        let issuer = json!({
            "issuer": issuer,
            "storage": { "memory": {} },
            "login": { "developmentAutoApprove": { "subject": "developer" } },
            "registration": { "dynamic": {} },
        });
        let server = json!({
            "authServerRef": { "name": "auth" },
            "resource": resource,
            "server": {
                "template": { "image": "none", "command": command, "http": { "port": port, "path": "/mcp" } },
            },
            "scopes": [{ "name": "all", "description": "Everything" }],
            "access": { "unmatched": "AnyToken" },
        });
        [
            object("McpAuthServer", "auth", issuer),
            object("ProtectedMcpServer", "server", server),
        ]
        .join("\n---\n")
    }

    /// Runs every scenario of a revision.
    fn run(url: &str, revision: &str, token: Option<&str>) -> Outcome {
        let results = tempfile::tempdir().unwrap();
        let mut command = Command::new(node_js());
        if let Some(token) = token {
            command.env("TOKEN", token);
            command.args(["--import", "./e2e/client/authorization.mjs"]);
        }
        command
            .arg(suite())
            .args(["server", "--suite", "all", "--url", url]);
        command.args(["--spec-version", revision, "--output-dir"]);
        let output = command
            .arg(results.path())
            .current_dir(top())
            .output()
            .unwrap();
        let outcome = read(results.path());
        let ran: BTreeSet<_> = outcome
            .keys()
            .map(|(scenario, _)| scenario.clone())
            .collect();
        let printed = String::from_utf8_lossy(&output.stdout);
        assert_eq!(ran, listed(revision), "{printed}");
        outcome
    }

    /// What the suite wrote: a folder `server-SCENARIO-TIME` for each scenario.
    fn read(results: &Path) -> Outcome {
        const TIME: usize = "-2026-07-28T00-00-00-000Z".len();
        let mut outcome = Outcome::new();
        for entry in fs::read_dir(results).unwrap() {
            let folder = entry.unwrap();
            let name = folder.file_name().into_string().unwrap();
            let scenario = name.strip_prefix("server-").unwrap();
            let scenario = &scenario[..scenario.len() - TIME];
            let checks = fs::read(folder.path().join("checks.json")).unwrap();
            let checks: Vec<Value> = serde_json::from_slice(&checks).unwrap();
            for check in &checks {
                let text = |key: &str| check[key].as_str().unwrap().to_owned();
                let ends = outcome
                    .entry((scenario.to_owned(), text("id")))
                    .or_default();
                ends.push(format!("{} {}", text("status"), text("name")));
            }
        }
        for ends in outcome.values_mut() {
            ends.sort();
        }
        outcome
    }

    /// The scenarios of a revision.
    fn listed(revision: &str) -> BTreeSet<String> {
        let mut command = Command::new(node_js());
        let list = ["list", "--server", "--spec-version", revision];
        let output = command.arg(suite()).args(list).output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        let names = printed
            .lines()
            .filter_map(|line| line.trim().strip_prefix("- "));
        names
            .filter_map(|line| Some(line.split_once(' ')?.0.to_owned()))
            .collect()
    }

    fn count(outcome: &Outcome) -> String {
        let all = outcome.values().map(Vec::len).sum::<usize>();
        let failed: usize = outcome.values().map(|ends| failures(ends)).sum();
        format!("{failed} of {all} checks failed")
    }

    fn failures(ends: &[String]) -> usize {
        let failed = |end: &&String| end.starts_with("FAILURE") || end.starts_with("WARNING");
        ends.iter().filter(failed).count()
    }

    fn programs() -> PathBuf {
        std::env::var_os("MCP_CLIENTS")
            .expect("MCP_CLIENTS is not set: run this through `make test-servers`, which installs the suite")
            .into()
    }

    fn modules() -> PathBuf {
        programs().parent().unwrap().to_owned()
    }

    /// The suite needs a newer Node.js than some distributions have.
    fn node_js() -> String {
        programs()
            .join("node")
            .into_os_string()
            .into_string()
            .unwrap()
    }

    fn suite() -> PathBuf {
        programs().join("conformance")
    }

    #[tokio::test]
    async fn a_server_with_all_that_the_suite_asks_for() {
        let script = top().join("e2e/client/conformance-server.cjs");
        let command = |port: u16| vec![script.display().to_string(), port.to_string()];
        let protected = Protected::start(command).await;
        for revision in REVISIONS {
            let bare = protected.compare(revision);
            // Otherwise two equal failures would say little.
            assert!(bare.values().all(|ends| failures(ends) == 0), "{bare:#?}");
        }
    }

    #[tokio::test]
    async fn server_everything() {
        let script = programs()
            .join("mcp-server-everything")
            .display()
            .to_string();
        let command = |_| vec![script.clone(), "streamableHttp".to_owned()];
        let protected = Protected::start(command).await;
        for revision in REVISIONS {
            let bare = protected.compare(revision);
            assert!(bare.values().any(|ends| failures(ends) == 0), "{bare:#?}");
        }
    }
}
