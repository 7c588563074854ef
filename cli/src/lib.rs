//! `kubectl mcpauth`, a plugin of kubectl: what people do with the operator's resources from a terminal.
//!
//! [`local`] runs manifests as processes on this machine, [`render`] writes the configuration files for
//! running the programs some other way. Both read the same manifests as a cluster.

pub mod config;
pub mod local;
pub mod manifests;
pub mod render;
