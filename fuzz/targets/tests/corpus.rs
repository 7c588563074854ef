//! Replays `fuzz/corpus/`: seeds, and whatever `make fuzz` has found.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says so when it fails"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use mcpauth_fuzz_targets::TARGETS;

fn fuzz() -> PathBuf {
    PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("..")
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries =
        std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn stems(folder: &str) -> BTreeSet<String> {
    let stem = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    entries(&fuzz().join(folder))
        .into_iter()
        .map(stem)
        .collect()
}

#[test]
fn each_target_has_a_binary_and_a_corpus() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(stems("fuzz_targets"), targets);
    assert_eq!(stems("corpus"), targets);
}

#[test]
fn the_corpus_passes() {
    for (name, target) in TARGETS {
        let files = entries(&fuzz().join("corpus").join(name));
        assert!(!files.is_empty(), "no seed for {name}");
        for file in files {
            // Shown when the target panics.
            println!("{}", file.display());
            target(&std::fs::read(&file).unwrap());
        }
    }
}

#[test]
fn the_seeds_are_accepted() {
    let seed = |name: &str| std::fs::read(fuzz().join("corpus").join(name)).unwrap();
    let text = |name: &str| String::from_utf8(seed(name)).unwrap();
    mcpauth_wire::AuthServerConfig::parse(&text("authserver_config/full.yaml")).unwrap();
    mcpauth_wire::ProxyConfig::parse(&text("proxy_config/full.yaml")).unwrap();
    mcp_resource_proxy::mcp::message::Messages::read(&seed("message/tools_call.json")).unwrap();
    assert!(mcp_authserver::oauth::token::Token::parse(&text("token/access")).is_some());
}
