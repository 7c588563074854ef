//! What a proxy answers on its health port besides the probes.

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

/// The path of [`InForce`]: which configuration the proxy runs.
pub const CONFIGURATION: &str = "/configuration";
/// The path that is answered once the proxy has drained: the preStop hook of the MCP server behind it.
pub const DRAINED: &str = "/drained";
/// The longest reason of a rejection, in bytes.
pub const REASON: usize = 512;

/// The answer to a GET of [`CONFIGURATION`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InForce {
    /// The [`hash`] of the configuration that requests are judged by.
    pub hash: String,
    /// A newer version of the file that cannot be used, so that the one in force stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<Rejected>,
}

/// A version of the file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rejected {
    /// Its [`hash`]; absent if the file cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// What is wrong with it, on one line of at most [`REASON`] bytes.
    pub reason: String,
}

/// The hash of a configuration file: SHA-256 of its text, in hexadecimal.
#[must_use]
pub fn hash(text: &str) -> String {
    let digest = digest(&SHA256, text.as_bytes());
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_what_sha256sum_prints() {
        let expected = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        assert_eq!(hash("hello"), expected);
    }

    #[test]
    fn a_newer_proxy_may_say_more() {
        let json = r#"{"hash":"a","rejected":{"reason":"b","line":3},"since":1}"#;
        let read: InForce = serde_json::from_str(json).unwrap();
        assert_eq!(read.rejected.unwrap().reason, "b");
    }
}
