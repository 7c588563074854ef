//! The OpenTelemetry collector (`scripts/go/otel-collector`), as a process.
#![expect(clippy::unwrap_used, reason = "a test says so when it fails")]

use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Process, free_ports};

/// A collector that takes OTLP over HTTP, and keeps what comes.
#[derive(Debug)]
pub struct Collector {
    /// Its URL.
    pub endpoint: String,
    files: TempDir,
    _process: Process,
}

impl Default for Collector {
    fn default() -> Self {
        let [port] = free_ports();
        let files = tempfile::tempdir().unwrap();
        let received = files.path().join("received");
        let config = serde_json::json!({
            "receivers": { "otlp": { "protocols": { "http": { "endpoint": format!("127.0.0.1:{port}") } } } },
            "exporters": { "lines": { "path": received } },
            "service": {
                "telemetry": { "metrics": { "level": "none" } },
                "pipelines": { "traces": { "receivers": ["otlp"], "exporters": ["lines"] } },
            },
        });
        let path = files.path().join("config.yaml");
        std::fs::write(&path, config.to_string()).unwrap();
        let mut command = Command::new("otel-collector");
        command
            .arg("--config")
            .arg(format!("file:{}", path.display()));
        let process = Process::logging(&mut command, &files.path().join("log"));
        Self {
            endpoint: format!("http://127.0.0.1:{port}"),
            files,
            _process: process,
        }
    }
}

impl Collector {
    /// What has come, as OTLP in JSON: a line for each batch.
    #[must_use]
    pub fn received(&self) -> String {
        std::fs::read_to_string(self.files.path().join("received")).unwrap_or_default()
    }

    /// The spans that have come.
    #[must_use]
    pub fn spans(&self) -> Vec<Value> {
        let received = self.received();
        // The last line may be under way.
        let batches = received
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        let of = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or_default();
        batches
            .flat_map(|batch: Value| of(&batch, "resourceSpans"))
            .flat_map(|resource| of(&resource, "scopeSpans"))
            .flat_map(|scope| of(&scope, "spans"))
            .collect()
    }
}
