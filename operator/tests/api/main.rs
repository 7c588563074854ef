//! The operator against a real API server.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says so when it fails"
)]

mod support;

mod all_namespaces;
mod auth_server;
mod configuration;
mod crds;
mod database;
mod database_pod;
mod external;
mod installations;
mod internal_tls;
mod leader;
mod memory;
mod namespaces;
mod oauth_client;
mod pods;
mod protected_server;
mod proxy_keys;
mod scale;
mod secrets;
mod status;
mod trouble;
mod truth;
mod upgrades;
mod user_ids;
mod values;
