//! `telemetry`: log, audit and traces of a server.

use kube::KubeSchema;
use mcpauth_wire::telemetry::{ENDPOINT_LENGTH, ENDPOINT_PATTERN};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{refs::HeadersSecretRef, rules};

/// Log, audit and traces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Telemetry {
    /// How much is logged, on standard error.
    #[serde(default)]
    pub log_level: LogLevel,
    /// The audit: who did what, as JSON lines on standard output.
    #[serde(default)]
    pub audit: Audit,
    /// Where traces are sent. When omitted, there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub otlp: Option<Otlp>,
}

/// How much is logged: this level and those above it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What an administrator must look into.
    Error,
    /// What may become an error.
    Warn,
    /// Also refused requests.
    #[default]
    Info,
    /// Also every request.
    Debug,
    /// Everything.
    Trace,
}

/// The audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Audit {
    /// Whether it is written.
    #[serde(default = "yes")]
    pub enabled: bool,
}

impl Default for Audit {
    fn default() -> Self {
        Self { enabled: yes() }
    }
}

fn yes() -> bool {
    true
}

/// An OpenTelemetry collector that accepts OTLP over HTTP (Protobuf).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Otlp {
    /// URL of the collector, such as `http://collector.telemetry.svc:4318`. `/v1/traces` is appended.
    #[schemars(length(min = ENDPOINT_LENGTH.least, max = ENDPOINT_LENGTH.most), regex(pattern = ENDPOINT_PATTERN))]
    #[x_kube(validation = rules::no_dot_segments("endpoint"))]
    pub endpoint: String,
    /// Headers of the requests to it, such as an API key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers_secret_ref: Option<HeadersSecretRef>,
}
