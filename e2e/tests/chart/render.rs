//! Rendering, and finding one's way in what came of it.

use std::path::PathBuf;
use std::process::Command;

use mcp_auth_e2e::top;
use serde_json::Value;

/// Both major versions of helm, as programs on PATH.
pub(crate) const HELMS: [&str; 2] = ["helm", "helm3"];

/// The chart's folder.
pub(crate) fn chart() -> PathBuf {
    top().join("charts/mcp-auth-operator")
}

pub(crate) fn helm(program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(top());
    command
}

/// What a command prints; the error is what it said.
pub(crate) fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().expect(
        "cannot run a program: run this through `make test-chart`, which builds helm and sets PATH",
    );
    let text = |bytes| String::from_utf8(bytes).expect("programs print UTF-8");
    match output.status.success() {
        true => Ok(text(output.stdout)),
        false => Err(text(output.stderr)),
    }
}

pub(crate) fn render_with(program: &str, settings: &[&str]) -> Result<Vec<Value>, String> {
    let text = run(helm(program)
        .args(["template", "mcp-auth-operator", "charts/mcp-auth-operator"])
        .args(["--namespace", "mcp-auth-system"])
        .args(settings.iter().flat_map(|setting| ["--set", setting])))?;
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).expect("the chart renders YAML");
    Ok(objects
        .into_iter()
        .filter(|object| !object.is_null())
        .collect())
}

/// Renders the chart; the error is what helm printed.
pub(crate) fn render(settings: &[&str]) -> Result<Vec<Value>, String> {
    render_with(HELMS[0], settings)
}

pub(crate) fn rendered(settings: &[&str]) -> Vec<Value> {
    render(settings).expect("the chart renders")
}

/// Rendered with the values of a file in the chart's folder `ci`.
pub(crate) fn rendered_from(program: &str, file: &str) -> Vec<Value> {
    let text = run(helm(program)
        .args(["template", "mcp-auth-operator", "charts/mcp-auth-operator"])
        .args(["--namespace", "mcp-auth-system", "--values"])
        .arg(chart().join("ci").join(file)))
    .expect("the chart renders");
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).expect("the chart renders YAML");
    objects
        .into_iter()
        .filter(|object| !object.is_null())
        .collect()
}

pub(crate) fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects
        .iter()
        .filter(|object| object["kind"] == kind)
        .collect()
}

pub(crate) fn only<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let found = of_kind(objects, kind);
    assert_eq!(found.len(), 1, "{kind}");
    found[0]
}

/// The pod of the operator's Deployment.
pub(crate) fn pod(objects: &[Value]) -> &Value {
    &only(objects, "Deployment")["spec"]["template"]["spec"]
}

/// Its container.
pub(crate) fn container(objects: &[Value]) -> &Value {
    &pod(objects)["containers"][0]
}

pub(crate) fn strings(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

pub(crate) fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).expect("it is YAML")
}

pub(crate) fn read(file: &str) -> String {
    std::fs::read_to_string(top().join(file)).expect(file)
}
