//! `kubectl mcpauth`, a kubectl plugin to work with the operator's resources from a terminal.
//!
//! [`local`] runs manifests as processes on this machine, [`render`] writes the configuration files for
//! running the programs without a cluster. Both read the same manifests as a cluster.

pub mod config;
pub mod local;
pub mod manifests;
pub mod render;
