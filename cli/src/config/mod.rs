//! The programs' configuration and secret files, for use outside a cluster.

pub mod layout;
pub mod write;
