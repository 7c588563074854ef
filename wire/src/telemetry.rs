//! What is told of a server's work: `telemetry` in its configuration file.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::invalid::Bounds;
use crate::{Invalid, web_url};

/// The length of [`Otlp::endpoint`], in characters.
pub const ENDPOINT_LENGTH: Bounds = Bounds::new(1, 512);
/// What it looks like.
pub const ENDPOINT_PATTERN: &str = concat!(
    "^https?://",
    crate::host_pattern!(),
    crate::port_pattern!(),
    crate::path_pattern!(),
    "$"
);
/// How many headers there are.
pub const HEADER_COUNT: Bounds = Bounds::new(1, 16);
/// The length of one of them, in characters.
const HEADER_LENGTH: Bounds = Bounds::new(3, 8192);

/// What is told of a server's work, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Telemetry {
    /// What is logged, where `RUST_LOG` does not say it.
    pub log_level: LogLevel,
    /// The audit.
    pub audit: Audit,
    /// Where traces go. Absent: there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp: Option<Otlp>,
}

/// What is logged: this level and those above it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What an administrator must look into.
    Error,
    /// What may become an error.
    Warn,
    /// Also refused requests.
    #[default]
    Info,
    /// Also each request.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// The audit: who did what, as JSON lines on standard output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Audit {
    /// Whether it is written.
    pub enabled: bool,
}

impl Default for Audit {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// An OpenTelemetry collector that takes OTLP over HTTP (Protobuf).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Otlp {
    /// Its URL, to which `/v1/traces` is appended.
    pub endpoint: String,
    /// A file with headers for it, see [`parse_headers`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers_file: Option<PathBuf>,
}

impl Telemetry {
    /// Whether it need not be written: a reader that is older does not know it.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Checks what can be judged without the files that it names.
    ///
    /// # Errors
    /// The first thing that is wrong, with its key.
    pub fn check(&self) -> Result<(), Invalid> {
        let Some(otlp) = &self.otlp else {
            return Ok(());
        };
        let (key, endpoint) = ("telemetry.otlp.endpoint", otlp.endpoint.as_str());
        ENDPOINT_LENGTH.text(key, endpoint)?;
        let lowercase = endpoint.starts_with("http://") || endpoint.starts_with("https://");
        match web_url::parse(endpoint) {
            Err(error) => Err(Invalid::new(key, error)),
            Ok(_) if !lowercase => Err(Invalid::new(key, "expected http:// or https://")),
            Ok(_) => Ok(()),
        }
    }
}

/// Reads headers: lines `NAME: VALUE`. Empty lines do not count.
///
/// # Errors
/// The number of the line that is wrong; what is in it may be secret.
pub fn parse_headers(key: &str, text: &str) -> Result<Vec<(String, String)>, Invalid> {
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.trim().is_empty());
    let headers = lines.map(|(index, line)| {
        let header = line
            .split_once(':')
            .map(|(name, value)| (name.trim(), value.trim()));
        let is_right = |(name, value): &(&str, &str)| {
            HEADER_LENGTH.hold(line.len()) && is_name(name) && is_value(value)
        };
        let found = header.filter(is_right).ok_or_else(|| {
            let text = format!("line {}: expected NAME: VALUE in ASCII", index + 1);
            Invalid::new(key, text)
        })?;
        Ok((found.0.to_ascii_lowercase(), found.1.to_owned()))
    });
    let headers: Vec<_> = headers.collect::<Result<_, Invalid>>()?;
    HEADER_COUNT.list(key, &headers)?;
    Ok(headers)
}

/// A token of RFC 9110, section 5.6.2.
fn is_name(name: &str) -> bool {
    let is_part = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !name.is_empty() && name.bytes().all(is_part)
}

fn is_value(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|b| b == b' ' || b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_url_without_secrets() {
        let check = |endpoint: &str| {
            let otlp = Otlp {
                endpoint: endpoint.into(),
                headers_file: None,
            };
            let telemetry = Telemetry {
                otlp: Some(otlp),
                ..Telemetry::default()
            };
            telemetry.check()
        };
        for good in [
            "http://collector.telemetry.svc:4318",
            "https://otlp.example.com/otlp/",
            "http://[::1]:4318",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "collector:4318",
            "grpc://collector:4317",
            "HTTPS://otlp.example.com",
            "https://user:password@otlp.example.com",
            "https://otlp.example.com/?key=secret",
            "https://otlp.example.com/../x",
        ] {
            let error = check(bad).unwrap_err().to_string();
            assert!(
                error.starts_with("telemetry.otlp.endpoint: "),
                "{bad}: {error}"
            );
        }
    }

    #[test]
    fn headers_are_lines_and_a_fault_does_not_show_them() {
        let text = "Authorization: Bearer hunter2\n\nx-scope: a b : c\r\n";
        let headers = parse_headers("k", text).unwrap();
        let expected = [("authorization", "Bearer hunter2"), ("x-scope", "a b : c")];
        assert_eq!(headers, expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
        for (bad, message) in [
            ("", "k: expected 1 to 16 entries, not 0"),
            ("x: y\nhunter2", "k: line 2: expected NAME: VALUE in ASCII"),
            ("a b: hunter2", "k: line 1: expected NAME: VALUE in ASCII"),
            (
                "a: hunter2\u{e9}",
                "k: line 1: expected NAME: VALUE in ASCII",
            ),
            ("a:", "k: line 1: expected NAME: VALUE in ASCII"),
            (&"a: b\n".repeat(17), "k: expected 1 to 16 entries, not 17"),
        ] {
            assert_eq!(parse_headers("k", bad).unwrap_err().to_string(), message);
        }
    }
}
