//! What `render` writes is what the programs read: their own parsers take the files.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{fs, path::Path};

use mcpauth_cli::render::{self, RenderArgs};

type AuthServerConfig = mcp_authserver::config::Config;
type ProxyConfig = mcp_resource_proxy::config::Config;

fn render(example: &str, output: &Path, postgres_url_file: Option<String>) {
    let examples =
        std::path::PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../examples");
    render::render(&RenderArgs {
        file: examples.join(example),
        output: output.to_owned(),
        mount: output.join("authserver").display().to_string(),
        authserver_host: "authserver".to_owned(),
        upstream_host: "127.0.0.1".to_owned(),
        postgres_url_file,
        postgres_ca_file: None,
    })
    .unwrap();
}

#[test]
fn the_programs_take_what_render_writes() {
    for example in ["notes.yaml", "notes-postgres.yaml"] {
        let output = tempfile::tempdir().unwrap();
        let url_file = output.path().join("uri");
        fs::write(&url_file, "postgres://u:p@db:5432/d").unwrap();
        render(example, output.path(), Some(url_file.display().to_string()));
        let config =
            AuthServerConfig::load(&output.path().join("authserver/authserver.yaml")).unwrap();
        assert_eq!(
            config.resources[0].introspectors,
            ["credential:notes-proxy"]
        );
        assert_eq!(config.clients[0].0, "default_robot");
        let text = fs::read_to_string(output.path().join("notes-proxy/proxy.yaml")).unwrap();
        ProxyConfig::parse(&text).unwrap();
    }
}

#[test]
fn render_keeps_secrets_that_are_there() {
    let output = tempfile::tempdir().unwrap();
    let read = |path: &str| fs::read_to_string(output.path().join(path)).unwrap();
    render("notes.yaml", output.path(), None);
    let before = (
        read("authserver/pepper"),
        read("authserver/authserver.yaml"),
        read("notes-proxy/secret"),
    );
    render("notes.yaml", output.path(), None);
    let after = (
        read("authserver/pepper"),
        read("authserver/authserver.yaml"),
        read("notes-proxy/secret"),
    );
    assert_eq!(before, after);
}
