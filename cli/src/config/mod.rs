//! The configuration and secret files of the programs outside a cluster.

pub mod layout;
pub mod write;
