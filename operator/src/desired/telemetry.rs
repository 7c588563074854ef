//! Converts `spec.telemetry`.

use mcpauth_api::refs::HeadersSecretRef;
use mcpauth_api::telemetry as api;
use mcpauth_wire::telemetry::{Audit, LogLevel, Otlp, Telemetry};

/// The file with the headers for the OpenTelemetry collector, in the folder where they are mounted.
pub const HEADERS_FILE: &str = "headers";

/// What is told of a server's work. The headers are in `headers_file`, if the spec wants any.
#[must_use]
pub fn telemetry(spec: &api::Telemetry, headers_file: String) -> Telemetry {
    let otlp = |spec: &api::Otlp| Otlp {
        endpoint: spec.endpoint.clone(),
        headers_file: spec
            .headers_secret_ref
            .as_ref()
            .map(|_| headers_file.into()),
    };
    Telemetry {
        log_level: match spec.log_level {
            api::LogLevel::Error => LogLevel::Error,
            api::LogLevel::Warn => LogLevel::Warn,
            api::LogLevel::Info => LogLevel::Info,
            api::LogLevel::Debug => LogLevel::Debug,
            api::LogLevel::Trace => LogLevel::Trace,
        },
        audit: Audit {
            enabled: spec.audit.enabled,
        },
        otlp: spec.otlp.as_ref().map(otlp),
    }
}

/// The Secret with the headers for the OpenTelemetry collector, if it needs any.
#[must_use]
pub fn otlp_headers(spec: &api::Telemetry) -> Option<&HeadersSecretRef> {
    spec.otlp.as_ref()?.headers_secret_ref.as_ref()
}
