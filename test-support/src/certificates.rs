//! A certificate authority of the tests' own, made with `openssl`.

#![expect(clippy::unwrap_used, reason = "a test says so when it fails")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// A CA in a temporary folder, which stays until it is dropped.
pub struct Authority(tempfile::TempDir);

impl Authority {
    /// A new CA.
    pub fn new() -> Self {
        let authority = Self(tempfile::tempdir().unwrap());
        let subject = [
            "-subj",
            "/CN=test CA",
            "-keyout",
            "ca.key",
            "-out",
            "ca.crt",
        ];
        authority.openssl(&[&REQUEST[..], &["-x509", "-days", "2"], &subject].concat());
        authority
    }

    /// The file with its certificate.
    pub fn ca(&self) -> PathBuf {
        self.folder().join("ca.crt")
    }

    /// The files of a certificate for a host name, and of its key.
    pub fn certify(&self, host: &str) -> (PathBuf, PathBuf) {
        let subject = format!("/CN={host}");
        let subject = [
            "-subj",
            &subject,
            "-keyout",
            "server.key",
            "-out",
            "server.csr",
        ];
        self.openssl(&[&REQUEST[..], &subject].concat());
        std::fs::write(
            self.folder().join("names"),
            format!("subjectAltName=DNS:{host}"),
        )
        .unwrap();
        self.openssl(&[
            "x509",
            "-req",
            "-in",
            "server.csr",
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            "names",
            "-out",
            "server.crt",
        ]);
        (
            self.folder().join("server.crt"),
            self.folder().join("server.key"),
        )
    }

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        self.0.path()
    }

    fn openssl(&self, arguments: &[&str]) {
        let output = Command::new("openssl")
            .args(arguments)
            .current_dir(self.folder())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {arguments:?}: {stderr}");
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

const REQUEST: [&str; 6] = [
    "req",
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
    "-nodes",
];
