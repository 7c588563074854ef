//! Clients that people use, as their own packages, at the programs on this machine: each signs in, calls a tool, and calls
//! again after its access token has expired.

#[cfg(test)]
mod clients {
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    use mcp_auth_e2e::{local::Local, top};
    use mcpauth_test_support::process::free_ports;
    use serde_json::{Value, json};

    /// How long an access token lives.
    const SECONDS: u32 = 4;

    /// The programs of `examples/notes.yaml`, on ports of their own.
    struct Stack {
        resource: String,
        issuer: String,
        _programs: Local,
    }

    /// The example without friction, which would only cost time, and with tokens that expire soon.
    fn manifest(issuer: &str, resource: &str, server: u16) -> String {
        let example = fs::read_to_string(top().join("examples/notes.yaml")).unwrap();
        let documents = example
            .split("\n---\n")
            .filter(|text| text.contains("kind: "));
        let documents = documents.map(|text| {
            let mut object: Value = serde_saphyr::from_str(text).unwrap();
            let spec = object["spec"].as_object_mut().unwrap();
            spec.remove("friction");
            if spec.contains_key("issuer") {
                spec.insert(
                    "tokens".into(),
                    json!({ "accessTokenSeconds": SECONDS, "authorizationCodeSeconds": SECONDS }),
                );
            }
            if let Some(http) = object.pointer_mut("/spec/server/template/http") {
                http["port"] = json!(server);
            }
            let text = object.to_string();
            let text = text.replace("127.0.0.1:8000", &format!("127.0.0.1:{server}"));
            let text = text.replace("http://localhost:9000", issuer);
            text.replace("http://localhost:9001/mcp", resource)
        });
        documents.collect::<Vec<_>>().join("\n---\n")
    }

    impl Stack {
        fn start() -> Self {
            let [issuer, resource, server] = free_ports();
            let issuer = format!("http://localhost:{issuer}");
            let resource = format!("http://localhost:{resource}/mcp");
            let programs = Local::start(&manifest(&issuer, &resource, server)).unwrap();
            Self {
                resource,
                issuer,
                _programs: programs,
            }
        }
    }

    /// Runs it, and gives what it printed.
    fn succeeds(command: &mut Command) -> String {
        let output = command.current_dir(top()).output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{printed}{errors}");
        printed
    }

    fn set(variable: &str) -> String {
        std::env::var(variable).unwrap_or_else(|_| {
            panic!("{variable} is not set: run this through `make test-servers`, which installs the clients")
        })
    }

    fn package(name: &str) {
        let stack = Stack::start();
        let program = Path::new(&set("MCP_CLIENTS")).join(name);
        let mut command = Command::new(set("MCP_PYTHON"));
        command.args(["e2e/client/packages.py", name, &stack.resource, "--program"]);
        command
            .arg(program)
            .args(["--seconds", &SECONDS.to_string()]);
        let printed = succeeds(&mut command);
        assert!(
            printed.contains("called after the access token expired"),
            "{printed}"
        );
    }

    #[test]
    fn mcp_remote() {
        package("mcp-remote");
    }

    #[test]
    fn codex() {
        package("codex");
    }

    #[test]
    fn the_python_sdk() {
        let stack = Stack::start();
        let mut command = Command::new(set("MCP_PYTHON"));
        command.args(["e2e/client/client.py", "outlive", "--url", &stack.resource]);
        let printed = succeeds(command.args(["--issuer", &stack.issuer]));
        assert!(printed.contains("grant_type=refresh_token"), "{printed}");
        assert!(printed.contains(r#""refreshed": true"#), "{printed}");
    }
}
